r"""Tests against the positive orthant: the statistic and its chi-bar-square law.

For :math:`T \sim N(\Omega \delta, \Omega)` the hypothesis :math:`\delta = 0` is tested against
:math:`\delta \ge 0` by

.. math:: \bar\chi^2 = T^\top \Omega^{-1} T - \min_{b \ge 0} (T - \Omega b)^\top \Omega^{-1} (T - \Omega b)
                     = \max_{b \ge 0} (2 b^\top T - b^\top \Omega b),

a mixture of chi-square variables whose degrees of freedom are the number of positive entries of the best b.

References
----------
Kudo (1963) Biometrika 50; Shapiro (1988) International Statistical Review 56.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy import special, stats
from scipy.optimize import nnls

__all__ = ["chi_bar_tail", "chi_bar_weights", "cone_statistic"]

# Scales whose 2^m faces are enumerated.
_MOST = 8


def cone_statistic(score: np.ndarray, omega: np.ndarray) -> float:
    """Statistic of a score (m,) with covariance ``omega`` (m, m)."""
    factor = np.linalg.cholesky(omega)
    white = np.linalg.solve(factor, score)
    return float(white @ white - nnls(factor.T, white)[1] ** 2)


def chi_bar_weights(omega: np.ndarray) -> np.ndarray:
    """Probabilities (m + 1,) of 0 to m positive entries, for the covariance ``omega`` (m, m) of the score.

    Raises
    ------
    ValueError
        For more than eight scales.
    """
    m = len(omega)
    if m > _MOST:
        raise ValueError(f"{m} scales are tested jointly; the null law is enumerated for up to {_MOST}: use fewer.")
    weights = np.zeros(m + 1)
    for size in range(m + 1):
        for face in combinations(range(m), size):
            rest = [j for j in range(m) if j not in face]
            inside = omega[np.ix_(face, face)]
            across = omega[np.ix_(rest, face)]
            # Entries of the face are positive, and the score of the others, given that of the face, is negative.
            left = omega[np.ix_(rest, rest)] - (across @ np.linalg.solve(inside, across.T) if face else 0)
            weights[size] += _orthant(np.linalg.inv(inside)) * _orthant(left)
    return weights / weights.sum()


def chi_bar_tail(statistic: float, omega: np.ndarray) -> float:
    """Probability that the statistic is at least as large under the hypothesis."""
    if statistic <= 0:
        return 1.0
    weights = chi_bar_weights(omega)
    return float(weights[1:] @ special.chdtrc(np.arange(1, len(weights)), statistic))


def _orthant(covariance: np.ndarray) -> float:
    """Probability that all entries of a centred normal vector are positive."""
    m = len(covariance)
    if m <= 1:
        return 0.5**m
    unit = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(unit, unit)
    if m <= 3:
        pairs = np.arcsin(correlation[np.triu_indices(m, 1)]).sum()
        return float(0.5**m + pairs / (2 ** (m - 1) * np.pi))
    law = stats.multivariate_normal(np.zeros(m), correlation, seed=0)
    return float(law.cdf(np.zeros(m)))
