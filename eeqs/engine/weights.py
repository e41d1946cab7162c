"""Weighted estimating functions: what one row stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from eeqs.engine.errors import DataError, PsiError
from eeqs.engine.linear_index import Indices, LinearIndex
from eeqs.engine.psi import EstimatingFunction, PsiLike, as_psi

__all__ = ["weight"]


def weight(psi: PsiLike, column: str, kind: str = "probability") -> EstimatingFunction:
    r"""Weight the rows of an estimating function.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        The function to weight; it must be smooth in theta.
    column : str
        Name of the column of non-negative weights.
    kind : {"probability", "frequency"}
        "probability": the row's term is :math:`w_i \psi_i`, the meat :math:`\sum w_i^2 \psi_i \psi_i^\top / n` and n
        the number of rows. These are sampling (inverse-probability) weights, and equally analytic or importance
        weights, whose scale cancels in the sandwich. "frequency": the row stands for :math:`w_i` independent
        observations with equal values, so the result is that of the data with row i repeated :math:`w_i` times, meat
        :math:`\sum w_i \psi_i \psi_i^\top / n` and :math:`n = \sum w_i`.

    Raises
    ------
    DataError
        When solved on weights that are negative, all zero, or (for "frequency") not whole numbers.
    PsiError
        If psi is a step function of theta.
    ValueError
        If the kind is unknown.
    """
    if kind not in ("probability", "frequency"):
        raise ValueError(f'unknown kind of weights "{kind}"; use "probability" (analytic, importance) or "frequency".')
    inner = as_psi(psi)
    if inner.root is not None:
        raise PsiError("weight() differentiates the weighted psi, and this one is a step function of theta.")
    if kind == "frequency" and not inner.separable:
        raise PsiError("rows of this psi depend on each other, so a repeated row has no meaning; repeat clusters.")
    if inner.counts is not None:
        raise PsiError("psi already has frequency weights; multiply the two columns and weight once.")

    read = _Column(inner, column, kind)
    columns = None if inner.columns is None else tuple(dict.fromkeys((*inner.columns, column)))
    first = inner.start
    frequency = kind == "frequency"
    return replace(
        inner,
        psi=(lambda theta, data: inner.psi(theta, data[1])) if frequency else _weighted_psi(inner),
        columns=columns,
        prepare=read.prepare,
        require=read.require,
        start=None if first is None else lambda data: first(data[1]),
        mean_jacobian=None,
        linear=None if inner.linear is None else _weighted_index(inner.linear, frequency),
        counts=(lambda data: data[0]) if frequency else None,
    )


@dataclass(frozen=True)
class _Column:
    """The column of weights of an estimating function."""

    inner: EstimatingFunction
    name: str
    kind: str

    def prepare(self, leaves: Any) -> Any:
        weights = self._weights(leaves)
        if bool((weights < 0).any()):
            raise DataError(f'weights "{self.name}" must be non-negative, with at least one above zero.')
        if self.kind == "frequency" and bool((weights != weights.round()).any()):
            raise DataError(
                f'frequency weights "{self.name}" must be whole numbers; use kind="probability" for others.'
            )
        return weights, self.inner.prepare(self._rest(leaves))

    def require(self, leaves: Any) -> None:
        if bool((self._weights(leaves) == 0).all(dim=-1).any()):
            raise DataError(f'weights "{self.name}" must be non-negative, with at least one above zero.')
        if self.inner.require is not None:
            self.inner.require(self._rest(leaves))

    def _weights(self, leaves: Any) -> Tensor:
        if not isinstance(leaves, dict) or self.name not in leaves:
            raise DataError(
                f'weights "{self.name}" are not a column of the data; pass a DataFrame or a mapping with it.'
            )
        weights: Tensor = leaves[self.name]
        return weights

    def _rest(self, leaves: Any) -> Any:
        names = self.inner.columns
        return leaves if names is None else {name: leaves[name] for name in names}


def _weighted_psi(inner: EstimatingFunction) -> Any:
    def weighted(theta: Tensor, data: Any) -> Tensor:
        weights, rest = data
        values = inner.psi(theta, rest)
        if inner.penalty is not None:  # a weight belongs to the observation, not to the penalty
            penalty = inner.penalty(theta)
            return weights[:, None] * (values + penalty) - penalty
        return weights * values if values.ndim == 1 else weights[:, None] * values

    return weighted


def _weighted_index(linear: LinearIndex, frequency: bool) -> LinearIndex:
    """Linear-index structure of weighted data ``(weights, rest)``."""
    instruments, slopes = linear.instruments, linear.slopes

    def times(data: Any, tensors: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        return tensors if frequency else tuple(None if t is None else data[0] * t for t in tensors)

    def residuals(indices: Indices, data: Any) -> Any:
        return times(data, linear.residuals(indices, data[1]))

    return LinearIndex(
        residuals,
        lambda data: linear.designs(data[1]),
        None if instruments is None else lambda data: instruments(data[1]),
        None if slopes is None else lambda indices, data: tuple(times(data, row) for row in slopes(indices, data[1])),
    )
