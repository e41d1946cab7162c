r"""Upper tail of the Poisson law on the log scale, in a form whose derivatives keep their digits too."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["log_poisson_tail"]


def log_poisson_tail(log_rate: Tensor, count: int) -> Tensor:
    r"""Compute :math:`\log P(Y \ge m)` for a Poisson Y of rate :math:`\lambda`, as a function of its logarithm.

    Parameters
    ----------
    log_rate : Tensor of any shape
        The logarithm of :math:`\lambda`; the rate itself may underflow but not overflow.
    count : int
        m, at least 1.

    Returns
    -------
    Tensor of the same shape

    Notes
    -----
    With :math:`\lambda < m` the tail is its first term times a confluent hypergeometric series of positive terms,

    .. math:: P(Y \ge m) = e^{-\lambda} \frac{\lambda^m}{m!} \sum_{i \ge 0} \frac{\lambda^i}{(m+1) \cdots (m+i)},

    and else one minus the lower tail, a finite sum of the same kind. Neither cancels, and neither do the derivatives,
    which automatic differentiation takes term by term; the closed form of the slope, :math:`m\, p(m) / P(Y \ge m)`, is
    m to rounding when the rate is tiny and would leave no curvature. The number of terms grows as :math:`\sqrt m`.

    References
    ----------
    Abramowitz & Stegun (1964) 6.5.13, 6.5.29.
    """
    # Plain operations, as the nested forward-mode derivatives of a torch.autograd.Function are silently zero.
    edge = math.log(count)
    # Each branch sees an argument from its own side of the edge, so that neither overflows, nor do its derivatives.
    rare = _from_upper_terms(log_rate.clamp_max(edge), count)
    frequent = _from_lower_terms(log_rate.clamp_min(edge), count)
    return torch.where(log_rate < edge, rare, frequent)


def _most_terms(count: int) -> int:
    # With the rate at m, term i is about exp(-i^2 / 2m): past this many, less than 1e-16 of the sum is left.
    return 20 + math.ceil(8.5 * math.sqrt(count))


def _from_upper_terms(log_rate: Tensor, count: int) -> Tensor:
    rate = log_rate.exp()
    one, total = rate.new_ones(()), torch.ones_like(rate)
    for i in range(_most_terms(count), 0, -1):
        total = torch.addcmul(one, rate, total, value=1 / (count + i))
    return count * log_rate - rate - math.lgamma(count + 1) + total.log()


def _from_lower_terms(log_rate: Tensor, count: int) -> Tensor:
    rate = log_rate.exp()
    inverse, one, total = rate.reciprocal(), rate.new_ones(()), torch.ones_like(rate)
    for i in range(min(_most_terms(count), count - 1), 0, -1):
        total = torch.addcmul(one, inverse, total, value=count - i)
    log_lower = (count - 1) * log_rate - rate - math.lgamma(count) + total.log()
    return torch.log1p(-log_lower.exp())
