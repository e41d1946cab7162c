"""Families of responses for generalised estimating equations: mean, slope and variance along the linear index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from eeqs.engine.moments.design import Regression
from eeqs.engine.moments.regression import log_mean_start, zero_start

__all__ = ["Family", "binomial", "gaussian", "poisson"]

Curve = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Family:
    r"""A mean function and a variance function of the linear index :math:`\eta` (n,).

    Attributes
    ----------
    mean, slope, variance : callable
        :math:`\mu(\eta)`, :math:`d\mu / d\eta` and the variance up to the dispersion, each (n,) -> (n,).
    possible : callable
        Which responses (n,) the family allows, bool (n,).
    range : str
        Those responses in words, for messages.
    start : callable
        Start of the coefficients (p,) from response, design and offset.
    """

    mean: Curve
    slope: Curve
    variance: Curve
    possible: Curve
    range: str
    start: Callable[[Regression], Tensor] = zero_start


def _bernoulli_variance(index: Tensor) -> Tensor:
    return torch.sigmoid(index) * torch.sigmoid(-index)  # mu (1 - mu) is zero in float64 already at an index of 37


gaussian = Family(lambda index: index, torch.ones_like, torch.ones_like, torch.isfinite, "finite")
binomial = Family(
    torch.sigmoid, _bernoulli_variance, _bernoulli_variance, lambda y: (y >= 0) & (y <= 1), "between 0 and 1"
)
poisson = Family(torch.exp, torch.exp, torch.exp, lambda y: y >= 0, "non-negative", log_mean_start)
