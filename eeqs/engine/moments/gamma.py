"""Gamma regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.linear_index import Indices
from eeqs.engine.moments import links
from eeqs.engine.moments.design import Regression, weighted
from eeqs.engine.moments.dispersion import LEAST_VARIANCE, closest, mean_index, offset_or_zero, shifted, two_indices
from eeqs.engine.moments.formula import with_formula
from eeqs.engine.moments.scoring import Curve, ascend
from eeqs.engine.moments.special import digamma_gap, log_remainder
from eeqs.engine.psi import EstimatingFunction

__all__ = ["gamma"]


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
        index, log_shape = shifted(indices, data)
        mean = link.mean(index)
        excess = (data[0] - mean) / mean
        deviance = log_remainder(excess, (data[0] / mean).log())
        return excess / mean * link.slope(index), digamma_gap(log_shape.exp()) + deviance

    def curve(index: Tensor, response: Tensor) -> Curve:
        mean = link.mean(index)
        excess, relative = (response - mean) / mean, link.slope(index) / mean
        return Curve(log_remainder(excess, (response / mean).log()), excess * relative, relative.square())

    def start(data: Regression) -> Tensor:
        level = link.index(data[0].mean(dim=-1, keepdim=True)).expand_as(data[0])
        theta = ascend(lambda index: curve(index, data[0]), data[1], offset_or_zero(data), closest(data, level))
        deviance = -curve(mean_index(data, theta), data[0]).value.mean(dim=-1, keepdim=True)
        return torch.cat([theta, -(2 * deviance.clamp_min(LEAST_VARIANCE)).log()], dim=-1)

    def validate(response: Tensor) -> None:
        if bool((response <= 0).any()):
            raise DataError(f'response "{y}" has values of zero or less; it must be positive.')

    return weighted(two_indices(residuals, start, y, x, intercept, offset, "log(shape)", validate), weights)
