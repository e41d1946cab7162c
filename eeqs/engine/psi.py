"""The estimating-function contract and the ways to make one.

An estimating function is any callable ``psi(theta, data)`` that maps a parameter vector (p,) and data of n
observations to an (n, p) tensor, one row an observation, by torch operations. A plain function is enough.
`EstimatingFunction` carries what the engine can use beyond that: parameter names, the columns it reads,
a start, a closed-form Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from eeqs.engine.derivative import directional, surrogate_gradient, surrogate_jacobian
from eeqs.engine.errors import DataError, PsiError

__all__ = [
    "EstimatingFunction",
    "PsiLike",
    "as_psi",
    "from_linear_index",
    "from_loss",
    "from_surrogate",
    "weight",
]

PsiFunction: TypeAlias = Callable[[Tensor, Any], Tensor]


def _same(data: Any) -> Any:
    return data


@dataclass(frozen=True)
class EstimatingFunction:
    """An estimating function with what the engine may know about it.

    Attributes
    ----------
    psi : callable
        ``psi(theta, prepared) -> (n, p)`` or (n,) when p is 1, in torch operations.
    names : tuple of str
        Parameter names, in the order of theta; empty when unknown.
    columns : tuple of str or None
        The named columns it reads, None for all of them.
    prepare : callable
        ``prepare(leaves) -> prepared``, run once before solving: validates values (raising
        `eeqs.engine.errors.DataError`) and builds what every evaluation needs, such as a design matrix.
        Leaves are (n, ...) or (R, n, ...); the result keeps those leading axes.
    start : callable or None
        ``start(prepared) -> (p,)``, or (R, p) for replicates; the default starting values.
    mean_jacobian : callable or None
        ``mean_jacobian(theta, prepared) -> (p, p)``, the mean over observations of d psi_i / d theta.
        None means automatic differentiation.
    cheap_jacobian : bool
        Whether ``mean_jacobian`` costs no more than psi, so that every Newton step may use a fresh one.
    root : callable or None
        ``root(prepared) -> (theta, residual)``, a finder of its own for a psi that Newton cannot solve
        (a step function); residual is the distance of zero from the set of limits of the mean of psi,
        in units of its standard error.
    """

    psi: PsiFunction
    names: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    prepare: Callable[[Any], Any] = _same
    start: Callable[[Any], Tensor] | None = None
    mean_jacobian: Callable[[Tensor, Any], Tensor] | None = None
    cheap_jacobian: bool = False
    root: Callable[[Any], tuple[Tensor, float]] | None = None

    def __call__(self, theta: Tensor, data: Any) -> Tensor:
        """Evaluate psi on tensors: (p,) and leaves of n rows to (n, p)."""
        return self.psi(theta, self.prepare(data))


PsiLike: TypeAlias = EstimatingFunction | PsiFunction


def as_psi(psi: PsiLike) -> EstimatingFunction:
    """Wrap a plain callable; an `EstimatingFunction` passes through."""
    if isinstance(psi, EstimatingFunction):
        return psi
    if not callable(psi):
        raise PsiError(f"psi is a {type(psi).__name__}; pass a callable psi(theta, data) -> (n, p).")
    return EstimatingFunction(psi)


def from_loss(
    loss: PsiFunction, *, names: tuple[str, ...] = (), columns: tuple[str, ...] | None = None
) -> EstimatingFunction:
    r"""Estimating function of a differentiable loss: :math:`\psi_i = -\partial \ell_i / \partial \theta`.

    Parameters
    ----------
    loss : callable
        ``loss(theta, data) -> (n,)``, one value an observation, in torch operations. Observation i may
        depend on row i only.
    names, columns : tuple of str
        As in `EstimatingFunction`.

    Notes
    -----
    One forward-mode pass a parameter gives the gradients of all observations at once, so the cost is p
    evaluations of the loss, without a loop or a vmap over observations.
    """

    def psi(theta: Tensor, data: Any) -> Tensor:
        return -directional(lambda b: loss(b, data), theta)[1].movedim(0, -1)

    return EstimatingFunction(psi, names, columns)


def from_linear_index(
    residual: Callable[[Tensor, Any], Tensor],
    design: Callable[[Any], Tensor],
    *,
    names: tuple[str, ...] = (),
    columns: tuple[str, ...] | None = None,
    prepare: Callable[[Any], Any] = _same,
    start: Callable[[Any], Tensor] | None = None,
) -> EstimatingFunction:
    r"""Residual times design: :math:`\psi_i(\theta) = r_i(x_i^\top \theta)\, x_i`.

    Its mean Jacobian is one matrix product, :math:`n^{-1} X^\top \mathrm{diag}(r_i') X`, with the scalar
    derivatives :math:`r_i'` from a single forward-mode pass over the n residuals.

    Parameters
    ----------
    residual : callable
        ``residual(index, prepared) -> (n,)`` for the linear index (n,).
    design : callable
        ``design(prepared) -> (n, p)``, the matrix X.
    names, columns, prepare, start
        As in `EstimatingFunction`.
    """

    def psi(theta: Tensor, data: Any) -> Tensor:
        matrix = design(data)
        return residual(matrix @ theta, data)[:, None] * matrix

    def mean_jacobian(theta: Tensor, data: Any) -> Tensor:
        matrix = design(data)
        index = matrix @ theta
        slope = torch.func.jvp(lambda eta: residual(eta, data), (index,), (torch.ones_like(index),))[1]
        return matrix.mT @ (slope[:, None] * matrix) / matrix.shape[0]

    return EstimatingFunction(psi, names, columns, prepare, start, mean_jacobian, cheap_jacobian=True)


def from_surrogate(
    inner: PsiFunction,
    surrogate: Callable[[Tensor, Tensor, Any], Tensor],
    *,
    names: tuple[str, ...] = (),
    columns: tuple[str, ...] | None = None,
    prepare: Callable[[Any], Any] = _same,
    start: Callable[[Any], Tensor] | None = None,
) -> EstimatingFunction:
    r"""Estimating function of a surrogate with a live and a frozen copy of the model.

    With :math:`L(\theta)` from ``inner`` and the surrogate :math:`f(L_{live}, L_{frozen})`,

    .. math:: \psi_i(\theta) = -\frac{\partial}{\partial b} f_i(L(b), L(\theta)) \Big|_{b = \theta},

    and the bread is the total derivative of that, through both copies. A surrogate written with
    ``detach()`` has the same psi and a wrong bread.

    Parameters
    ----------
    inner : callable
        ``inner(theta, prepared) -> L``, shape (..., n): observations last, for a reduction over the short axes
        (draws, categories) vectorises along the long one.
    surrogate : callable
        ``surrogate(live, frozen, prepared) -> (n,)``; observation i may depend on ``[..., i]`` only.
    names, columns, prepare, start
        As in `EstimatingFunction`.
    """

    def psi(theta: Tensor, data: Any) -> Tensor:
        return surrogate_gradient(inner, surrogate, theta, data)

    def mean_jacobian(theta: Tensor, data: Any) -> Tensor:
        return surrogate_jacobian(inner, surrogate, theta, data)

    return EstimatingFunction(psi, names, columns, prepare, start, mean_jacobian)


def weight(psi: PsiLike, column: str) -> EstimatingFunction:
    r"""Weighted estimating function :math:`w_i \psi_i(\theta)`.

    With integer weights the root and the bread are those of the data with row i repeated :math:`w_i`
    times. The meat is :math:`\sum w_i^2 \psi_i \psi_i^\top / n`, that of sampling weights: a row that
    stands for :math:`w_i` independent observations has the smaller meat of the repeated data.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        The function to weight; it must be smooth in theta.
    column : str
        Name of the column of non-negative weights.
    """
    inner = as_psi(psi)
    if inner.root is not None:
        raise PsiError("weight() differentiates the weighted psi, and this one is a step function of theta.")

    def prepare(data: Any) -> Any:
        if not isinstance(data, dict) or column not in data:
            raise DataError(f'weights "{column}" are not a column of the data; pass a DataFrame or a mapping with it.')
        weights = data[column]
        if bool((weights < 0).any()) or not bool((weights > 0).any()):
            raise DataError(f'weights "{column}" must be non-negative, with at least one above zero.')
        rest = data if inner.columns is None else {name: data[name] for name in inner.columns}
        return weights, inner.prepare(rest)

    def weighted(theta: Tensor, data: Any) -> Tensor:
        weights, rest = data
        values = inner.psi(theta, rest)
        return weights * values if values.ndim == 1 else weights[:, None] * values

    columns = None if inner.columns is None else (*inner.columns, column)
    first = inner.start
    start = None if first is None else lambda data: first(data[1])
    return EstimatingFunction(weighted, inner.names, columns, prepare, start)
