r"""What regressions with a second parameter beside the mean share: gamma, beta and negative binomial.

Each is the score of its likelihood with two linear indices: the mean's, and a constant one for the logarithm of the
dispersion parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.linear_index import Indices
from eeqs.engine.moments.design import Regression, regression_columns, regression_names, stack_regression
from eeqs.engine.psi import EstimatingFunction, from_linear_indices

__all__ = ["LEAST_VARIANCE", "closest", "mean_index", "offset_or_zero", "shifted", "two_indices"]

# Relative variance of the response about the mean to start from where the regressors explain all of it.
LEAST_VARIANCE = 1e-12


def shifted(indices: Indices, data: Any) -> tuple[Tensor, Tensor]:
    """Index of the mean with its offset, and that of the dispersion."""
    return (indices[0] if len(data) == 3 else indices[0] + data[3]), indices[1]


def offset_or_zero(data: Regression) -> Tensor:
    """Offset (..., n)."""
    return torch.zeros_like(data[0]) if len(data) == 3 else data[3]


def mean_index(data: Regression, theta: Tensor) -> Tensor:
    """Linear index of the mean with its offset, (..., n)."""
    index = (data[1] @ theta.unsqueeze(-1)).squeeze(-1)
    return index if len(data) == 3 else index + data[3]


def closest(data: Regression, level: Tensor) -> Tensor:
    """Coefficients (..., p) whose linear index is closest to ``level``."""
    target = level if len(data) == 3 else level - data[3]
    return torch.linalg.lstsq(data[1], target.unsqueeze(-1)).solution.squeeze(-1)


def two_indices(
    residuals: Callable[[Indices, Any], Indices],
    start: Callable[[Regression], Tensor],
    y: str,
    x: Sequence[str],
    intercept: bool,
    offset: str | None,
    dispersion: str,
    validate: Callable[[Tensor], None],
) -> EstimatingFunction:
    """Regression with an index for the mean and the parameter ``dispersion``.

    Prepared data are response, design, a column of ones and, where there is one, the offset.
    """

    def prepare(leaves: Any) -> Regression:
        response, design, *shift = stack_regression(leaves, y, x, intercept, validate, offset)
        return (response, design, torch.ones_like(response).unsqueeze(-1), *shift)

    return from_linear_indices(
        residuals,
        lambda data: (data[1], data[2]),
        names=(*regression_names(x, intercept), dispersion),
        columns=regression_columns(y, x, offset),
        prepare=prepare,
        start=start,
    )
