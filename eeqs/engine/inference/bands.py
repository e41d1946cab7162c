r"""Simultaneous bands: the sup-t critical value.

For estimates with correlation matrix C the band :math:`\hat\theta_j \pm c\, se_j` covers all coordinates together with
probability :math:`P(\max_j |Z_j| \le c)`, Z multivariate normal or t with correlation C (Montiel Olea &
Plagborg-Moller 2019, J. Appl. Econometrics 34). With :math:`C = L L^\top` of rank r and :math:`Z = \rho\, L v`, v
uniform on the unit sphere of r dimensions and :math:`\rho^2 \sim \chi^2_r` (or :math:`r F_{r, df}`),

.. math:: P(\max_j |Z_j| \le c) = E_v\, P\Big(\rho \le c \big/ \max_j |L_j v|\Big)

(Deak 1980, Numer. Math. 35): an average of a smooth function over directions, taken here over a scrambled Sobol
sequence, for correlations of any rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import special
from scipy.optimize import brentq

from eeqs.engine.inference.reference import quantile

__all__ = ["Band", "sup_t"]

# Independent scramblings, whose spread gives the error, and points in each.
_SCRAMBLINGS, _POINTS = 8, 2**14
# Relative eigenvalue of a correlation matrix that counts as zero.
_RANK = 1e-12
# Numbers held at once: 32 MiB.
_NUMBERS = 2**22
# Step of the difference quotient that turns an error of the coverage into one of the critical value.
_NUDGE = 1e-3
# Half the grid of the Sobol sequence: keeps its points off 0 and 1.
_FINEST = 2.0**-31


@dataclass(frozen=True)
class Band:
    """Simultaneous confidence band.

    Attributes
    ----------
    interval : DataFrame
        Columns 0 (lower) and 1 (upper), one row an estimate; NaN where it is not estimable.
    critical : float
        Half-width in standard errors.
    error : float
        Standard error of ``critical`` from its numerical integration.
    pointwise, bonferroni : float
        The critical values of one interval alone and of Bonferroni's inequality, between which it lies.
    """

    interval: pd.DataFrame
    critical: float
    error: float
    pointwise: float
    bonferroni: float


def sup_t(
    correlation: np.ndarray, alpha: float, df: float | None, seed: int | np.random.SeedSequence
) -> tuple[float, float]:
    """Critical value of the maximum of |normal| or |t| variables with this correlation (m, m), and its error."""
    values, vectors = np.linalg.eigh(correlation)
    kept = values > _RANK * values[-1]
    factor = vectors[:, kept] * np.sqrt(values[kept])
    lower, upper = quantile(alpha, df), quantile(alpha / len(correlation), df)
    rank = int(kept.sum())
    if rank == 1 or lower == upper:
        return lower, 0.0
    widest = np.stack([_largest_entries(factor, child) for child in _children(seed)])

    def outside(c: float) -> np.ndarray:
        """Probability (scramblings,) that the maximum exceeds c."""
        radius = np.square(c / widest)
        tail: np.ndarray = special.chdtrc(rank, radius) if df is None else special.fdtrc(rank, df, radius / rank)
        return tail.mean(axis=1)

    def excess(c: float) -> float:
        return float(outside(c).mean()) - alpha

    # The bounds hold for the exact value, and so for its estimate.
    if excess(lower) <= 0:
        critical = lower
    elif excess(upper) >= 0:
        critical = upper
    else:
        critical = float(brentq(excess, lower, upper, xtol=1e-9))
    slope = (excess(critical - _NUDGE) - excess(critical + _NUDGE)) / (2 * _NUDGE)
    return critical, float(np.std(outside(critical), ddof=1) / np.sqrt(_SCRAMBLINGS) / slope)


def _children(seed: int | np.random.SeedSequence) -> list[np.random.SeedSequence]:
    sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    # Not spawn(): it would change the caller's sequence, and a second call its answer.
    return [
        np.random.SeedSequence(entropy=sequence.entropy, spawn_key=(*sequence.spawn_key, k))
        for k in range(_SCRAMBLINGS)
    ]


def _largest_entries(factor: np.ndarray, seed: np.random.SeedSequence) -> np.ndarray:
    """Return max_j |L_j v| for directions v from a scrambled Sobol sequence."""
    engine = torch.quasirandom.SobolEngine(factor.shape[1], scramble=True, seed=int(seed.generate_state(1)[0]))
    points = engine.draw(_POINTS, dtype=torch.float64).numpy()
    normal = special.ndtri(points.clip(_FINEST, 1 - _FINEST))
    direction = normal / np.sqrt(np.square(normal).sum(axis=1, keepdims=True))
    parts = np.array_split(direction, 1 + direction.shape[0] * len(factor) // _NUMBERS)
    return np.concatenate([np.abs(part @ factor.T).max(axis=1) for part in parts])
