r"""Regressions with a second parameter beside the mean: gamma, beta and negative binomial.

Each is the score of its likelihood with two linear indices: the mean's, and a constant one for the logarithm of the
dispersion parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from eeqs.engine.errors import DataError
from eeqs.engine.linear_index import Indices
from eeqs.engine.moments import links
from eeqs.engine.moments.design import (
    Regression,
    regression_columns,
    regression_names,
    stack_regression,
    weighted,
)
from eeqs.engine.moments.formula import with_formula
from eeqs.engine.moments.regression import require_some
from eeqs.engine.moments.special import digamma_gap, digamma_remainder, log_remainder
from eeqs.engine.psi import EstimatingFunction, from_linear_indices

__all__ = ["beta", "gamma", "negative_binomial"]

# Relative variance of the response about the mean to start from where the regressors explain all of it.
_LEAST = 1e-12


@with_formula
def gamma(
    y: str,
    x: Sequence[str],
    *,
    link: links.Link = links.log,
    intercept: bool = True,
    offset: str | None = None,
    weights: str | None = None,
) -> EstimatingFunction:
    r"""Gamma regression with shape :math:`\alpha`, the same for all observations:

    .. math:: \psi_i = \Big(\frac{y_i - \mu_i}{\mu_i^2}\, \mu'(\eta_i)\, x_i,\
              \log \alpha - \digamma(\alpha) + 1 + \log \frac{y_i}{\mu_i} - \frac{y_i}{\mu_i}\Big).

    Parameters
    ----------
    y : str
        Response column, positive.
    x, intercept, offset, weights
        As in `least_squares`.
    link : Link
        ``moments.links.log``, ``inverse`` (the canonical link up to sign) or ``identity``.

    Notes
    -----
    The last parameter is ``log(shape)``. The coefficients do not depend on the shape, and their sandwich is right for
    any distribution with that mean.

    References
    ----------
    McCullagh & Nelder (1989) Generalized Linear Models, ch. 8; Venables & Ripley (2002) section 7.6 for the shape.
    """  # noqa: D400 - the formula is part of the first sentence
    if not isinstance(link, links.Link):
        raise TypeError(f"link is {link!r}; pass moments.links.log, inverse or identity.")

    def residuals(indices: Indices, data: Any) -> Indices:
        index, log_shape = _shifted(indices, data)
        mean = link.mean(index)
        excess = (data[0] - mean) / mean
        deviance = log_remainder(excess, (data[0] / mean).log())
        return excess / mean * link.slope(index), digamma_gap(log_shape.exp()) + deviance

    def start(data: Regression) -> Tensor:
        level = link.index(data[0])
        near = _least_squares(data, level, link.slope(level).abs() / data[0])
        flat = _least_squares(data, link.index(data[0].mean(-1, keepdim=True)).expand_as(level))
        possible = (link.mean(_index(data, near)) > 0).all(dim=-1, keepdim=True)
        theta = torch.where(possible, near, flat)
        mean = link.mean(_index(data, theta))
        gap = -log_remainder((data[0] - mean) / mean, (data[0] / mean).log()).mean(-1, keepdim=True)
        return torch.cat([theta, -(2 * gap.clamp_min(_LEAST)).log()], dim=-1)

    return weighted(_two_indices(residuals, start, y, x, intercept, offset, "log(shape)", _positive(y)), weights)


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
        (index, log_precision), y = _shifted(indices, data), data[0]
        precision, up, down = log_precision.exp(), torch.sigmoid(index), torch.sigmoid(-index)
        # With digamma(a) = log(a) - gap(a) the logarithms combine to index and deviance, and nothing cancels.
        first, second = digamma_gap(up * precision), digamma_gap(down * precision)
        centred = torch.logit(y) - index + first - second
        high = log_remainder((y - up) / up, y.log() - logsigmoid(index))
        low = log_remainder((up - y) / down, torch.log1p(-y) - logsigmoid(-index))
        dispersion = up * (high + first) + down * (low + second) - digamma_gap(precision)
        return precision * centred * up * down, precision * dispersion

    def start(data: Regression) -> Tensor:
        theta = _least_squares(data, torch.logit(data[0]))
        mean = torch.sigmoid(_index(data, theta))
        ratio = (data[0] - mean).square() / (mean * (1 - mean)).clamp_min(_LEAST)
        precision = (1 / ratio.mean(-1, keepdim=True).clamp_min(_LEAST) - 1).clamp_min(0.1)
        return torch.cat([theta, precision.log()], dim=-1)

    def validate(response: Tensor) -> None:
        if bool(((response <= 0) | (response >= 1)).any()):
            raise DataError(f'response "{y}" has values outside (0, 1); beta regression needs them strictly inside.')

    return weighted(_two_indices(residuals, start, y, x, intercept, offset, "log(precision)", validate), weights)


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
    and the solver says that the equation vanishes.

    References
    ----------
    Cameron & Trivedi (2013) Regression Analysis of Count Data, section 3.3.
    """

    def residuals(indices: Indices, data: Any) -> Indices:
        index, log_alpha = _shifted(indices, data)
        y, alpha, mean = data[0], log_alpha.exp(), index.exp()
        nu, spread, own = 1 / alpha, 1 + alpha * mean, 1 + alpha * y
        first = (y - mean) / spread
        # With digamma(a) = log(a) - 1 / (2 a) - remainder(a), terms of order one that cancel to order alpha drop out.
        excess = alpha * (mean - y) / own
        overdispersed = nu * log_remainder(excess, excess.log1p()) + excess * (mean - y) / spread
        second = overdispersed - alpha * y / (2 * own) - nu * (digamma_remainder(nu) - digamma_remainder(y + nu))
        return first, second

    def start(data: Regression) -> Tensor:
        require_some(data[0], y)
        theta = _least_squares(data, (data[0] + 0.5).log())
        mean = data[0].mean(-1, keepdim=True)
        alpha = ((data[0].var(-1, keepdim=True, correction=0) - mean) / mean.square()).clamp_min(0.05)
        return torch.cat([theta, alpha.log()], dim=-1)

    def validate(response: Tensor) -> None:
        if bool(((response < 0) | (response != response.round())).any()):
            raise DataError(f'response "{y}" has values that are not counts 0, 1, 2, ...')

    return weighted(_two_indices(residuals, start, y, x, intercept, offset, "log(alpha)", validate), weights)


def _positive(y: str) -> Callable[[Tensor], None]:
    def validate(response: Tensor) -> None:
        if bool((response <= 0).any()):
            raise DataError(f'response "{y}" has values of zero or less; it must be positive.')

    return validate


def _shifted(indices: Indices, data: Any) -> tuple[Tensor, Tensor]:
    """Index of the mean with its offset, and that of the dispersion."""
    return (indices[0] if len(data) == 3 else indices[0] + data[3]), indices[1]


def _index(data: Regression, theta: Tensor) -> Tensor:
    """Linear index of the mean with its offset, (..., n)."""
    index = (data[1] @ theta.unsqueeze(-1)).squeeze(-1)
    return index if len(data) == 3 else index + data[3]


def _least_squares(data: Regression, level: Tensor, scale: Tensor | None = None) -> Tensor:
    """Coefficients of the least-squares fit to a transformed response, rows times ``scale``."""
    design, target = data[1], level if len(data) == 3 else level - data[3]
    if scale is not None:
        design, target = scale.unsqueeze(-1) * design, scale * target
    return torch.linalg.lstsq(design, target.unsqueeze(-1)).solution.squeeze(-1)


def _two_indices(
    residuals: Callable[[Indices, Any], Indices],
    start: Callable[[Regression], Tensor],
    y: str,
    x: Sequence[str],
    intercept: bool,
    offset: str | None,
    dispersion: str,
    validate: Callable[[Tensor], None],
) -> EstimatingFunction:
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
