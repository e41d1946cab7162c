"""The surrogate loss of K draws of hidden states, chunk by chunk over positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from eeqs.marginal.draws import Draws
from eeqs.marginal.estimating import equal_log_weights
from eeqs.marginal.fused import cross_fitted_loss
from eeqs.marginal.scores import Score, cross_fitted

__all__ = ["surrogate_sum"]


@torch.compiler.disable  # its gradient is computed along with it, chunk by chunk
def surrogate_sum(
    head: Callable[[Tensor], Tensor],
    hidden: Tensor,
    y: Tensor,
    score: Score,
    draws: Draws,
    *,
    chunk: int = 256,
    weights: Sequence[Tensor] | None = None,
) -> Tensor:
    """Sum of a surrogate loss over positions, its frozen copy detached.

    The logits of one chunk, (K, chunk, V), exist at a time. If the weights of the head are named, the gradient of a
    chunk is computed along with its value, and nothing twice; else the backward pass computes the logits again, one
    more product with the head.

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
    weights : sequence of Tensor, optional
        All tensors but the hidden states that ``head`` depends on and that may require a gradient.

    Returns
    -------
    Tensor of shape ()
        In float32 or better.

    Raises
    ------
    ValueError
        If the score cannot be computed from draws of this design, or the chunk is not positive.
    RuntimeError
        On a second backward pass of several chunks whose weights are named, or a derivative of the gradient.
    """
    score.check_draws(draws)
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; evaluate at least one position at a time.")

    def part(states: Tensor, which: Tensor) -> Tensor:
        return _evaluated(head(states), which, score, draws)

    live = torch.is_grad_enabled() and any(t.requires_grad for t in (hidden, *(weights or ())))
    if live and weights is not None and hidden.shape[1] > chunk:
        return _ChunkedSum.apply(part, chunk, y, hidden, *weights)
    blocks = zip(hidden.split(chunk, dim=1), y.split(chunk), strict=True)
    if not live or hidden.shape[1] <= chunk:
        return torch.stack([part(*block) for block in blocks]).sum()
    # Nothing random happens inside, so no state of a generator has to be kept.
    sums = [checkpoint(part, *block, use_reentrant=False, preserve_rng_state=False) for block in blocks]
    return torch.stack(sums).sum()


class _ChunkedSum(torch.autograd.Function):
    """Sum of ``part(hidden, y)`` over chunks; its gradient exists when the value does, and the backward scales it."""

    @staticmethod
    def forward(
        ctx: Any, part: Callable[[Tensor, Tensor], Tensor], chunk: int, y: Tensor, hidden: Tensor, *weights: Tensor
    ) -> Tensor:
        wanted = [which for which, needed in zip(weights, ctx.needs_input_grad[4:], strict=True) if needed]
        # Many small terms are added, so not in half precision.
        sums = [torch.zeros_like(which, dtype=torch.promote_types(which.dtype, torch.float32)) for which in wanted]
        states_gradient = torch.empty_like(hidden) if ctx.needs_input_grad[3] else None
        values = []
        for start in range(0, len(y), chunk):
            here = slice(start, start + chunk)
            states = hidden[:, here].detach().requires_grad_(ctx.needs_input_grad[3])
            with torch.enable_grad():
                value = part(states, y[here])
            values.append(value.detach())
            inputs = [*([] if states_gradient is None else [states]), *wanted]
            found = list(torch.autograd.grad(value, inputs, allow_unused=True))
            if states_gradient is not None:
                states_gradient[:, here] = found.pop(0)
            for total, term in zip(sums, found, strict=True):
                if term is not None:
                    total.add_(term)
        ctx.gradients, ctx.dtypes = (states_gradient, sums), [which.dtype for which in wanted]
        return torch.stack(values).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradient of this loss was used already; compute the loss again.")
        (states, sums), ctx.gradients = ctx.gradients, None
        scaled = iter([total.mul_(outer).to(dtype) for total, dtype in zip(sums, ctx.dtypes, strict=True)])
        rest = [next(scaled) if needed else None for needed in ctx.needs_input_grad[4:]]
        return None, None, None, None if states is None else states.mul_(outer.to(states.dtype)), *rest


def _evaluated(logits: Tensor, y: Tensor, score: Score, draws: Draws) -> Tensor:
    if score.loss is cross_fitted.loss:
        return cross_fitted_loss(logits, y, groups=draws.groups, reduction="sum")
    log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
    if score.pools and draws.size > 1:
        log_p = log_p.unflatten(0, (draws.groups, draws.size)).logsumexp(dim=1) - math.log(draws.size)
    log_weight = equal_log_weights(score.entries(draws), log_p)
    return score.loss(log_p, log_p.detach(), y, log_weight).sum()
