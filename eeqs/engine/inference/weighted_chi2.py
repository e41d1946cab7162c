r"""Distribution of a sum of weighted chi-square variables.

The upper tail of :math:`Q = \sum_j w_j \chi^2_1` at x is the contour integral

.. math:: P(Q > x) = \frac{1}{2 \pi i} \int e^{K(z) - x z} \frac{dz}{z}, \qquad
          K(z) = -\tfrac12 \sum_j \log(1 - 2 w_j z),

along any path that crosses the real axis between 0 and :math:`1 / (2 \max w)`. A parabola through the saddle point,
close to the path of steepest descent, keeps relative accuracy in the far tail, where the real integral of Imhof (1961,
Biometrika 48) cancels (Rice 1980, SIAM J. Sci. Stat. Comput. 1; Helstrom 1996, IEEE Trans. Aerosp. Electron. Syst. 32).
"""

from __future__ import annotations

import numpy as np
from scipy import special
from scipy.optimize import brentq

__all__ = ["upper_tail"]

# Trapezoidal rule in t, with y = sinh(t) along the parabola: the integrand decays at least like exp(-t).
_STEP, _REACH = 1 / 64, 38.0
# Least curvature of the parabola in units of the saddle, so that it opens around the branch cut.
_CURVATURE = 0.1


def upper_tail(x: float, weights: np.ndarray) -> float:
    """Probability that a sum of chi-square variables of one degree of freedom with positive weights (m,) exceeds x."""
    if x <= 0:
        return 1.0
    largest = weights.max()
    w, x = weights / largest, x / largest
    if np.ptp(w) <= 1e-12:
        return float(special.chdtrc(len(w), x))

    def slope(z: float) -> float:
        return float((w / (1 - 2 * w * z)).sum() - x - 1 / z)

    # The slope is below zero at the left end, where 1/z exceeds the sum, and above it at the right.
    z0 = brentq(slope, 0.5 / (len(w) + 1 + x), 0.5 * (1 - 0.5 / (1 + x + 2)), xtol=1e-14)
    second = (2 * np.square(w / (1 - 2 * w * z0))).sum() + z0**-2
    third = (8 * (w / (1 - 2 * w * z0)) ** 3).sum() - 2 * z0**-3
    bend = max(third / (6 * second), _CURVATURE * np.sqrt(second))
    t = np.arange(0, _REACH, _STEP)
    y, dy = np.sinh(t) / np.sqrt(second), np.cosh(t) / np.sqrt(second)
    z = z0 + bend * y**2 + 1j * y
    exponent = -0.5 * np.log(1 - 2 * w[:, None] * z).sum(axis=0) - x * z - np.log(z)
    terms = (np.exp(exponent) * (1 - 2j * bend * y)).real * dy
    return float(np.clip(_STEP * (terms.sum() - terms[0] / 2) / np.pi, 0.0, 1.0))
