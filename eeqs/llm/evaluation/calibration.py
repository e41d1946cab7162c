r"""Expected calibration error: a sum of absolute values, and so not a smooth functional.

With :math:`\delta_b` the sum of confidence minus correctness over the tokens of bin b, divided by all tokens,

.. math:: \mathrm{ECE} = \sum_b |\delta_b| = \sum_b \frac{n_b}{n} |\mathrm{confidence}_b - \mathrm{accuracy}_b| .

The :math:`\delta_b` are ratios with a clustered covariance V. Where some :math:`\delta_b` is zero the delta method and
the bootstrap of the sum are wrong, and the plug-in estimate is too large by up to :math:`\sum_b s_b \sqrt{2 / \pi}`,
:math:`s_b` the standard error of a bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

__all__ = ["CalibrationError", "calibration_error"]

_DRAWS = 20_000


@dataclass(frozen=True)
class CalibrationError:
    """Plug-in estimate of the expected calibration error, its standard error, and an interval."""

    estimate: float
    se: float
    low: float
    high: float


def calibration_error(
    gaps: np.ndarray, covariance: np.ndarray, n_clusters: int, *, alpha: float = 0.05, seed: int = 0
) -> CalibrationError:
    r"""Sum of absolute gaps, with an interval that allows for gaps of zero.

    The directional derivative of the sum along :math:`v` is :math:`\sum_b v_b\, \mathrm{sign}(\delta_b)` over bins with
    a gap and :math:`\sum_b |v_b|` over those without. A bin counts as one without where :math:`|\hat\delta_b| \le
    \sqrt{\log G}\, s_b`. The lower end subtracts the upper quantile of the derivative along
    :math:`v \sim t_{G-1}(0, V)`, and with it the upward bias of the plug-in estimate. The upper end takes every bin for
    one with a gap, a linearisation that the convex sum never falls below. The interval is conservative for a model that
    is calibrated.

    Parameters
    ----------
    gaps : ndarray of shape (B,)
        The :math:`\hat\delta_b`.
    covariance : ndarray of shape (B, B)
    n_clusters : int
        Number of clusters G.
    alpha : float
    seed : int
        Of the draws of v.

    References
    ----------
    Fang & Santos (2019) Review of Economic Studies 86, section 3; Kumar, Liang & Ma (2019) NeurIPS 32, for the bias.
    """
    df, rng = n_clusters - 1, np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(values.clip(min=0))
    normal = rng.standard_normal((_DRAWS, len(gaps))) @ root.T
    size, sign = np.sqrt(covariance.diagonal()), np.sign(gaps)
    small = np.abs(gaps) <= np.sqrt(np.log(n_clusters)) * size
    derivative = np.where(small, np.abs(normal), sign * normal).sum(axis=1)
    heavy = derivative * np.sqrt(df / rng.chisquare(df, _DRAWS))
    total = float(np.abs(gaps).sum())
    slack = -special.stdtrit(df, alpha / 2) * np.sqrt(max(float(sign @ covariance @ sign), 0.0))
    low = total - float(np.quantile(heavy, 1 - alpha / 2))
    return CalibrationError(total, float(derivative.std()), max(low, 0.0), total + float(slack))
