"""Negative binomial regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.linear_index import Indices
from eeqs.engine.moments.design import Regression, weighted
from eeqs.engine.moments.dispersion import closest, mean_index, offset_or_zero, shifted, two_indices
from eeqs.engine.moments.formula import with_formula
from eeqs.engine.moments.regression import require_some
from eeqs.engine.moments.scoring import Curve, ascend
from eeqs.engine.moments.special import digamma_remainder, log_remainder
from eeqs.engine.psi import EstimatingFunction

__all__ = ["negative_binomial"]

# Overdispersion to start from where the data show less.
_LEAST_ALPHA = 0.05


@with_formula
def negative_binomial(
    y: str, x: Sequence[str], *, intercept: bool = True, offset: str | None = None, weights: str | None = None
) -> EstimatingFunction:
    r"""Negative binomial regression (NB2): log mean :math:`\mu`, variance :math:`\mu + \alpha \mu^2`.

    The score, with :math:`\nu = 1/\alpha`:

    .. math:: \psi_i = \Big(\frac{y_i - \mu_i}{1 + \alpha \mu_i}\, x_i,\
              \nu \Big[\digamma(\nu) - \digamma(y_i + \nu) + \log(1 + \alpha \mu_i)\Big]
              + \frac{y_i - \mu_i}{1 + \alpha \mu_i}\Big).

    Parameters
    ----------
    y : str
        Response column of counts.
    x, intercept, offset, weights
        As in `least_squares`.

    Notes
    -----
    The last parameter is ``log(alpha)``. Data without overdispersion have no root: log(alpha) runs to minus infinity,
    its equation vanishes for every observation, and the status is ``degenerate``. `poisson`, with sandwich errors, is
    the model for them.

    References
    ----------
    Cameron & Trivedi (2013) Regression Analysis of Count Data, section 3.3.
    """

    def residuals(indices: Indices, data: Any) -> Indices:
        index, log_alpha = shifted(indices, data)
        y, alpha, mean = data[0], log_alpha.exp(), index.exp()
        nu, spread, own = 1 / alpha, 1 + alpha * mean, 1 + alpha * y
        first = (y - mean) / spread
        # With digamma(a) = log(a) - 1 / (2 a) - remainder(a), terms of order one that cancel to order alpha drop out.
        excess = alpha * (mean - y) / own
        overdispersed = nu * log_remainder(excess, excess.log1p()) + excess * (mean - y) / spread
        second = overdispersed - alpha * y / (2 * own) - nu * (digamma_remainder(nu) - digamma_remainder(y + nu))
        return first, second

    def climb(data: Regression, theta: Tensor) -> Tensor:
        """Coefficients at the alpha of moments about the means of theta, and its logarithm."""
        mean = mean_index(data, theta).exp()
        excess = ((data[0] - mean).square() - data[0]).sum(dim=-1, keepdim=True)
        alpha = (excess / mean.square().sum(dim=-1, keepdim=True)).clamp_min(_LEAST_ALPHA)

        def curve(index: Tensor) -> Curve:
            mean = index.exp()
            value = data[0] * index - (data[0] + 1 / alpha) * torch.log1p(alpha * mean)
            return Curve(value, (data[0] - mean) / (1 + alpha * mean), mean / (1 + alpha * mean))

        return torch.cat([ascend(curve, data[1], offset_or_zero(data), theta), alpha.log()], dim=-1)

    def start(data: Regression) -> Tensor:
        require_some(data[0], y)
        level = data[0].mean(dim=-1, keepdim=True).log().expand_as(data[0])
        return climb(data, climb(data, closest(data, level))[..., :-1])

    def validate(response: Tensor) -> None:
        if bool(((response < 0) | (response != response.round())).any()):
            raise DataError(f'response "{y}" has values that are not counts 0, 1, 2, ...')

    return weighted(two_indices(residuals, start, y, x, intercept, offset, "log(alpha)", validate), weights)
