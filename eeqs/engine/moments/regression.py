"""Regressions with a linear index: residual times design."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.moments.design import (
    Regression,
    offset_of,
    regression_columns,
    regression_names,
    stack_regression,
    weighted,
)
from eeqs.engine.moments.formula import with_formula
from eeqs.engine.moments.special import inverse_mills
from eeqs.engine.psi import EstimatingFunction, from_linear_index

__all__ = ["least_squares", "logit", "poisson", "probit"]

# A residual, or its slope, as a function of index and response (n,).
Curve = Callable[[Tensor, Tensor], Tensor]


@with_formula
def least_squares(
    y: str, x: Sequence[str], *, intercept: bool = True, offset: str | None = None, weights: str | None = None
) -> EstimatingFunction:
    r"""Linear regression: :math:`\psi_i = (y_i - o_i - x_i^\top \beta)\, x_i`; weighted least squares with ``weights``.

    Parameters
    ----------
    y : str
        Response column.
    x : sequence of str
        Regressor columns.
    intercept : bool
        Put a constant, named ``Intercept``, first.
    offset : str, optional
        Column added to the index with coefficient one.
    weights : str, optional
        Column of probability, analytic or importance weights; see `eeqs.weight`.
    """
    curves = (lambda index, y: y - index, lambda index, y: torch.full_like(index, -1.0))  # noqa: ARG005
    return _regression(curves, y, x, intercept, offset, weights)


@with_formula
def logit(
    y: str, x: Sequence[str], *, intercept: bool = True, offset: str | None = None, weights: str | None = None
) -> EstimatingFunction:
    r"""Logistic regression: :math:`\psi_i = (y_i - \mathrm{expit}(x_i^\top \beta + o_i))\, x_i`.

    Parameters
    ----------
    y : str
        Response column, 0/1 or a proportion in [0, 1].
    x, intercept, offset, weights
        As in `least_squares`.

    Raises
    ------
    DataError
        When solved on a response outside [0, 1].
    """

    def slope(index: Tensor, _: Tensor) -> Tensor:
        mean = torch.sigmoid(index)
        return mean * (mean - 1)

    curves = (lambda index, y: y - torch.sigmoid(index), slope)
    return _regression(curves, y, x, intercept, offset, weights, _proportion(y))


@with_formula
def probit(
    y: str, x: Sequence[str], *, intercept: bool = True, offset: str | None = None, weights: str | None = None
) -> EstimatingFunction:
    r"""Probit regression: the score :math:`\psi_i = \lambda_i x_i` of a response 0/1 (or a proportion) with mean
    :math:`\Phi(\eta_i)`, :math:`\eta_i = x_i^\top \beta + o_i`, where
    :math:`\lambda_i = y_i\, \phi(\eta_i) / \Phi(\eta_i) - (1 - y_i)\, \phi(\eta_i) / \Phi(-\eta_i)`.

    Parameters
    ----------
    y : str
        Response column, 0/1 or a proportion in [0, 1].
    x, intercept, offset, weights
        As in `least_squares`.

    Raises
    ------
    DataError
        When solved on a response outside [0, 1].
    """  # noqa: D205 - the formula belongs to the summary

    def residual(index: Tensor, y: Tensor) -> Tensor:
        return y * inverse_mills(index)[0] - (1 - y) * inverse_mills(-index)[0]

    def slope(index: Tensor, y: Tensor) -> Tensor:
        (up, up_gap), (down, down_gap) = inverse_mills(index), inverse_mills(-index)
        return -y * up * up_gap - (1 - y) * down * down_gap

    return _regression((residual, slope), y, x, intercept, offset, weights, _proportion(y))


@with_formula
def poisson(
    y: str, x: Sequence[str], *, intercept: bool = True, offset: str | None = None, weights: str | None = None
) -> EstimatingFunction:
    r"""Poisson regression with log link: :math:`\psi_i = (y_i - e^{x_i^\top \beta + o_i})\, x_i`.

    Consistent for a log-linear mean whatever the distribution of y, with sandwich standard errors.

    Parameters
    ----------
    y : str
        Response column, non-negative.
    x, intercept, offset, weights
        As in `least_squares`; the offset is the logarithm of an exposure.

    Raises
    ------
    DataError
        When solved on a negative response, or from the default start on one that is zero throughout.
    """

    def validate(response: Tensor) -> None:
        if bool((response < 0).any()):
            raise DataError(f'response "{y}" has negative values; counts and rates are non-negative.')

    def start(data: Regression) -> Tensor:
        require_some(data[0], y)
        return log_mean_start(data)

    curves = (lambda index, y: y - torch.exp(index), lambda index, y: -torch.exp(index))  # noqa: ARG005
    return _regression(curves, y, x, intercept, offset, weights, validate, start)


def require_some(response: Tensor, y: str) -> None:
    """Raise where a response with a log mean is zero throughout; a batch of a stream may be, so only for a start."""
    if bool((response == 0).all(dim=-1).any()):
        raise DataError(
            f'response "{y}" is zero throughout, so its log mean is minus infinity; if only the first batch of a '
            "stream is, pass theta0."
        )


def log_mean_start(data: Regression) -> Tensor:
    """Least-squares coefficients of the constant log mean: near the intercept-only fit in any units of x."""
    response, design = data[:2]
    shift = data[2] if len(data) == 3 else torch.zeros_like(response)
    level = response.sum(dim=-1, keepdim=True).log() - shift.logsumexp(dim=-1, keepdim=True)
    return torch.linalg.lstsq(design, level.expand_as(response).unsqueeze(-1)).solution.squeeze(-1)


def zero_start(data: Regression) -> Tensor:
    """Zeros (p,)."""
    return torch.zeros_like(data[1][..., 0, :])


def _proportion(y: str) -> Callable[[Tensor], None]:
    def validate(response: Tensor) -> None:
        if bool(((response < 0) | (response > 1)).any()):
            raise DataError(f'response "{y}" has values outside [0, 1]; code it as 0/1 or as a proportion.')

    return validate


def _regression(
    curves: tuple[Curve, Curve],
    y: str,
    x: Sequence[str],
    intercept: bool,
    offset: str | None,
    weights: str | None,
    validate: Callable[[Tensor], None] | None = None,
    start: Callable[[Regression], Tensor] = zero_start,
) -> EstimatingFunction:
    residual, slope = curves
    psi = from_linear_index(
        lambda index, data: residual(offset_of(index, data), data[0]),
        lambda data: data[1],
        slope=lambda index, data: slope(offset_of(index, data), data[0]),
        names=regression_names(x, intercept),
        columns=regression_columns(y, x, offset),
        prepare=lambda leaves: stack_regression(leaves, y, x, intercept, validate, offset),
        start=start,
    )
    return weighted(psi, weights)
