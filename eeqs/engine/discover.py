r"""Find the linear indices of a plain psi, so that its Jacobian is a matrix product.

Most people write ``data["x"] @ theta`` and go on from there. psi is run once while every use of theta is watched; when
theta enters through products :math:`\eta_b = X_b\, \theta_{[b]}` with all of it or a slice of it, and in no other way,
psi is a function of m numbers a row and

.. math:: \sum_i \frac{\partial \psi_i}{\partial \theta_{[b]}}
          = \sum_i \frac{\partial \psi_i}{\partial \eta_{ib}}\, x_{ib}^\top ,

m pairs of reverse passes and m matrix products in place of p forward passes. What was found is compared with the
derivative along one direction before it is used, on some rows and away from the start, where a part of psi that was
overlooked may be flat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from eeqs.engine.derivative import jacobian_of_mean
from eeqs.engine.tree import leaves_of, map_tree

__all__ = ["discovered_jacobian"]

_PRODUCTS = (torch.matmul, torch.mv, Tensor.matmul, Tensor.mv, Tensor.__matmul__)
# Functions and attributes that only look at theta.
_HARMLESS = {"__len__", "size", "dim", "numel", "is_floating_point", "shape", "ndim", "dtype", "device"}
_AGREES = 1e-8
# Distances of the comparison from the start, in sizes of the indices; the shorter where psi is not finite.
_SHIFTS = (1.0, 2.0**-10)
_PROBE = 256


class _NotLinearIndexError(Exception):
    """Theta is used in another way than through linear indices."""


class _Watch(TorchFunctionMode):
    """Record the products with theta, or put given indices in their place."""

    def __init__(self, theta: Tensor, n: int, given: tuple[Tensor, ...] | None = None) -> None:
        super().__init__()
        self._parts: list[tuple[Tensor, slice]] = [(theta, slice(0, len(theta)))]
        self._n, self._given = n, given
        self.found: list[tuple[Tensor, slice]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let everything pass that does not touch theta."""
        place = self._place(args[1]) if len(args) == 2 and func in _PRODUCTS else None
        if place is not None and self._place(args[0]) is None:
            design = args[0]
            if design.ndim != 2 or design.shape[0] != self._n:
                raise _NotLinearIndexError
            self.found.append((design, place))
            return func(*args) if self._given is None else self._given[len(self.found) - 1]
        touched = [self._place(arg) for arg in (*_flat(args), *(kwargs or {}).values())]
        if any(part is not None for part in touched) and _name(func) not in _HARMLESS:
            return self._slice(func, args)
        return func(*args, **(kwargs or {}))

    def _place(self, tensor: Any) -> slice | None:
        return next((place for part, place in self._parts if part is tensor), None)

    def _slice(self, func: Any, args: Any) -> Tensor:
        """Watch a slice of theta like theta; any other use ends the search."""
        if func is not Tensor.__getitem__ or not isinstance(args[1], slice) or args[1].step not in (None, 1):
            raise _NotLinearIndexError
        outer = self._place(args[0])
        assert outer is not None  # noqa: S101 - it was touched
        start, stop, _ = args[1].indices(outer.stop - outer.start)
        part: Tensor = func(*args)
        self._parts.append((part, slice(outer.start + start, outer.start + max(start, stop))))
        return part


def _name(func: Any) -> str:
    """Name of a function, or of the attribute that it reads."""
    name: str = getattr(func, "__name__", "")
    return getattr(func.__self__, "__name__", "") if name == "__get__" else name


def _flat(args: Any) -> Any:
    for arg in args:
        if isinstance(arg, tuple | list):
            yield from _flat(arg)
        else:
            yield arg


def discovered_jacobian(
    psi: Callable[[Tensor, Any], Tensor], theta: Tensor, data: Any, n: int
) -> Callable[[Tensor, Any], Tensor] | None:
    """Mean Jacobian ``(theta, data) -> (q, p)`` through the linear indices of psi, None where there are no such.

    Parameters
    ----------
    psi : callable
        ``psi(theta, data) -> (n, q)``, row i a function of row i of the data.
    theta : Tensor of shape (p,)
        The start: the result is compared with the derivative of psi along one direction close to it.
    data : Any
        Prepared data of ``n`` rows.
    n : int
    """
    try:
        with _Watch(theta, n) as watch:
            values = psi(theta, data)
    except _NotLinearIndexError:
        return None
    if not watch.found or len(watch.found) > len(theta) or values.ndim != 2:
        return None

    def mean_jacobian(b: Tensor, rows: Any) -> Tensor:
        return _jacobian(psi, b, rows)

    away = _away(theta, watch.found)
    probe = map_tree(lambda leaf: leaf[:_PROBE], data)
    checks = (_agrees(mean_jacobian, psi, theta + shift * away, probe) for shift in _SHIFTS)
    return mean_jacobian if next((agrees for agrees in checks if agrees is not None), False) else None


def _away(theta: Tensor, found: list[tuple[Tensor, slice]]) -> Tensor:
    """Direction (p,) in which every index changes by about one, in any units of the columns."""
    size = torch.zeros_like(theta)
    for design, place in found:
        size[place] = torch.maximum(size[place], design.square().mean(dim=0).sqrt())
    waves = torch.arange(1, len(theta) + 1, dtype=theta.dtype, device=theta.device).cos()
    return torch.where(size > 0, waves / size, 0.0) / len(theta) ** 0.5


def _agrees(
    mean_jacobian: Callable[[Tensor, Any], Tensor], psi: Callable[[Tensor, Any], Tensor], theta: Tensor, data: Any
) -> bool | None:
    """Whether a Jacobian is that of psi along one direction; None where that is not finite."""
    direction = torch.linspace(0.5, 1.0, len(theta), dtype=theta.dtype, device=theta.device)
    reference = torch.func.jvp(lambda b: psi(b, data).mean(dim=0), (theta,), (direction,))[1]
    size = reference.abs().max()
    if not bool(torch.isfinite(size)):
        return None
    return bool((mean_jacobian(theta, data) @ direction - reference).abs().max() <= _AGREES * size)


def _jacobian(psi: Callable[[Tensor, Any], Tensor], theta: Tensor, data: Any) -> Tensor:
    n = next(leaves_of(data)).shape[0]
    try:
        with _Watch(theta, n) as watch:
            psi(theta, data)
        given = tuple((design @ theta[place]).requires_grad_() for design, place in watch.found)
        with torch.enable_grad(), _Watch(theta, n, given):
            values = psi(theta, data)
    except _NotLinearIndexError:
        given = ()
    if not given or not values.requires_grad:  # another branch of psi than where they were found
        return jacobian_of_mean(psi, theta, data)
    total = values.new_zeros(values.shape[1], len(theta)).detach()
    for slope, (design, place) in zip(_slopes(values, given), watch.found, strict=True):
        total[:, place] += slope.mT @ design
    if not bool(torch.isfinite(total).all()):  # a branch that torch.where does not take may poison reverse mode
        return jacobian_of_mean(psi, theta, data)
    return total / n


def _slopes(values: Tensor, indices: tuple[Tensor, ...]) -> list[Tensor]:
    """Differentiate psi along every index, row by row: m tensors (n, q).

    The gradient of <values, v> along an index is linear in v, and its own gradient in v is the forward derivative: two
    reverse passes, which torch runs several times faster than one forward-mode pass.
    """
    with torch.enable_grad():
        v = torch.zeros_like(values, requires_grad=True)
        pulled = torch.autograd.grad(values, indices, v, create_graph=True, materialize_grads=True)
        ones = torch.ones_like(indices[0])
        return [
            torch.autograd.grad(part, v, ones, retain_graph=True, materialize_grads=True)[0]
            if part.requires_grad
            else torch.zeros_like(values)
            for part in pulled
        ]
