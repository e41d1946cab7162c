"""Reference distributions: normal or Student t for one estimate, chi-square or F for several."""

from __future__ import annotations

import numpy as np
from scipy import special

__all__ = ["check_level", "joint_pvalue", "quantile", "surprisal", "two_sided"]

# Functions of scipy.special and not scipy.stats: the same numbers without a second of import time.


def check_level(alpha: float) -> None:
    """Raise unless ``alpha`` is strictly between 0 and 1."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; pass a number between 0 and 1, such as 0.05 for 95 % intervals.")


def quantile(alpha: float, df: float | None) -> float:
    """Return the value that a normal (``df`` None) or t variable exceeds in absolute value with probability alpha."""
    check_level(alpha)
    return -float(special.ndtri(alpha / 2) if df is None else special.stdtrit(df, alpha / 2))


def two_sided(z: np.ndarray, df: float | None) -> np.ndarray:
    """Two-sided p-values of standardised estimates."""
    tail: np.ndarray = special.ndtr(-np.abs(z)) if df is None else special.stdtr(df, -np.abs(z))
    return 2 * tail


def surprisal(z: np.ndarray, df: float | None) -> np.ndarray:
    """S-values, minus the binary logarithm of `two_sided`; finite where a normal p-value underflows."""
    if df is None:
        bits: np.ndarray = -special.log_ndtr(-np.abs(z)) / np.log(2) - 1
        return bits
    with np.errstate(divide="ignore"):
        return -np.log2(two_sided(z, df))


def joint_pvalue(statistic: float, restrictions: int, df: float | None) -> float:
    """P-value of a quadratic form: chi-square, or F with ``df`` denominator degrees of freedom once divided by m."""
    if df is None:
        return float(special.chdtrc(restrictions, statistic))
    return float(special.fdtrc(restrictions, df, statistic / restrictions))
