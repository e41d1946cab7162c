r"""A causal language model with a perturbed prefix, :math:`q(y_t \mid s) = E_z\, p(y_t \mid g(e(s), z))`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from eeqs.llm.backend import Backend
from eeqs.llm.latents import row_latents
from eeqs.llm.surrogate import surrogate_sum
from eeqs.marginal.draws import Draws, as_draws, iid
from eeqs.marginal.protocols import Perturbation
from eeqs.marginal.scores import Score, cross_fitted

__all__ = ["IGNORED", "PerturbedLM"]

IGNORED = -100
"""Label of a position that is not predicted, as everywhere in PyTorch."""


class PerturbedLM(nn.Module):
    r"""A causal language model whose embedded prefix is perturbed by a learnable map of a latent.

    One causal pass of a perturbed sequence gives :math:`l_k(y_t)` for every position t, because the perturbation at
    position j depends on tokens up to j and on its own latent only. Training takes K such passes in one batch.

    Parameters
    ----------
    backend : Backend
        The language model, a torch module.
    perturbation : Perturbation
        A map of embeddings and latents, a torch module; computed in float32 or better.
    score : Score
        Surrogate loss to train by; `eeqs.marginal.scores`.
    draws : int or Draws
        Draws a position in training.
    inference_draws : int
        Draws of the mixture mean in prediction.
    seed : int
        Of the latents; see `eeqs.llm.latents.row_latents`.
    chunk : int
        Positions whose logits exist at a time in training.

    Raises
    ------
    TypeError
        If a part is not a module with the attributes of its protocol.
    ValueError
        If the dimensions differ, or an option is out of range.
    """

    def __init__(
        self,
        backend: Backend,
        perturbation: Perturbation,
        score: Score = cross_fitted,
        *,
        draws: int | Draws = 4,
        inference_draws: int = 16,
        seed: int = 0,
        chunk: int = 256,
    ) -> None:
        super().__init__()
        _check_parts(backend, perturbation)
        score.check_draws(as_draws(draws))
        if inference_draws < 1 or chunk < 1 or seed < 0:
            raise ValueError(
                f"inference_draws is {inference_draws}, chunk {chunk}, seed {seed}: pass 1, 1 and 0 or more."
            )
        self.backend, self.perturbation, self.score = backend, perturbation, score
        self.draws, self.inference_draws = as_draws(draws), inference_draws
        self.seed, self.chunk = seed, chunk
        # Counts the training batches, so that each has draws of its own, also after a resumption.
        self.step = nn.Buffer(torch.zeros((), dtype=torch.long))

    @property
    def vocab_size(self) -> int:
        """Number of tokens V."""
        return self.backend.vocab_size

    def loss(
        self,
        input_ids: Tensor,
        labels: Tensor,
        *,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        total: float | Tensor | None = None,
        score: Score | None = None,
        draws: Draws | None = None,
    ) -> Tensor:
        """Surrogate loss of predicting ``labels[:, t + 1]`` from the perturbed tokens up to t.

        Parameters
        ----------
        input_ids, labels : Tensor of shape (B, T)
            Tokens, and the tokens to predict, `IGNORED` where none is.
        attention_mask : Tensor of shape (B, T), optional
            1 at tokens and 0 at padding.
        segment_ids : Tensor of shape (B, T), optional
            Number of the document a token belongs to, in rows that hold several; a token sees its own only.
        total : float or Tensor, optional
            What to divide the sum by; the number of predicted tokens by default.
        score : Score, optional
            In place of the model's own, as when two equations share a model.
        draws : Draws, optional
            In place of the model's own.

        Returns
        -------
        Tensor of shape ()

        Raises
        ------
        ValueError
            If shapes differ, or no token is predicted.
        """
        score, draws = score or self.score, draws or self.draws
        score.check_draws(draws)
        real = _real(input_ids, attention_mask)
        targets = _targets(labels, real, segment_ids)
        z = self._latents(input_ids, real, draws, int(self.step), segment_ids)
        if self.training:
            self.step.add_(1)
        hidden = self._hidden(input_ids, z, real, segment_ids)[:, :, :-1]
        kept = targets != IGNORED
        summed = surrogate_sum(self.backend.logits, hidden[:, kept], targets[kept], score, draws, chunk=self.chunk)
        return summed / (kept.sum() if total is None else total)

    @torch.no_grad()
    def log_probabilities(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        draws: int | None = None,
        step: int = 0,
    ) -> Tensor:
        r"""Log of the mixture mean, :math:`\log \frac1M \sum_k p_k(v)`, at every position.

        Parameters
        ----------
        input_ids, attention_mask, segment_ids
            As in `loss`.
        draws : int, optional
            M; ``inference_draws`` by default.
        step : int
            Another number gives other draws.

        Returns
        -------
        Tensor of shape (B, T, V)
            float32 or better; position t predicts token t + 1.
        """
        real = _real(input_ids, attention_mask)
        design = iid(draws or self.inference_draws)
        # Offset, so that evaluation does not share its draws with a training batch.
        z = self._latents(input_ids, real, design, 2**40 + step, segment_ids)
        summed: Tensor | None = None
        for one in z:  # one draw at a time: the logits of a whole batch are large
            logits = self.backend.logits(self._hidden(input_ids, one[None], real, segment_ids)[0])
            log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
            summed = log_p if summed is None else torch.logaddexp(summed, log_p)
        assert summed is not None  # noqa: S101 - a design has at least one draw
        return summed - math.log(len(design))

    def _latents(self, input_ids: Tensor, real: Tensor, draws: Draws, step: int, segment_ids: Tensor | None) -> Tensor:
        law, dim = self.perturbation.latent_law, self.perturbation.latent_dim
        return row_latents(
            input_ids,
            real,
            draws,
            dim,
            law,
            seed=self.seed,
            step=step,
            dtype=self._dtype(),
            segment_ids=segment_ids,
        )

    def _dtype(self) -> torch.dtype:
        """Precision of the perturbation: its parameters', or float32 where it has none."""
        found = next((p.dtype for p in self.perturbation.parameters()), torch.float32)  # type: ignore[attr-defined]
        return torch.promote_types(found, torch.float32)

    def _hidden(self, input_ids: Tensor, z: Tensor, real: Tensor, segment_ids: Tensor | None) -> Tensor:
        """Hidden states (K, B, T, h) of latents (K, B, T, q)."""
        visible, positions = _visible(real, segment_ids)
        if visible is not None and getattr(self.perturbation, "sequence", False):
            raise ValueError(
                f"{type(self.perturbation).__name__} reads all earlier positions, also padding and those of other "
                "documents in the row; put one document in a row with padding on the right, or build it with "
                "sequence=False."
            )
        embedded = self.backend.embed(input_ids)
        perturbed = self.perturbation(embedded.to(z.dtype), z).to(embedded.dtype)
        copies = len(z)
        states = self.backend.hidden(
            perturbed.flatten(0, 1),
            None if visible is None else visible.repeat(copies, 1, 1),
            None if positions is None else positions.repeat(copies, 1),
        )
        return states.unflatten(0, (copies, -1))


def _check_parts(backend: Backend, perturbation: Perturbation) -> None:
    for name, part, protocol in (("backend", backend, Backend), ("perturbation", perturbation, Perturbation)):
        if not (isinstance(part, nn.Module) and isinstance(part, protocol)):
            raise TypeError(f"{name} is a {type(part).__name__}; pass a torch module with the members of {protocol}.")
    if backend.dim != perturbation.dim:
        raise ValueError(
            f"the embeddings have dimension {backend.dim}, the perturbation {perturbation.dim}; build the perturbation "
            f"with dim={backend.dim}."
        )


def _real(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    if input_ids.ndim != 2 or input_ids.is_floating_point():
        raise ValueError(f"input_ids are {input_ids.dtype} of shape {tuple(input_ids.shape)}; pass integers (B, T).")
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, input_ids {tuple(input_ids.shape)}; they agree."
        )
    return attention_mask.bool()


def _targets(labels: Tensor, real: Tensor, segment_ids: Tensor | None) -> Tensor:
    """Next tokens (B, T - 1), `IGNORED` at padding and at the first token of a document."""
    if labels.shape != real.shape:
        raise ValueError(f"labels have shape {tuple(labels.shape)}, input_ids {tuple(real.shape)}; they agree.")
    inside = real[:, 1:] & real[:, :-1]
    if segment_ids is not None:
        inside = inside & (segment_ids[:, 1:] == segment_ids[:, :-1])
    targets = labels[:, 1:].masked_fill(~inside, IGNORED)
    if not bool((targets != IGNORED).any()):
        raise ValueError("no token is predicted: every label is ignored, or every document has one token only.")
    return targets


def _one_document(real: Tensor, segment_ids: Tensor | None) -> bool:
    """Whether no row holds more than one document."""
    if segment_ids is None:
        return True
    one_and_the_same = segment_ids == segment_ids.masked_fill(~real, -1).amax(dim=1, keepdim=True)
    return bool((one_and_the_same | ~real).all())


def _visible(real: Tensor, segment_ids: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Which positions see which, and their place in their document; None for both where plain causal order says all."""
    padded_on_the_right = bool((real[:, :-1] | ~real[:, 1:]).all())
    if padded_on_the_right and _one_document(real, segment_ids):
        return None, None
    length = real.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=real.device).tril()
    visible = causal & real[:, None, :]
    starts = real & ~torch.nn.functional.pad(real, (1, 0))[:, :-1]
    if segment_ids is not None:
        visible = visible & (segment_ids[:, :, None] == segment_ids[:, None, :])
        changes = torch.nn.functional.pad(segment_ids[:, 1:] != segment_ids[:, :-1], (1, 0), value=True)
        starts = starts | (changes & real)
    # A padded position sees itself, for a row of the softmax needs an entry.
    visible = visible | torch.eye(length, dtype=torch.bool, device=real.device)
    index = torch.arange(length, device=real.device).expand_as(real)
    origin = torch.where(starts, index, 0).cummax(dim=1).values
    return visible, (index - origin).clamp(min=0)
