"""Regressions with a linear index: residual times design."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.moments.design import Regression, regression_columns, regression_names, stack_regression
from eeqs.engine.psi import EstimatingFunction, from_linear_index

__all__ = ["least_squares", "logit", "poisson"]


def least_squares(y: str, x: Sequence[str], *, intercept: bool = True) -> EstimatingFunction:
    r"""Linear regression: :math:`\psi_i = (y_i - x_i^\top \beta)\, x_i`.

    Parameters
    ----------
    y : str
        Response column.
    x : sequence of str
        Regressor columns.
    intercept : bool
        Put a constant, named ``Intercept``, first.
    """
    return _regression(lambda index, data: data[0] - index, y, x, intercept)


def logit(y: str, x: Sequence[str], *, intercept: bool = True) -> EstimatingFunction:
    r"""Logistic regression: :math:`\psi_i = (y_i - \mathrm{expit}(x_i^\top \beta))\, x_i`.

    Parameters
    ----------
    y : str
        Response column, 0/1 or a proportion in [0, 1].
    x : sequence of str
        Regressor columns.
    intercept : bool
        Put a constant, named ``Intercept``, first.

    Raises
    ------
    DataError
        When solved on a response outside [0, 1].
    """

    def validate(response: Tensor) -> None:
        if bool(((response < 0) | (response > 1)).any()):
            raise DataError(f'response "{y}" has values outside [0, 1]; code it as 0/1 or as a proportion.')

    return _regression(lambda index, data: data[0] - torch.sigmoid(index), y, x, intercept, validate)


def poisson(y: str, x: Sequence[str], *, intercept: bool = True) -> EstimatingFunction:
    r"""Poisson regression with log link: :math:`\psi_i = (y_i - e^{x_i^\top \beta})\, x_i`.

    Consistent for a log-linear mean whatever the distribution of y, with sandwich standard errors.

    Parameters
    ----------
    y : str
        Response column, non-negative.
    x : sequence of str
        Regressor columns.
    intercept : bool
        Put a constant, named ``Intercept``, first.

    Raises
    ------
    DataError
        When solved on a negative response, or one that is zero throughout.
    """

    def validate(response: Tensor) -> None:
        if bool((response < 0).any()):
            raise DataError(f'response "{y}" has negative values; counts and rates are non-negative.')
        if bool((response == 0).all(dim=-1).any()):
            raise DataError(f'response "{y}" is zero throughout, so its log mean is minus infinity.')

    return _regression(lambda index, data: data[0] - torch.exp(index), y, x, intercept, validate, _log_mean_start)


def _log_mean_start(data: Regression) -> Tensor:
    """Least-squares coefficients of the constant log mean: near the intercept-only fit in any units of x."""
    response, design = data
    level = response.mean(dim=-1, keepdim=True).log().expand(response.shape)
    return torch.linalg.lstsq(design, level.unsqueeze(-1)).solution.squeeze(-1)


def _zero_start(data: Regression) -> Tensor:
    return torch.zeros_like(data[1][..., 0, :])


def _regression(
    residual: Callable[[Tensor, Regression], Tensor],
    y: str,
    x: Sequence[str],
    intercept: bool,
    validate: Callable[[Tensor], None] | None = None,
    start: Callable[[Regression], Tensor] = _zero_start,
) -> EstimatingFunction:
    return from_linear_index(
        residual,
        lambda data: data[1],
        names=regression_names(x, intercept),
        columns=regression_columns(y, x),
        prepare=lambda leaves: stack_regression(leaves, y, x, intercept, validate),
        start=start,
    )
