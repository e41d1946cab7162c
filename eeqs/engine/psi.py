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

from torch import Tensor

from eeqs.engine.derivative import directional, surrogate_gradient, surrogate_jacobian
from eeqs.engine.elementary import Elementary
from eeqs.engine.errors import PsiError
from eeqs.engine.linear_index import Indices, LinearIndex

__all__ = [
    "EstimatingFunction",
    "PsiLike",
    "as_psi",
    "from_linear_index",
    "from_linear_indices",
    "from_loss",
    "from_surrogate",
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
    require : callable or None
        ``require(leaves)``, raising `DataError` unless what must hold of all rows together does, such as that a weight
        is above zero. It is not run on batches, of which one may well have no such row.
    start : callable or None
        ``start(prepared) -> (p,)``, or (R, p) for replicates; the default starting values.
    mean_jacobian : callable or None
        ``mean_jacobian(theta, prepared) -> (p, p)``, the mean over observations of d psi_i / d theta.
        None means automatic differentiation.
    root : callable or None
        ``root(prepared) -> (theta, residual)``, a finder of its own for a psi that Newton cannot solve
        (a step function); residual is the distance of zero from the set of limits of the mean of psi,
        in units of its standard error.
    linear : LinearIndex or None
        The linear-index structure of psi, where it has one: psi, squares and Jacobian then share one pass.
    separable : bool
        Whether row i of psi depends on row i of the prepared data only. If not (a working correlation), the engine
        evaluates all rows at once and refuses to read them in batches, as it does where there is a ``root``.
    encode : callable or None
        ``encode(data) -> mapping of columns``, applied to what the user passed before validation, as a formula does.
    counts : callable or None
        ``counts(prepared) -> (n,)``, frequency weights: row i stands for that many equal observations.
    penalty : callable or None
        ``penalty(theta) -> (p,)``, what `psi` subtracts from every row and `linear` leaves out: the gradient of a
        penalty.
    numerical : bool
        Whether its Jacobian is by finite differences, as of a psi written in numpy.
    """

    psi: PsiFunction
    names: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    prepare: Callable[[Any], Any] = _same
    start: Callable[[Any], Tensor] | None = None
    mean_jacobian: Callable[[Tensor, Any], Tensor] | None = None
    root: Callable[[Any], tuple[Tensor, float]] | None = None
    linear: LinearIndex | None = None
    separable: bool = True
    encode: Callable[[Any], Any] | None = None
    counts: Callable[[Any], Tensor] | None = None
    penalty: Callable[[Tensor], Tensor] | None = None
    numerical: bool = False
    require: Callable[[Any], None] | None = None

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
        with Elementary():
            return -directional(lambda b: loss(b, data), theta)[1].movedim(0, -1)

    return EstimatingFunction(psi, names, columns)


def from_linear_index(
    residual: Callable[[Tensor, Any], Tensor],
    design: Callable[[Any], Tensor],
    *,
    instruments: Callable[[Any], Tensor] | None = None,
    slope: Callable[[Tensor, Any], Tensor] | None = None,
    names: tuple[str, ...] = (),
    columns: tuple[str, ...] | None = None,
    prepare: Callable[[Any], Any] = _same,
    start: Callable[[Any], Tensor] | None = None,
) -> EstimatingFunction:
    r"""Residual times design: :math:`\psi_i(\theta) = r_i(x_i^\top \theta)\, x_i`.

    Its mean Jacobian is one matrix product, :math:`n^{-1} X^\top \mathrm{diag}(r_i') X`.

    Parameters
    ----------
    residual : callable
        ``residual(index, prepared) -> (n,)`` for the linear index (n,).
    design : callable
        ``design(prepared) -> (n, p)``, the matrix X.
    instruments : callable, optional
        ``instruments(prepared) -> (n, q)``, what multiplies the residual in place of X.
    slope : callable, optional
        ``slope(index, prepared) -> (n,)``, the derivative of the residual along the index; by automatic
        differentiation of the n residuals when left out.
    names, columns, prepare, start
        As in `EstimatingFunction`.
    """
    linear = LinearIndex(
        lambda indices, data: (residual(indices[0], data),),
        lambda data: (design(data),),
        None if instruments is None else lambda data: (instruments(data),),
        None if slope is None else lambda indices, data: ((slope(indices[0], data),),),
    )
    return EstimatingFunction(linear.psi, names, columns, prepare, start, linear.mean_jacobian, linear=linear)


def from_linear_indices(
    residuals: Callable[[Indices, Any], Indices],
    designs: Callable[[Any], Indices],
    *,
    instruments: Callable[[Any], Indices] | None = None,
    names: tuple[str, ...] = (),
    columns: tuple[str, ...] | None = None,
    prepare: Callable[[Any], Any] = _same,
    start: Callable[[Any], Tensor] | None = None,
) -> EstimatingFunction:
    r"""Several residuals times their designs: :math:`\psi_i = (r_{i1} x_{i1}, \dots, r_{im} x_{im})`.

    Every residual may depend on all m linear indices, as in a model for location and log-scale; see
    `eeqs.engine.linear_index` for the formulas.

    Parameters
    ----------
    residuals : callable
        ``residuals(indices, prepared) -> m tensors (n,)`` from the tuple of m linear indices (n,).
    designs : callable
        ``designs(prepared) -> m matrices (n, p_a)``; theta is the concatenation of the m parts.
    instruments : callable, optional
        ``instruments(prepared) -> m matrices (n, q_a)``, what multiplies the residuals in place of the designs.
    names, columns, prepare, start
        As in `EstimatingFunction`.
    """
    linear = LinearIndex(residuals, designs, instruments)
    return EstimatingFunction(linear.psi, names, columns, prepare, start, linear.mean_jacobian, linear=linear)


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
