r"""The limit law of the random-scaling t statistic.

.. math:: t = \frac{W(1)}{\{\int_0^1 B(r)^2 dr\}^{1/2}}, \qquad B(r) = W(r) - r W(1) .

The bridge B is independent of :math:`W(1) \sim N(0, 1)`, and the integral has the Cramer-von Mises law, with Laplace
transform :math:`E\, e^{-s \int B^2} = (u / \sinh u)^{1/2}`, :math:`u = \sqrt{2s}` (Anderson & Darling 1952). Since
:math:`P(W(1) > x) = \pi^{-1} \int_0^{\pi/2} e^{-x^2 / (2 \sin^2 a)}\, da` for :math:`x \ge 0` (Craig 1991), the upper
tail is one smooth integral,

.. math:: P(t > c) = \frac1\pi \int_0^{\pi/2} \Big(\frac{u}{\sinh u}\Big)^{1/2} da, \qquad u = \frac{c}{\sin a} .
"""

from __future__ import annotations

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq

__all__ = ["random_scaling_quantile", "random_scaling_tail"]


def random_scaling_tail(c: float) -> float:
    """Probability that the statistic exceeds ``c >= 0``."""
    if not c >= 0:
        raise ValueError(f"c is {c}; the law is symmetric, pass its absolute value.")
    return 0.5 if c == 0 else float(quad(_transform, 0.0, np.pi / 2, args=(c,), epsabs=1e-14, epsrel=1e-12)[0] / np.pi)


def random_scaling_quantile(probability: float) -> float:
    """Quantile of the statistic; 3.875, 5.323, 6.747 and 8.613 at 90, 95, 97.5 and 99 %.

    Parameters
    ----------
    probability : float
        In (0.5, 1).

    Raises
    ------
    ValueError
        If it is not.

    Notes
    -----
    Abadir & Paruolo (1997), Econometrica 65, 671-681, table I.
    """
    if not 0.5 < probability < 1:
        raise ValueError(f"probability is {probability}; the law is symmetric, pass one between 0.5 and 1.")
    upper = 1.0
    while random_scaling_tail(upper) > 1 - probability:
        upper *= 2
    return float(brentq(lambda c: random_scaling_tail(c) - (1 - probability), 0.0, upper, xtol=1e-12))


def _transform(angle: float, c: float) -> float:
    sine = np.sin(angle)
    if sine == 0:
        return 0.0
    u = c / sine
    return float(np.sqrt(2 * u / -np.expm1(-2 * u)) * np.exp(-u / 2))
