"""Beta regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from eeqs.engine.errors import DataError
from eeqs.engine.linear_index import Indices
from eeqs.engine.moments.design import Regression, weighted
from eeqs.engine.moments.dispersion import LEAST_VARIANCE, mean_index, offset_or_zero, shifted, two_indices
from eeqs.engine.moments.formula import with_formula
from eeqs.engine.moments.scoring import Curve, ascend
from eeqs.engine.moments.special import digamma_gap, log_remainder
from eeqs.engine.psi import EstimatingFunction

__all__ = ["beta"]


@with_formula
def beta(
    y: str, x: Sequence[str], *, intercept: bool = True, offset: str | None = None, weights: str | None = None
) -> EstimatingFunction:
    r"""Beta regression for a response in (0, 1), with logit mean :math:`\mu` and precision :math:`\varphi`.

    The score of the density with parameters :math:`\mu\varphi` and :math:`(1 - \mu)\varphi`:

    .. math:: \psi_i = \big(\varphi\, (y_i^* - \mu_i^*)\, \mu_i (1 - \mu_i)\, x_i,\
              \varphi\, [\mu_i (y_i^* - \mu_i^*) + \log(1 - y_i) - \digamma((1 - \mu_i)\varphi)
              + \digamma(\varphi)]\big),

    with :math:`y^* = \mathrm{logit}(y)` and :math:`\mu^* = \digamma(\mu\varphi) - \digamma((1 - \mu)\varphi)`.

    Parameters
    ----------
    y : str
        Response column, strictly between 0 and 1.
    x, intercept, offset, weights
        As in `least_squares`.

    Notes
    -----
    The last parameter is ``log(precision)``.

    References
    ----------
    Ferrari & Cribari-Neto (2004) Journal of Applied Statistics 31.
    """

    def residuals(indices: Indices, data: Any) -> Indices:
        (index, log_precision), y = shifted(indices, data), data[0]
        precision, up, down = log_precision.exp(), torch.sigmoid(index), torch.sigmoid(-index)
        # With digamma(a) = log(a) - gap(a) the logarithms combine to index and deviance, and nothing cancels.
        first, second = digamma_gap(up * precision), digamma_gap(down * precision)
        centred = torch.logit(y) - index + first - second
        high = log_remainder((y - up) / up, y.log() - logsigmoid(index))
        low = log_remainder((up - y) / down, torch.log1p(-y) - logsigmoid(-index))
        dispersion = up * (high + first) + down * (low + second) - digamma_gap(precision)
        return precision * centred * up * down, precision * dispersion

    def start(data: Regression) -> Tensor:
        y, design, shift = data[0], data[1], offset_or_zero(data)
        theta = ascend(lambda index: _binomial(index, y), design, shift, torch.zeros_like(design[..., 0, :]))
        precision = _pearson(mean_index(data, theta), y)
        theta = ascend(lambda index: _curve(index, y, precision), design, shift, theta)
        return torch.cat([theta, _pearson(mean_index(data, theta), y).log()], dim=-1)

    def validate(response: Tensor) -> None:
        if bool(((response <= 0) | (response >= 1)).any()):
            raise DataError(f'response "{y}" has values outside (0, 1); beta regression needs them strictly inside.')

    return weighted(two_indices(residuals, start, y, x, intercept, offset, "log(precision)", validate), weights)


def _binomial(index: Tensor, response: Tensor) -> Curve:
    """Quasi-likelihood of the mean, which does not ask for the precision."""
    up, down = torch.sigmoid(index), torch.sigmoid(-index)
    return Curve(response * index + logsigmoid(-index), response - up, up * down)


def _pearson(index: Tensor, response: Tensor) -> Tensor:
    """Precision that matches the squared residuals."""
    _, residual, variance = _binomial(index, response)
    ratio = (residual.square() / variance.clamp_min(LEAST_VARIANCE)).mean(dim=-1, keepdim=True)
    return (1 / ratio.clamp_min(LEAST_VARIANCE) - 1).clamp_min(0.1)


def _curve(index: Tensor, response: Tensor, precision: Tensor) -> Curve:
    """Likelihood of the mean at a given precision."""
    up, down = torch.sigmoid(index), torch.sigmoid(-index)
    first, second, slope = up * precision, down * precision, up * down * precision
    centred = torch.logit(response) - index + digamma_gap(first) - digamma_gap(second)
    value = first * torch.logit(response) - torch.lgamma(first) - torch.lgamma(second)
    return Curve(value, slope * centred, slope.square() * (torch.polygamma(1, first) + torch.polygamma(1, second)))
