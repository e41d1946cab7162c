r"""Sampling from the marginal law of a perturbed language model, with a fresh latent for every token.

To draw a token of :math:`q(y \mid s) = E_z\, p(y \mid g(e(s), z))`, draw z for the whole prefix, and then y given z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.llm.perturbed import PerturbedLM
from eeqs.marginal.draws import iid

__all__ = ["Sampling", "generate", "keep_top_p"]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Parameters
    ----------
    length : int
        Tokens of a continuation, at most.
    temperature : float
        Probabilities are raised to its inverse; 0 takes the most probable token.
    top_p : float
        Draw among the most probable tokens that together have this probability (Holtzman et al. 2020).
    stop : int, optional
        Token that ends a continuation, of which it is not part.
    draws : int
        Latents a token, over which probabilities are averaged before temperature and ``top_p``. One is enough for
        the marginal law itself; with another temperature or ``top_p`` it distorts the law given a latent, and a larger
        number the mixture.

    Raises
    ------
    ValueError
        An option is out of range.
    """

    length: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: int | None = None
    draws: int = 1

    def __post_init__(self) -> None:
        if self.length < 1 or self.draws < 1:
            raise ValueError(f"length is {self.length}, draws {self.draws}; both are at least 1.")
        if not (self.temperature >= 0 and 0 < self.top_p <= 1):
            raise ValueError(f"temperature is {self.temperature}, top_p {self.top_p}; pass 0 or more, and (0, 1].")


@torch.no_grad()
def generate(
    model: PerturbedLM, prompts: Sequence[Tensor], sampling: Sampling, *, seed: int = 0, batch_size: int = 16
) -> list[Tensor]:
    """Continue prompts.

    Parameters
    ----------
    model : PerturbedLM
        Run in evaluation mode and left in the mode it had.
    prompts : sequence of Tensor
        Tokens (T,) of every prompt, on the device of the model. Prompts of one length go through it together.
    sampling : Sampling
    seed : int
        Prompt i has a stream of its own, a function of (seed, i), whatever batch it is in.
    batch_size : int

    Returns
    -------
    list of Tensor
        Continuations without their prompts, in the order of the prompts.

    Raises
    ------
    DataError
        A prompt is empty, or a next-token law is not finite.
    ValueError
        From the back-end: prompt and continuation are longer than it takes.
    """
    for place, prompt in enumerate(prompts):
        if prompt.ndim != 1 or not len(prompt):
            raise DataError(f"prompt {place} has shape {tuple(prompt.shape)}; pass at least one token, (T,).")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a batch has at least one prompt.")
    by_length: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(place)
    found: dict[int, Tensor] = {}
    training = model.training
    model.eval()
    try:
        for places in by_length.values():
            for start in range(0, len(places), batch_size):
                batch = places[start : start + batch_size]
                streams = [_stream(seed, place) for place in batch]
                texts = _continue(model, torch.stack([prompts[i] for i in batch]), streams, sampling)
                found.update(zip(batch, texts, strict=True))
    finally:
        model.train(training)
    return [found[place] for place in range(len(prompts))]


def keep_top_p(probabilities: Tensor, top_p: float) -> Tensor:
    """Set to zero all but the fewest most probable tokens that together have ``top_p``; (..., V), not normalised."""
    ordered, index = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.where(before < top_p * ordered.sum(dim=-1, keepdim=True), ordered, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, index, kept)


def _continue(model: PerturbedLM, prompts: Tensor, streams: list[torch.Generator], sampling: Sampling) -> list[Tensor]:
    """Continue prompts (B, T); a text that has stopped leaves the batch."""
    start, tokens = prompts.shape[1], prompts
    active, done = list(range(len(prompts))), {}
    for _ in range(sampling.length):
        law = _next_law(model, tokens, [streams[i] for i in active], sampling.draws)
        drawn = torch.stack([_draw(law[row], streams[i], sampling) for row, i in enumerate(active)])
        ended = drawn == sampling.stop if sampling.stop is not None else torch.zeros_like(drawn, dtype=torch.bool)
        done.update({active[row]: tokens[row, start:] for row in ended.nonzero()[:, 0].tolist()})
        going = (~ended).to(tokens.device)
        active = [i for i, end in zip(active, ended.tolist(), strict=True) if not end]
        tokens = torch.cat([tokens[going], drawn[~ended].to(tokens)[:, None]], dim=1)
        if not active:
            break
    done.update({i: tokens[row, start:] for row, i in enumerate(active)})
    return [done[i] for i in range(len(prompts))]


def _next_law(model: PerturbedLM, tokens: Tensor, streams: list[torch.Generator], draws: int) -> Tensor:
    """Probabilities (B, V) of the next token, averaged over fresh latents, float64 on the CPU."""
    perturbation, length = model.perturbation, tokens.shape[1]
    embedded = model.backend.embed(tokens)
    dtype = torch.promote_types(embedded.dtype, torch.float32)
    z = torch.stack(
        [
            iid(draws).sample(length, perturbation.latent_dim, stream, law=perturbation.latent_law, dtype=dtype)
            for stream in streams
        ]
    )  # (B, T, K, q)
    z = z.movedim(2, 0).to(embedded.device)
    perturbed = perturbation(embedded.to(dtype), z).to(embedded.dtype)
    states = model.backend.hidden(perturbed.flatten(0, 1), None, None)[:, -1]
    law = model.backend.logits(states).double().softmax(dim=-1).unflatten(0, (draws, -1)).mean(dim=0).cpu()
    if not bool(law.isfinite().all()):
        raise DataError("the law of the next token is not finite; check the weights and the scale of the perturbation.")
    return law


def _draw(law: Tensor, stream: torch.Generator, sampling: Sampling) -> Tensor:
    if sampling.temperature == 0:
        return law.argmax()
    log_law = law.log() / sampling.temperature
    kept = keep_top_p((log_law - log_law.max()).exp(), sampling.top_p)
    return torch.multinomial(kept, 1, generator=stream)[0]


def _stream(seed: int, place: int) -> torch.Generator:
    word = np.random.SeedSequence(seed, spawn_key=(place,)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word) >> 1)
