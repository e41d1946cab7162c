"""Means, variances and ratios of means."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from eeqs.engine.data import Leaves
from eeqs.engine.errors import DataError
from eeqs.engine.moments.design import require_flat
from eeqs.engine.psi import EstimatingFunction, from_linear_index

__all__ = ["mean", "ratio", "variance"]


def mean(*columns: str) -> EstimatingFunction:
    r"""Means of one or more columns: :math:`\psi_i = y_i - \mu`.

    Parameters
    ----------
    *columns : str
        The columns; one parameter ``mean[column]`` each.
    """
    _require(columns)

    def start(data: Tensor) -> Tensor:
        return data.mean(dim=-2)

    def psi(theta: Tensor, data: Tensor) -> Tensor:
        return data - theta

    names = tuple(f"mean[{column}]" for column in columns)
    return EstimatingFunction(psi, names, columns, _stacker(columns), start)


def variance(*columns: str) -> EstimatingFunction:
    r"""Means and variances: :math:`\psi_i = (y_i - \mu,\ (y_i - \mu)^2 - \sigma^2)`.

    The root divides by n, as an estimating equation does, not by n - 1.

    Parameters
    ----------
    *columns : str
        The columns; parameters ``mean[column]`` for all of them, then ``variance[column]``.
    """
    _require(columns)

    def start(data: Tensor) -> Tensor:
        return torch.cat([data.mean(dim=-2), data.var(dim=-2, correction=0)], dim=-1)

    def psi(theta: Tensor, data: Tensor) -> Tensor:
        centred = data - theta[: len(columns)]
        return torch.cat([centred, centred.square() - theta[len(columns) :]], dim=-1)

    names = tuple(f"{what}[{column}]" for what in ("mean", "variance") for column in columns)
    return EstimatingFunction(psi, names, columns, _stacker(columns), start)


def ratio(numerator: str, denominator: str) -> EstimatingFunction:
    r"""Ratio of two means: :math:`\psi_i = y_i - \theta x_i`, whose root is :math:`\bar y / \bar x`.

    Parameters
    ----------
    numerator, denominator : str
        The columns y and x; the parameter is ``ratio[y/x]``.

    Raises
    ------
    DataError
        When solved from the default start on a denominator whose mean is zero.

    References
    ----------
    Boos & Stefanski (2013) Essential Statistical Inference, section 7.2.3.
    """

    def start(data: Tensor) -> Tensor:
        totals = data.sum(dim=-2)
        if bool((totals[..., 1] == 0).any()):
            raise DataError(f'denominator "{denominator}" has mean zero, so the ratio does not exist.')
        return totals[..., :1] / totals[..., 1:]

    return from_linear_index(
        lambda index, data: data[..., 0] - index,
        lambda data: data[..., 1:],
        instruments=lambda data: torch.ones_like(data[..., 1:]),
        slope=lambda index, data: torch.full_like(index, -1.0),  # noqa: ARG005
        names=(f"ratio[{numerator}/{denominator}]",),
        columns=(numerator, denominator) if numerator != denominator else (numerator,),
        prepare=_stacker((numerator, denominator)),
        start=start,
    )


def _require(columns: tuple[str, ...]) -> None:
    if not columns:
        raise ValueError("name at least one column.")


def _stacker(columns: tuple[str, ...]) -> Callable[[Leaves], Tensor]:
    def prepare(leaves: Leaves) -> Tensor:
        assert isinstance(leaves, dict)  # noqa: S101 - for the type checker: named columns were asked for
        require_flat(leaves, columns)
        return torch.stack([leaves[column] for column in columns], dim=-1)

    return prepare
