"""Comparisons of cells that saw the same replicates: ratios and slopes within a replicate, then averaged."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import t

from simulations.claims.rows import ERROR, Bounds, Row, level_row
from simulations.rates import Interval
from simulations.schema import CONVERGED

__all__ = ["geometric_interval", "log_estimates", "ratio_row", "slopes"]


def log_estimates(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Logarithms of the estimates, one row a replicate and one column a level of ``by``.

    NaN where a replicate did not converge or was not run: comparisons leave it out, because they need both sides. Judge
    the share of failures beside them.

    Raises
    ------
    ValueError
        If a replicate is repeated at a level, or a converged estimate is not positive.
    """
    if rows.duplicated(["replicate", by]).any():
        raise ValueError(f"a replicate is repeated at a level of {by!r}; select one parameter and line first")
    good = rows[rows["status"] == CONVERGED]
    if (good["estimate"] <= 0).any():
        raise ValueError("an estimate is not positive: it has no logarithm")
    return good.pivot_table("estimate", "replicate", by).apply(np.log)


def slopes(logs: pd.DataFrame) -> pd.Series:
    """Least-squares slope of the log estimates on the logarithm of the levels, of each replicate that has them all."""
    x = np.log(logs.columns.to_numpy(dtype=float))
    centred = x - x.mean()
    return logs.dropna() @ (centred / (centred @ centred))


def geometric_interval(log_ratios: pd.Series, *, family: int = 1) -> Interval:
    """Geometric mean of paired ratios with its Student interval on the log scale; NaN for fewer than two.

    Parameters
    ----------
    log_ratios : pandas.Series
        One logarithm of a ratio a replicate; NaN is left out.
    family : int
        Number of intervals that hold together at 95 %.
    """
    sample = log_ratios.dropna().to_numpy(dtype=float)
    if len(sample) < 2:
        return Interval(np.nan, np.nan, np.nan, np.nan)
    centre, error = float(sample.mean()), float(sample.std(ddof=1) / np.sqrt(len(sample)))
    reach = error * t.ppf(1 - ERROR / (2 * family), len(sample) - 1)
    estimate, low, high = np.exp([centre, centre - reach, centre + reach])
    return Interval(float(estimate), float(low), float(high), float(estimate * error))


def ratio_row(claim: str, regime: str, quantity: str, log_ratios: pd.Series, bounds: Bounds, *, family: int = 1) -> Row:
    """Judge the geometric mean of paired ratios, see `geometric_interval`."""
    return level_row(claim, regime, quantity, geometric_interval(log_ratios, family=family), bounds)
