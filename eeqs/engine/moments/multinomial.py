"""Multinomial logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.linear_index import Indices
from eeqs.engine.moments.design import Regression, regression_columns, regression_names, stack_regression, weighted
from eeqs.engine.moments.formula import with_formula
from eeqs.engine.moments.regression import zero_start
from eeqs.engine.psi import EstimatingFunction, from_linear_indices

__all__ = ["multinomial_logit"]


@with_formula
def multinomial_logit(
    y: str,
    x: Sequence[str],
    categories: Sequence[float],
    *,
    intercept: bool = True,
    offset: str | None = None,
    weights: str | None = None,
) -> EstimatingFunction:
    r"""Multinomial logit: :math:`\psi_{ic} = (1\{y_i = c\} - p_{ic})\, x_i` for every category c but the first,

    with :math:`p_{ic} \propto \exp(o_i + x_i^\top \beta_c)` and :math:`\beta` of the first category zero.

    Parameters
    ----------
    y : str
        Response column of numeric category codes.
    x : sequence of str
        Regressor columns.
    categories : sequence of numbers
        All codes, the reference first. Parameters are named ``code:regressor``, category by category.
    intercept, weights
        As in `least_squares`.
    offset : str, optional
        Column added to the index of every category but the reference.

    Raises
    ------
    DataError
        When solved on a response with another code, or from the default start on one without one of them.
    ValueError
        If there are fewer than two categories, two are equal, or one is not a number.

    References
    ----------
    Agresti (2013) Categorical Data Analysis, ch. 8.
    """  # noqa: D400 - the formula is part of the first sentence
    codes = tuple(categories)
    if len(set(codes)) != len(codes) or len(codes) < 2 or any(isinstance(code, str) for code in codes):
        raise ValueError(f"categories are {list(codes)}; pass at least two different numbers, the reference first.")
    others = codes[1:]

    def matches(response: Tensor) -> Tensor:
        return response.unsqueeze(-1) == torch.tensor(codes, dtype=response.dtype, device=response.device)

    def validate(response: Tensor) -> None:
        strange = ~matches(response).any(dim=-1).reshape(-1)
        if bool(strange.any()):
            row = int(strange.nonzero()[0])
            raise DataError(f'response "{y}" has the value {float(response.reshape(-1)[row])}, not in {list(codes)}.')

    def start(data: Regression) -> Tensor:
        absent = (~matches(data[0]).any(dim=-2)).reshape(-1, len(codes)).any(dim=0)
        if bool(absent.any()):  # of the whole response: one batch of a stream may lack a category
            raise DataError(
                f'response "{y}" never has the value {codes[int(absent.nonzero()[0])]}; drop that category, or pass '
                "theta0 if only the first batch of a stream lacks it."
            )
        return torch.cat([zero_start(data)] * len(others), dim=-1)

    def residuals(indices: Indices, data: Any) -> Indices:
        shift = data[2] if len(data) == 3 else torch.zeros_like(indices[0])
        logits = torch.stack([torch.zeros_like(shift), *(index + shift for index in indices)])
        mean = torch.softmax(logits, dim=0)
        return tuple((data[0] == code).to(mean.dtype) - mean[c] for c, code in enumerate(others, 1))

    names = regression_names(x, intercept)
    psi = from_linear_indices(
        residuals,
        lambda data: (data[1],) * len(others),
        names=tuple(f"{code}:{name}" for code in others for name in names),
        columns=regression_columns(y, x, offset),
        prepare=lambda leaves: stack_regression(leaves, y, x, intercept, validate, offset),
        start=start,
    )
    return weighted(psi, weights)
