r"""Special functions in forms that keep their digits, and those of their derivatives, far out.

The scores of gamma, beta and negative binomial regression are small differences of logarithms and digamma functions:
at a precision of :math:`10^{10}` the plain formulas have no digit left. Here the parts that cancel are taken out by
hand. All functions work elementwise and under `torch.func`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["digamma_gap", "digamma_remainder", "inverse_mills", "log_remainder"]

# From here on the asymptotic series of digamma is exact to rounding; smaller arguments are moved up by as much.
_LARGE = 10
# Bernoulli numbers B_2k / 2k of that series (Abramowitz & Stegun 6.3.18), from the ninth term down to the first.
_SERIES = (43867 / 14364, -3617 / 8160, 1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12)
# Excess below which log(1 + t) - t is taken from a series of six terms.
_SMALL = 0.1
# Index below which the Mills ratio is a continued fraction of five levels, and above which it is less than 1e-147 and
# held there: erfcx and its derivative overflow.
_FAR, _NOTHING = -30.0, 26.0


def digamma_remainder(a: Tensor) -> Tensor:
    r"""Compute :math:`\log a - 1 / (2 a) - \digamma(a)` for a > 0, close to :math:`1 / (12 a^2)` when a is large."""
    # Not by torch.digamma: its derivative, torch.polygamma, has eight digits.
    large = a > _LARGE
    small = a.clamp_max(_LARGE)
    moved = torch.where(large, a, small + _LARGE)
    x = moved.square().reciprocal()
    series = torch.zeros_like(x)
    for coefficient in _SERIES:
        series = x * (coefficient + series)
    # The sum of 1 / (a + k) for k from 1 to 9, its terms paired about the middle one.
    middle, product = small + _LARGE / 2, small * (small + _LARGE)
    steps = 2 * middle * sum(1 / (product + k * (_LARGE - k)) for k in range(1, _LARGE // 2)) + 1 / middle
    recurrence = (small / moved).log() + 0.5 / small + 0.5 / moved + steps
    return series + torch.where(large, 0.0, recurrence)


def digamma_gap(a: Tensor) -> Tensor:
    r"""Compute :math:`\log a - \digamma(a)` for a > 0, close to :math:`1 / (2 a)` when a is large."""
    return 0.5 / a + digamma_remainder(a)


def log_remainder(excess: Tensor, logarithm: Tensor) -> Tensor:
    r"""Compute :math:`\log(1 + t) - t`, close to :math:`-t^2 / 2` when t is small.

    Parameters
    ----------
    excess : Tensor
        t, above -1.
    logarithm : Tensor
        :math:`\log(1 + t)`, which the caller may know where 1 + t has rounded to zero; used unless t is small.
    """
    # With r = t / (2 + t), log(1 + t) is 2 artanh r, whose first term less t is -t r.
    r = excess / (2 + excess)
    square = r.square()
    series = torch.zeros_like(r)
    for odd in (13, 11, 9, 7, 5, 3):
        series = 1 / odd + square * series
    return torch.where(excess.abs() < _SMALL, 2 * r * square * series - excess * r, logarithm - excess)


def inverse_mills(index: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute :math:`\lambda = \phi(\eta) / \Phi(\eta)` and :math:`\lambda + \eta`.

    The derivative of :math:`\lambda` is :math:`-\lambda (\lambda + \eta)`.
    """
    near = math.sqrt(2 / math.pi) / torch.special.erfcx(index.clamp(_FAR, _NOTHING) / -math.sqrt(2))
    # Laplace's continued fraction for lambda - x at x = -index, where lambda and x agree in their first digits.
    x = (-index).clamp_min(-_FAR)
    tail = x
    for level in (5.0, 4.0, 3.0, 2.0):
        tail = x + level / tail
    far = index < _FAR
    gap = torch.where(far, tail.reciprocal(), near + index)
    return torch.where(far, gap - index, near), gap
