r"""What the tokens of a generation are drawn from, under the two latent schemes.

Fresh: the token at t + 1 has the law :math:`q(y \mid s_{\le t}) = E_{z_1..z_t} p(y \mid g(e(s), z))` with latents of
its own, so a sequence has the law :math:`\prod_t q(y_{t+1} \mid y_{\le t})`, and the whole prefix is read again for
every token. Shared: position j has one latent for the rest of the generation, and a generated sequence has the law
:math:`E_z \prod_t p(y_{t+1} \mid g(e(s), z)_{\le t})`. A cache of keys and values then serves, and a token costs one
position. Both laws agree on the first token; later ones depend on each other through the latents in the second only.
The latents of a prompt are drawn from their law: a prompt is given, not generated, and tells nothing about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from eeqs.llm.huggingface.backend import HuggingFaceBackend
from eeqs.llm.latents import row_generator
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.positions import real_positions

__all__ = ["Continuation", "FreshDraw", "SharedLatents"]


class Continuation(Protocol):
    """State of one call of ``generate``."""

    def next_token(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Log-probabilities (B, V) of the token after tokens (B, T), padded on the left."""
        ...


class FreshDraw:
    """The kernel at one new draw of all latents of the prefix; a token sampled from it has the mixture's law.

    Parameters
    ----------
    model : PerturbedLM
    generator : torch.Generator
    """

    def __init__(self, model: PerturbedLM, generator: torch.Generator) -> None:
        self._model, self._generator = model, generator

    @torch.no_grad()
    def next_token(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Log-probabilities (B, V) given the draw."""
        real = real_positions(input_ids, attention_mask, self._model.vocab_size)
        z = _latents(self._model, 1, real, self._generator)
        hidden = self._model.hidden(input_ids, z, real)[0, :, -1]
        return _log_softmax(self._model.backend.logits(hidden))


class SharedLatents:
    r"""One latent a position for a whole generation, and the keys and values of the positions read so far.

    Parameters
    ----------
    model : PerturbedLM
        Of a `HuggingFaceBackend`.
    draws : int
        Sequences of latents a row: one to sample from; M to approximate the law of the next token given those
        generated so far,
        :math:`\sum_m w_m p(y \mid z^{(m)})` with :math:`w_m \propto \prod_s p(y_s \mid z^{(m)})` over generated tokens.
    generator : torch.Generator, optional
        By default the latents of a row are a function of the model's seed and the prompt.

    Notes
    -----
    The weights :math:`w_m` are those of sequential importance sampling: exact as M grows, and for long generations
    concentrated on few of the M.
    """

    def __init__(self, model: PerturbedLM, draws: int, generator: torch.Generator | None = None) -> None:
        if not isinstance(model.backend, HuggingFaceBackend):
            raise TypeError(f"backend is a {type(model.backend).__name__}; a cache needs a HuggingFaceBackend.")
        self._model, self._backend, self._draws = model, model.backend, draws
        self._cache = self._backend.empty_cache()
        self._streams: torch.Generator | Sequence[torch.Generator] | None = generator
        self._z: Tensor | None = None
        self._last: Tensor | None = None
        self._log_weight: Tensor | None = None

    @torch.no_grad()
    def next_token(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Log-probabilities (B, V); from the second call on, of rows that have one more token than at the last.

        Raises
        ------
        ValueError
            If they do not: a search that goes back needs latents that are not shared.
        """
        real = real_positions(input_ids, attention_mask, self._model.vocab_size)
        seen = 0 if self._z is None else self._z.shape[2]
        if self._last is None or self._log_weight is None:
            self._streams = self._streams or self._streams_of_rows(input_ids, real)
            self._log_weight = torch.zeros(self._draws, len(input_ids), device=input_ids.device)
        elif input_ids.shape != (rows := self._last.shape[1], seen + 1):
            raise ValueError(
                f"tokens of shape {tuple(input_ids.shape)} after {seen} positions of {rows} rows: shared "
                'latents continue the rows one token at a time; use latent="fresh" for a search that does not.'
            )
        else:
            chosen = input_ids[:, -1:].expand(self._draws, -1, -1)
            self._log_weight += self._last.gather(-1, chosen)[..., 0]
        self._last = _log_softmax(self._read(input_ids, real, seen))
        return (self._last + self._log_weight.log_softmax(dim=0)[..., None]).logsumexp(dim=0)

    def _read(self, input_ids: Tensor, real: Tensor, seen: int) -> Tensor:
        """Logits (M, B, V) after the positions that were not seen, whose latents are drawn now."""
        model, copies = self._model, self._draws
        new = _latents(model, copies, real[:, seen:], self._streams)
        self._z = new if self._z is None else torch.cat([self._z, new], dim=2)
        if getattr(model.perturbation, "sequence", False):
            if not bool(real.all()):
                raise ValueError(
                    f"{type(model.perturbation).__name__} reads all earlier positions, also padding; pass prompts of "
                    "equal length, or build it with sequence=False."
                )
            perturbed = model.perturbed(self._backend.embed(input_ids), self._z)[:, :, seen:]
        else:
            perturbed = model.perturbed(self._backend.embed(input_ids[:, seen:]), new)
        places = (real.long().cumsum(dim=1) - 1).clamp(min=0)[:, seen:]
        logits = self._backend.extend(
            perturbed.flatten(0, 1), self._cache, real.long().repeat(copies, 1), places.repeat(copies, 1)
        )
        return logits.unflatten(0, (copies, -1))

    def _streams_of_rows(self, input_ids: Tensor, real: Tensor) -> list[torch.Generator]:
        # Offset, so that prompts do not share draws with training or scoring.
        return [
            row_generator(tokens[kept], self._model.seed, 2**41, input_ids.device)
            for tokens, kept in zip(input_ids, real, strict=True)
        ]


def _latents(
    model: PerturbedLM, draws: int, real: Tensor, streams: torch.Generator | Sequence[torch.Generator] | None
) -> Tensor:
    """Latents (M, B, T, q), zero at padding: from one stream, or from one a row, which padding does not touch."""
    law, dim, dtype, device = (
        model.perturbation.latent_law,
        model.perturbation.latent_dim,
        model.latent_dtype,
        real.device,
    )
    if isinstance(streams, torch.Generator):
        return law.sample((draws, *real.shape, dim), streams, dtype, device) * real[..., None]
    z = torch.zeros(draws, *real.shape, dim, dtype=dtype, device=device)
    for row, (kept, stream) in enumerate(zip(real, streams or (), strict=True)):
        z[:, row, kept] = law.sample((draws, int(kept.sum()), dim), stream, dtype, device)
    return z


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
