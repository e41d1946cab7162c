"""The most probable token after token, from any language model, perturbed or not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eeqs.llm.language_model import LanguageModel

__all__ = ["greedy"]


@torch.no_grad()
def greedy(
    model: LanguageModel, prompts: Sequence[Tensor], *, stop: int, longest: int, batch_size: int = 64, step: int = 0
) -> list[Tensor]:
    """Continue prompts by the most probable next token of the predictive law, the mixture mean of a perturbed model.

    Parameters
    ----------
    model : LanguageModel
        A torch module decodes in evaluation mode and is left in the mode it had.
    prompts : sequence of Tensor
        Tokens (T,) of every prompt, on the device of the model. Prompts of one length go through it together, so that
        none is padded.
    stop : int
        Token that ends a continuation and is not part of it.
    longest : int
        Tokens of a continuation, at most, with ``stop``; one that has not ended by then is cut to it.
    batch_size : int
    step : int
        Another number gives other draws of the perturbation. A sequence has its own, and new ones as it grows.

    Returns
    -------
    list of Tensor
        Continuations without their prompts, in the order of the prompts.

    Raises
    ------
    ValueError
        An option is not positive, or a prompt is no sequence of tokens.
    """
    if longest < 1 or batch_size < 1:
        raise ValueError(f"longest is {longest}, batch_size {batch_size}; both are at least 1.")
    places: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        if prompt.ndim != 1 or not len(prompt):
            raise ValueError(f"prompt {place} has shape {tuple(prompt.shape)}; pass at least one token, (T,).")
        places.setdefault(len(prompt), []).append(place)
    training = bool(getattr(model, "training", False))
    if isinstance(model, torch.nn.Module):
        model.eval()
    found: dict[int, Tensor] = {}
    try:
        for of_one_length in places.values():
            for start in range(0, len(of_one_length), batch_size):
                batch = of_one_length[start : start + batch_size]
                ended = _continued(model, torch.stack([prompts[place] for place in batch]), stop, longest, step)
                found.update(zip(batch, ended, strict=True))
    finally:
        if isinstance(model, torch.nn.Module):
            model.train(training)
    return [found[place] for place in range(len(prompts))]


def _continued(model: LanguageModel, prompts: Tensor, stop: int, longest: int, step: int) -> list[Tensor]:
    """Continue prompts (B, T); a row that has ended leaves the batch."""
    start, tokens = prompts.shape[1], prompts
    active = torch.arange(len(prompts), device=prompts.device)
    done: dict[int, Tensor] = {}
    for _ in range(longest):
        best = model.log_probabilities(tokens, step=step)[:, -1].argmax(dim=-1)
        going = best != stop
        done.update(zip(active[~going].tolist(), tokens[~going, start:], strict=True))
        active, tokens = active[going], torch.cat([tokens[going], best[going, None]], dim=1)
        if not len(active):
            break
    done.update(zip(active.tolist(), tokens[:, start:], strict=True))
    return [done[place] for place in range(len(prompts))]
