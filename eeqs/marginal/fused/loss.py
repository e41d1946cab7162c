"""The cross-fitted loss of logits as a function that autograd differentiates once, chunk by chunk."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from eeqs.marginal.fused.arithmetic import evaluate_chunk

__all__ = ["Reduction", "automatic_chunk", "cross_fitted_loss"]

Reduction: TypeAlias = Literal["mean", "sum", "none"]

# Dtypes of logits, and those to compute in.
_DTYPES = {torch.bfloat16: torch.float32, torch.float32: torch.float32, torch.float64: torch.float64}

# Bytes of one chunk of probabilities. The CPU goes through it some fifteen times along with two others of its size, so
# a thread's part of all three should fit in its share of the last cache; other devices pay for every launch.
_THREAD_BYTES, _DEVICE_BYTES = 2**21, 2**27


def cross_fitted_loss(
    logits: Tensor, y: Tensor, *, groups: int | None = None, reduction: Reduction = "mean", chunk: int | None = None
) -> Tensor:
    r"""Cross-fitted loss of the logits of K draws, for training by stochastic gradients.

    Equal to `eeqs.marginal.scores.cross_fitted` (`two_sample` for two groups) of the log-softmax with the frozen copy
    detached, in value and in gradient. The negative gradient of

    .. math:: L = -\frac1G \sum_g \sum_v (1\{y=v\} - \mathrm{sg}\, \bar p_g(v)) \log \hat q_{-g}(v)

    is the estimating function, with :math:`\bar p_g` the mean probability of the draws in group g and
    :math:`\hat q_{-g}` the mean of the other groups'.

    Parameters
    ----------
    logits : Tensor of shape (K, N, V)
        Finite; bfloat16 (computed in float32), float32 or float64, on any device. A class that is ruled out may have a
        logit as low as -1e4.
    y : Tensor of shape (N,)
        Classes 0..V-1, of an integer dtype.
    groups : int, optional
        Groups G of independent draws, one after the other and of equal size; K groups of one by default.
    reduction : {"mean", "sum", "none"}
        Over observations.
    chunk : int, optional
        Observations evaluated at once. By default as many as keep a (K, chunk, V) array within 2 MiB a thread on a
        CPU, 128 MiB elsewhere, and at least one.

    Returns
    -------
    Tensor
        A scalar, or (N,) without reduction, in the dtype of the computation. Its value is no risk: monitor the
        held-out log-score instead.

    Raises
    ------
    ValueError
        If a shape, a class, the number of groups or an option does not fit.
    TypeError
        If the logits or the classes have another dtype.
    RuntimeError
        On a second backward pass, or a derivative of the gradient.

    Notes
    -----
    If the logits require a gradient it is computed along with the value, in one pass over them; a backward pass scales
    it in place and hands it over. Above the logits and their gradient, two arrays of (K, chunk, V) are in use, three
    for bfloat16; observations that underflow, evaluated in log space, need some ten more of their size. The number of
    operations is linear in K.

    Examples
    --------
    >>> import torch
    >>> from eeqs.marginal.fused import cross_fitted_loss
    >>> logits = torch.randn(4, 100, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    >>> cross_fitted_loss(logits, torch.arange(100) % 50).backward()
    >>> logits.grad.shape
    torch.Size([4, 100, 50])
    """
    _check(logits, y, reduction, chunk)
    groups = len(logits) if groups is None else groups
    if groups < 2 or len(logits) % groups:
        raise ValueError(
            f"{len(logits)} draws in {groups} groups; pass draws of two independent groups or more, of equal size."
        )
    wanted = torch.is_grad_enabled() and logits.requires_grad
    empty = logits[:0].clone()
    rows = chunk or automatic_chunk(logits)
    return _CrossFitted.apply(logits, empty, y.long(), groups, reduction, rows, wanted)[0]


def _check(logits: Tensor, y: Tensor, reduction: str, chunk: int | None) -> None:
    if logits.ndim != 3 or not logits.numel():
        raise ValueError(f"logits have shape {tuple(logits.shape)}; pass (K, N, V), none of them zero.")
    if logits.dtype not in _DTYPES:
        raise TypeError(f"logits are {logits.dtype}; pass bfloat16, float32 or float64.")
    if y.shape != logits.shape[1:2]:
        raise ValueError(f"y has shape {tuple(y.shape)}; logits {tuple(logits.shape)} need ({logits.shape[1]},).")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise TypeError(f"y is {y.dtype}; pass classes as integers.")
    bad = (y < 0) | (y >= logits.shape[2])
    if bool(bad.any()):
        raise ValueError(
            f"y has {int(bad.sum())} value(s) outside 0..{logits.shape[2] - 1}, the first {int(y[bad][0])}."
        )
    if reduction not in {"mean", "sum", "none"}:
        raise ValueError(f'reduction is "{reduction}"; pass "mean", "sum" or "none".')
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; evaluate at least one observation at a time.")


def automatic_chunk(logits: Tensor) -> int:
    """Observations whose (K, chunk, V) probabilities fit the cache, at least one."""
    K, _, V = logits.shape
    size = _THREAD_BYTES * torch.get_num_threads() if logits.device.type == "cpu" else _DEVICE_BYTES
    return max(1, size // (K * V * _DTYPES[logits.dtype].itemsize))


class _CrossFitted(torch.autograd.Function):
    """Loss and gradient at once; the gradient is an output, without which torch.func could not keep it.

    ``empty`` depends on the logits but holds none of them. It lets a second derivative be refused, while the logits
    may be freed before the backward pass.
    """

    @staticmethod
    def forward(
        logits: Tensor,
        empty: Tensor,  # noqa: ARG004
        y: Tensor,
        groups: int,
        reduction: Reduction,
        rows: int,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        gradient = logits.new_empty(logits.shape if wanted else 0)
        return _evaluate(logits, y, groups, reduction, rows, gradient if wanted else None), gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # else autograd makes zeros for the second output, as large as the logits
        ctx.save_for_backward(inputs[1], output[1])
        ctx.spent = False

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.spent:
            raise RuntimeError(
                "the first backward pass through cross_fitted_loss took its gradient; evaluate the loss again, or add "
                "up what depends on it before one backward pass."
            )
        ctx.spent = True
        (scale, _), (empty, gradient) = grads, ctx.saved_tensors
        with torch.no_grad():
            gradient.mul_(scale[:, None] if scale.ndim else scale)
        return _Once.apply(gradient, empty, scale), None, None, None, None, None, None


class _Once(torch.autograd.Function):
    """A gradient as a function of what it depends on, not differentiable."""

    @staticmethod
    def forward(gradient: Tensor, empty: Tensor, scale: Tensor) -> Tensor:  # noqa: ARG004
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing to keep."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: ARG004
        raise RuntimeError(
            "cross_fitted_loss is differentiable once; for second derivatives use eeqs.marginal.scores.cross_fitted."
        )


def _evaluate(
    logits: Tensor, y: Tensor, groups: int, reduction: Reduction, rows: int, gradient: Tensor | None
) -> Tensor:
    """Return the loss and fill its gradient."""
    K, n, V = logits.shape
    rows, scale, dtype = min(rows, n), 1 / n if reduction == "mean" else 1.0, _DTYPES[logits.dtype]
    # Probabilities stand where their gradient will, unless that has another dtype or is not wanted.
    place = gradient if gradient is not None and gradient.dtype == dtype else None
    buffer = logits.new_empty(K, rows if place is None else 0, V, dtype=dtype)
    work = logits.new_empty(2, groups, rows, V, dtype=dtype)
    losses = []
    for start in range(0, n, rows):
        here = slice(start, min(start + rows, n))
        some = slice(here.stop - start)
        p = buffer[:, some] if place is None else place[:, here]
        losses.append(
            evaluate_chunk(logits[:, here], y[here], p, work[:, :, some], None if gradient is None else scale)
        )
        if gradient is not None and place is None:
            gradient[:, here] = p
    loss = torch.cat(losses)
    return loss if reduction == "none" else loss.sum() * scale
