"""The surrogate loss of K draws of hidden states, chunk by chunk over positions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from eeqs.marginal.draws import Draws
from eeqs.marginal.estimating import equal_log_weights
from eeqs.marginal.fused import cross_fitted_loss
from eeqs.marginal.scores import Score, cross_fitted

__all__ = ["surrogate_sum"]


def surrogate_sum(
    head: Callable[[Tensor], Tensor], hidden: Tensor, y: Tensor, score: Score, draws: Draws, *, chunk: int = 256
) -> Tensor:
    """Sum of a surrogate loss over positions, its frozen copy detached.

    The logits of one chunk, (K, chunk, V), exist at a time: the backward pass computes them again. That is one more
    product with the head, against K positions times V numbers kept.

    Parameters
    ----------
    head : callable
        Hidden states (..., h) to logits (..., V).
    hidden : Tensor of shape (K, N, h)
        Last hidden states of the K draws of N predicted positions.
    y : Tensor of shape (N,)
        Next tokens.
    score : Score
        One of `eeqs.marginal.scores` that uses random draws.
    draws : Draws
        Design of the K draws.
    chunk : int
        Positions evaluated at once.

    Returns
    -------
    Tensor of shape ()
        In float32 or better.

    Raises
    ------
    ValueError
        If the score cannot be computed from draws of this design, or the chunk is not positive.
    """
    score.check_draws(draws)
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; evaluate at least one position at a time.")

    def part(states: Tensor, which: Tensor) -> Tensor:
        return _evaluated(head(states), which, score, draws)

    blocks = zip(hidden.split(chunk, dim=1), y.split(chunk), strict=True)
    if not (torch.is_grad_enabled() and hidden.requires_grad) or hidden.shape[1] <= chunk:
        return torch.stack([part(*block) for block in blocks]).sum()
    # Nothing random happens inside, so no state of a generator has to be kept.
    sums = [checkpoint(part, *block, use_reentrant=False, preserve_rng_state=False) for block in blocks]
    return torch.stack(sums).sum()


def _evaluated(logits: Tensor, y: Tensor, score: Score, draws: Draws) -> Tensor:
    if score.loss is cross_fitted.loss:
        return cross_fitted_loss(logits, y, groups=draws.groups, reduction="sum")
    log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
    if score.pools and draws.size > 1:
        log_p = log_p.unflatten(0, (draws.groups, draws.size)).logsumexp(dim=1) - math.log(draws.size)
    log_weight = equal_log_weights(score.entries(draws), log_p)
    return score.loss(log_p, log_p.detach(), y, log_weight).sum()
