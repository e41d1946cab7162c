r"""A causal language model with a perturbed prefix, :math:`q(y_t \mid s) = E_z\, p(y_t \mid g(e(s), z))`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from eeqs.llm.backend import Backend
from eeqs.llm.latents import row_latents
from eeqs.llm.positions import IGNORED, next_tokens, real_positions, visible_positions
from eeqs.llm.surrogate import surrogate_sum
from eeqs.marginal.draws import Draws, as_draws, iid
from eeqs.marginal.protocols import Perturbation
from eeqs.marginal.scores import Score, cross_fitted

__all__ = ["IGNORED", "PerturbedLM"]

# Positions of all draws whose logits prediction holds together, and that go through the layers in one pass: more of
# them leave the caches of a CPU, and keep a GPU no busier.
_LOGITS_AT_ONCE, _PASS = 512, 4096


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

    @torch.compiler.disable(recursive=False)  # the perturbation and the layers, called from here, are compiled
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
            If shapes differ, a token is none of the model's, or no token is predicted.
        """
        score, draws = score or self.score, draws or self.draws
        score.check_draws(draws)
        real = real_positions(input_ids, attention_mask, self.vocab_size)
        targets = next_tokens(labels, real, segment_ids, self.vocab_size).flatten()
        z = self._latents(input_ids, real, draws, int(self.step), segment_ids)
        if self.training:
            self.step.add_(1)
        hidden = self.hidden(input_ids, z, real, segment_ids).flatten(1, 2)
        kept = (targets != IGNORED).nonzero()[:, 0]
        summed = surrogate_sum(
            self.backend.logits,
            hidden.index_select(1, kept),
            targets[kept],
            score,
            draws,
            chunk=self.chunk,
            weights=self._head_parameters(),
        )
        return summed / (len(kept) if total is None else total)

    @torch.no_grad()
    def log_probabilities(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        draws: int | None = None,
        step: int = 0,
        last: int = 0,
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
        last : int
            Evaluate this many positions at the end of the rows only; all by default.

        Returns
        -------
        Tensor of shape (B, T, V), or (B, last, V)
            float32 or better; position t predicts token t + 1.
        """
        real = real_positions(input_ids, attention_mask, self.vocab_size)
        design = iid(draws or self.inference_draws)
        # Offset, so that evaluation does not share its draws with a training batch.
        z = self._latents(input_ids, real, design, 2**40 + step, segment_ids)
        summed: Tensor | None = None
        # Few draws at a time: the logits of a whole batch are large.
        for some in z.split(max(1, _LOGITS_AT_ONCE // input_ids.numel())):
            logits = self.backend.logits(self.hidden(input_ids, some, real, segment_ids)[:, :, -last:])
            log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1).logsumexp(dim=0)
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
            dtype=self.latent_dtype,
            segment_ids=segment_ids,
        )

    @property
    def latent_dtype(self) -> torch.dtype:
        """Precision of the perturbation: its parameters', or float32 where it has none."""
        found = next((p.dtype for p in self.perturbation.parameters()), torch.float32)  # type: ignore[attr-defined]
        return torch.promote_types(found, torch.float32)

    def perturbed(self, embedded: Tensor, z: Tensor) -> Tensor:
        """Perturbed embeddings (K, B, T, d) of embeddings (B, T, d) and latents (K, B, T, q), in the precision of z.

        Noise of a small scale is lost in half precision, so autocast does not reach the perturbation.
        """
        with torch.autocast(embedded.device.type, enabled=False):
            return self.perturbation(embedded.to(z.dtype), z).to(embedded.dtype)

    def hidden(self, input_ids: Tensor, z: Tensor, real: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        """Hidden states (K, B, T, h) of tokens (B, T) and latents (K, B, T, q); ``real`` is False at padding."""
        visible, positions = visible_positions(real, segment_ids)
        if visible is not None and getattr(self.perturbation, "sequence", False):
            raise ValueError(
                f"{type(self.perturbation).__name__} reads all earlier positions, also padding and those of other "
                "documents in the row; put one document in a row with padding on the right, or build it with "
                "sequence=False."
            )
        perturbed = self.perturbed(self.backend.embed(input_ids), z)

        def states(part: Tensor) -> Tensor:
            copies = len(part)
            found = self.backend.hidden(
                part.flatten(0, 1),
                None if visible is None else visible.repeat(copies, 1, 1),
                None if positions is None else positions.repeat(copies, 1),
            )
            return found.unflatten(0, (copies, -1))

        return torch.cat([states(part) for part in perturbed.split(max(1, _PASS // real.numel()))])

    def _head_parameters(self) -> tuple[Tensor, ...] | None:
        """Return what the logits of a hidden state depend on, where the back-end says."""
        listed = getattr(self.backend, "head_parameters", None)
        return None if listed is None else tuple(listed())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PerturbedLM:
        """Move and convert as any module does, but leave the perturbation in float32 or better."""

        def wide(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            narrow = moved.is_floating_point() and moved.dtype.itemsize < torch.float32.itemsize
            return tensor.to(moved.device, torch.promote_types(tensor.dtype, torch.float32)) if narrow else moved

        children = self._modules
        try:
            self._modules = {name: child for name, child in children.items() if name != "perturbation"}
            super()._apply(fn, recurse)
        finally:
            self._modules = children
        if recurse:
            children["perturbation"]._apply(wide)  # type: ignore[union-attr]  # noqa: SLF001 - as torch does to children
        return self


def _check_parts(backend: Backend, perturbation: Perturbation) -> None:
    for name, part, protocol in (("backend", backend, Backend), ("perturbation", perturbation, Perturbation)):
        if not (isinstance(part, nn.Module) and isinstance(part, protocol)):
            raise TypeError(f"{name} is a {type(part).__name__}; pass a torch module with the members of {protocol}.")
    if backend.dim != perturbation.dim:
        raise ValueError(
            f"the embeddings have dimension {backend.dim}, the perturbation {perturbation.dim}; build the perturbation "
            f"with dim={backend.dim}."
        )
