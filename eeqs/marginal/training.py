"""A marginal model and a score as a loss for stochastic gradients."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from eeqs.marginal.checks import check_embeddings, check_latents
from eeqs.marginal.draws import Draws, iid
from eeqs.marginal.estimating import equal_log_weights
from eeqs.marginal.fused import cross_fitted_loss
from eeqs.marginal.layout import small_v
from eeqs.marginal.reading import check_score, entries, response_index
from eeqs.marginal.scores import Score, cross_fitted

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["surrogate_loss"]


def surrogate_loss(
    model: Marginal, score: Score, prefix: Tensor, y: Tensor, z: Tensor | None, chunk: int | None
) -> Tensor:
    """Mean of the surrogate over observations, with the frozen copy detached; see `eeqs.marginal.Marginal.loss`."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; evaluate at least one observation at a time.")
    draws = None if z is None else _design(z)
    score.check_draws(draws)
    check_embeddings(model, prefix, y.shape)
    check_score(model, score)
    index = response_index(model, score, y)
    size = chunk or len(prefix)
    latents: Iterable[Tensor]
    if z is not None and draws is not None:
        check_latents(model, z, y.shape)
        latents = z.flatten(1, -2).split(size)
        log_weight = equal_log_weights(score.entries(draws), prefix)
    else:
        nodes, log_weight = model.quadrature(score.nodes or 1, prefix)
        latents = repeat(nodes[None])

    # With many classes, the gradient in closed form saves the graph over the leave-one-out means.
    closed = score.loss is cross_fitted.loss and not small_v(model.kernel.n_classes)

    def total(x: Tensor, which: Tensor, values: Tensor, block_z: Tensor) -> Tensor:
        if closed and draws is not None:
            log_p = entries(model, score, 1, x, values, block_z)
            return cross_fitted_loss(log_p, which, groups=draws.groups, reduction="sum")
        live = entries(model, score, draws.size if draws is not None else 1, x, values, block_z)
        return score.loss(live, live.detach(), which, log_weight).sum()

    # The nodes repeat without end.
    blocks = zip(prefix.split(size), index.split(size), y.split(size), latents, strict=False)
    if chunk is None:
        sums = [total(*block) for block in blocks]
    else:
        # Nothing random happens inside: the draws are arguments, so the recomputation sees the same ones.
        sums = [checkpoint(total, *block, use_reentrant=False, preserve_rng_state=False) for block in blocks]
    return torch.stack(sums).sum() / len(prefix)


def _design(z: Tensor) -> Draws:
    """Read the groups off the shape of the draws: (n, K, q) are independent, (n, G, m, q) are groups of m."""
    return iid(z.shape[1:-1].numel(), groups=z.shape[1]) if z.ndim > 1 else iid(1)
