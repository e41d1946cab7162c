r"""Kernels of autocovariances, and the choice of their bandwidth.

A kernel weights autocovariances of lag l by :math:`k(l / b)` for the bandwidth b. With the series standardised to unit
variance, so that nothing depends on the units or the signs of the equations, the bandwidth of least mean squared error
is :math:`b = c\, (\alpha n)^{1/(2q+1)}`, with q and c constants of the kernel and :math:`\alpha` estimated by
`andrews` or `newey_west`.

References
----------
Andrews (1991) Econometrica 59; Newey & West (1994) Review of Economic Studies 61.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

__all__ = [
    "Autocovariance",
    "BandwidthRule",
    "Kernel",
    "andrews",
    "bartlett",
    "newey_west",
    "parzen",
    "quadratic_spectral",
]

# Autocovariances (L + 1, p) of every equation with itself, at lags 0 to L.
Autocovariance: TypeAlias = Callable[[int], np.ndarray]
# Largest first-order autocorrelation of the plug-in, as in Andrews & Monahan (1992).
_LARGEST_CORRELATION = 0.97
# Bandwidth below which no kernel gives weight to the first lag; relative difference that is rounding.
_LEAST_BANDWIDTH = 1e-3
_EQUAL = 1e-9


@dataclass(frozen=True)
class Kernel:
    """A kernel that makes the sum of weighted autocovariances positive semi-definite.

    Attributes
    ----------
    name : str
    weight : callable
        ``weight(x) -> k(x)`` for an array of ratios of lag to bandwidth, x >= 0.
    order : int
        Characteristic exponent q.
    constant : float
        Constant c of the optimal bandwidth.
    pilot : float
        Newey & West take :math:`4 (n/100)^{pilot}` lags to estimate alpha.
    compact : bool
        Whether k vanishes from x = 1 on.
    """

    name: str
    weight: Callable[[np.ndarray], np.ndarray]
    order: int
    constant: float
    pilot: float
    compact: bool = True


BandwidthRule: TypeAlias = Callable[[Kernel, Autocovariance, float], float]


def _bartlett(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - x, 0, None)


def _parzen(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.5, 1 - 6 * x**2 + 6 * x**3, 2 * np.clip(1 - x, 0, None) ** 3)


def _quadratic_spectral(x: np.ndarray) -> np.ndarray:
    z = 6 * np.pi * x / 5
    small = np.abs(z) < 1e-2  # the difference below cancels there
    safe = np.where(small, 1.0, z)
    series = 1 - z**2 / 10 + z**4 / 280
    return np.where(small, series, 3 / safe**2 * (np.sin(safe) / safe - np.cos(safe)))


bartlett = Kernel("Bartlett", _bartlett, 1, 1.1447, 2 / 9)
parzen = Kernel("Parzen", _parzen, 2, 2.6614, 4 / 25)
quadratic_spectral = Kernel("quadratic spectral", _quadratic_spectral, 2, 1.3221, 2 / 25, compact=False)


def andrews(kernel: Kernel, autocovariance: Autocovariance, n: float) -> float:
    r"""Bandwidth by an AR(1) for each equation (Andrews 1991, equation 6.4, unit weights on standardised equations).

    .. math:: \alpha = \frac{\sum_a 4 \rho_a^2 \sigma_a^4 / ((1-\rho_a)^6 (1+\rho_a)^2)}{\sum_a \sigma_a^4/(1-\rho_a)^4}

    for q = 1, and :math:`4 \rho_a^2 \sigma_a^4 / (1-\rho_a)^8` in the numerator for q = 2, with the Yule-Walker
    :math:`\rho_a`, at most 0.97 in size, and :math:`\sigma_a^2 = 1 - \rho_a^2`.
    """
    own = _correlations(autocovariance(1), n)
    rho = np.clip(own[1], -_LARGEST_CORRELATION, _LARGEST_CORRELATION)
    fourth = (1 - rho**2) ** 2
    bend = (1 - rho) ** 6 * (1 + rho) ** 2 if kernel.order == 1 else (1 - rho) ** 8
    alpha = (4 * rho**2 * fourth / bend).sum() / (fourth / (1 - rho) ** 4).sum()
    return _bandwidth(kernel, alpha, n)


def newey_west(kernel: Kernel, autocovariance: Autocovariance, n: float) -> float:
    r"""Bandwidth from a few autocovariances, without a model (Newey & West 1994).

    :math:`\alpha = (s_q / s_0)^2` with :math:`s_j = \sum_{|l| \le m} |l|^j \sum_a \rho_a(l)` of the first
    :math:`m = \lfloor 4 (n/100)^{pilot} \rfloor` autocorrelations. Newey and West sum autocovariances of one linear
    combination of the equations; the sum over standardised equations here is the same for a single one.
    """
    most = max(1, int(4 * (n / 100) ** kernel.pilot))
    total = _correlations(autocovariance(most), n).sum(1)
    lags = np.arange(len(total))
    level = total[0] + 2 * total[1:].sum()
    alpha = (2 * (lags**kernel.order * total)[1:].sum() / level) ** 2 if level != 0 else np.inf
    return _bandwidth(kernel, alpha, n)


def _correlations(own: np.ndarray, n: float) -> np.ndarray:
    """Autocorrelations of the equations that vary from row to row, those of white noise where none does.

    An equation with one value for all rows, as that of a derived parameter, has 1 - 1/n at the first lag.
    """
    varies = (own[0] > 0) & (own[1] < (1 - 1 / n) * (1 - _EQUAL) * own[0])
    if not varies.any():
        return np.eye(len(own), 1)
    correlations: np.ndarray = own[:, varies] / own[0, varies]
    return correlations


def _bandwidth(kernel: Kernel, alpha: float, n: float) -> float:
    return float(np.clip(kernel.constant * (alpha * n) ** (1 / (2 * kernel.order + 1)), _LEAST_BANDWIDTH, n))
