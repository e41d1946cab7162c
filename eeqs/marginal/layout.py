"""Memory layout of log-probabilities: logical (K, n, V), with n contiguous when V is small.

Reducing over a contiguous axis of a few classes defeats vectorisation (about ten times slower at V = 6), so
small-V kernels return a transposed view of a (K, V, n) array. Elementwise operations keep that layout, and so do
the helpers here; a large V keeps V contiguous, where ``log_softmax`` is fast.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "indicator",
    "linear",
    "log_normalise",
    "observations_last",
    "pool_groups",
    "small_v",
    "split_draws",
    "take_response",
]

# Up to this many classes the transposed layout is the faster one.
_SMALL_V = 64


def small_v(n_classes: int | None) -> bool:
    """Whether log-probabilities of so many classes, or a density, come with observations contiguous."""
    return n_classes is None or n_classes <= _SMALL_V


def observations_last(x: Tensor) -> Tensor:
    """Return ``x`` (..., n, d) with the same entries and n contiguous in memory."""
    return x.mT.contiguous().mT


def _transposed(log_p: Tensor) -> bool:
    return log_p.ndim > 1 and log_p.stride(-1) != 1


def linear(e: Tensor, weight: Tensor) -> Tensor:
    """``e @ weight.T``: (..., d) and (V, d) to (..., V), in the layout for this V."""
    if e.ndim < 2 or weight.shape[0] > _SMALL_V:
        return functional.linear(e, weight)
    return (weight @ e.mT).mT


def log_normalise(logits: Tensor) -> Tensor:
    """Log-softmax over the last axis, in the layout of ``logits``."""
    if logits.shape[-1] > _SMALL_V:
        return torch.log_softmax(logits, dim=-1)
    return logits - logits.logsumexp(dim=-1, keepdim=True)


def split_draws(log_p: Tensor) -> list[Tensor]:
    """Split (K, n, V) into K views (n, V) whose gradients are gathered in the layout of ``log_p``."""
    if _transposed(log_p):
        return [draw.mT for draw in log_p.mT.unbind(0)]
    return list(log_p.unbind(0))


def pool_groups(log_p: Tensor, size: int) -> Tensor:
    """Log of the mean probability of every group: (G * m, n, V) to (G, n, V), with groups of m = ``size`` draws."""
    if size == 1:
        return log_p
    view = log_p.mT if _transposed(log_p) else log_p
    pooled = view.unflatten(0, (-1, size)).logsumexp(dim=1) - math.log(size)
    return pooled.mT if _transposed(log_p) else pooled


def take_response(log_p: Tensor, y: Tensor) -> Tensor:
    """``log_p[k, i, y[i]]``: (K, n, V) and (n,) to (K, n)."""
    if _transposed(log_p):
        return log_p.mT.gather(-2, y.expand(log_p.shape[0], 1, -1)).squeeze(-2)
    return log_p.gather(-1, y[:, None].expand(log_p.shape[0], -1, 1)).squeeze(-1)


def indicator(y: Tensor, like: Tensor) -> Tensor:
    """``1{y_i = v}`` as (n, V), in the layout and dtype of one draw ``like`` (n, V)."""
    classes = torch.arange(like.shape[-1], device=like.device)
    if _transposed(like):
        return (classes[:, None] == y).to(like.dtype).mT
    return (classes == y[:, None]).to(like.dtype)
