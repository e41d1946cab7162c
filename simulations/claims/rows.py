"""Rows of a verdict table: one function a kind of claim, so that every study judges a slope or a coverage alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, t
from statsmodels.stats.proportion import proportion_confint

from simulations.rates import Interval, Statistic, TooFewReplicatesError, ratio, rmse, slope
from simulations.schema import CONVERGED
from simulations.study import VERDICT_COLUMNS
from simulations.verdicts import point, within

__all__ = [
    "Bounds",
    "Row",
    "coverage_row",
    "frame",
    "level_row",
    "mean_row",
    "point_row",
    "ratio_row",
    "share_row",
    "slope_row",
]

ERROR = 0.05
"""Probability that some interval of a claim misses when the theory is right: each of m has level 1 - ERROR / m."""


class Bounds(NamedTuple):
    """Where a quantity is claimed to lie: in [at_least, at_most]."""

    at_least: float = -np.inf
    at_most: float = np.inf

    @property
    def stated(self) -> float:
        """The finite bound; the lower one where both are."""
        return self.at_least if np.isfinite(self.at_least) else self.at_most


class Row(NamedTuple):
    """One row of a verdict table, see `simulations.study.VERDICT_COLUMNS`."""

    claim: str
    regime: str
    quantity: str
    predicted: float
    estimate: float
    low: float
    high: float
    monte_carlo_se: float
    verdict: str


def frame(rows: list[Row]) -> pd.DataFrame:
    """Table of the rows, with the columns of a verdict table."""
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))


def level_row(claim: str, regime: str, quantity: str, found: Interval, bounds: Bounds) -> Row:
    """Judge that a quantity lies within bounds by its interval."""
    verdict = within(found.low, found.high, at_least=bounds.at_least, at_most=bounds.at_most)
    return Row(claim, regime, quantity, bounds.stated, *_numbers(found), verdict)


def point_row(claim: str, regime: str, quantity: str, found: Interval, predicted: float, max_width: float) -> Row:
    """Judge that a quantity equals a prediction by its interval, which may be no wider than `max_width`."""
    return Row(claim, regime, quantity, predicted, *_numbers(found), point(predicted, found.low, found.high, max_width))


def slope_row(
    claim: str,
    regime: str,
    quantity: str,
    rows: pd.DataFrame,
    predicted: float | Bounds,
    *,
    max_width: float,
    family: int = 1,
    **options: Any,
) -> Row:
    """Judge a log-log slope.

    Parameters
    ----------
    claim, regime, quantity : str
        First columns of the row.
    rows : pandas.DataFrame
        One line of the plot, see `simulations.rates.slope`.
    predicted : float or Bounds
        The exponent, or where it is claimed to lie.
    max_width : float
        Widest interval that supports a predicted exponent.
    family : int
        Number of intervals that hold together at 95 %.
    **options
        Passed to `simulations.rates.slope`: ``x``, ``measure``, ``burn_in``, ``weighted``.
    """
    found = _known(slope, rows, level=1 - ERROR / family, **options)
    if isinstance(predicted, Bounds):
        return level_row(claim, regime, quantity, found, predicted)
    return point_row(claim, regime, quantity, found, predicted, max_width)


def ratio_row(
    claim: str,
    regime: str,
    quantity: str,
    numerator: pd.DataFrame,
    denominator: pd.DataFrame,
    bounds: Bounds,
    *,
    measure: Statistic = rmse,
    family: int = 1,
) -> Row:
    """Judge the ratio of a measure in two cells, see `simulations.rates.ratio`."""
    found = _known(ratio, numerator, denominator, measure=measure, level=1 - ERROR / family)
    return level_row(claim, regime, quantity, found, bounds)


def mean_row(
    claim: str, regime: str, quantity: str, values: pd.Series, bounds: Bounds | float, *, max_width: float = np.inf,
    family: int = 1,
) -> Row:  # fmt: skip
    """Judge a mean over replicates by its Student interval: within bounds, or equal to a number."""
    sample = values.to_numpy(dtype=float)
    error = sample.std(ddof=1) / np.sqrt(len(sample)) if len(sample) > 1 else np.nan
    reach = error * t.ppf(1 - ERROR / (2 * family), max(len(sample) - 1, 1))
    mean = sample.mean() if len(sample) else np.nan
    found = Interval(mean, mean - reach, mean + reach, error)
    if isinstance(bounds, Bounds):
        return level_row(claim, regime, quantity, found, bounds)
    return point_row(claim, regime, quantity, found, bounds, max_width)


def share_row(
    claim: str, regime: str, quantity: str, hits: pd.Series, bounds: Bounds | float, *, max_width: float = 1.0,
    family: int = 1,
) -> Row:  # fmt: skip
    """Judge a proportion: within bounds by the exact interval, or equal to a number by Wilson's."""
    count, size = int(hits.sum()), len(hits)
    share = count / size if size else np.nan
    method = "beta" if isinstance(bounds, Bounds) else "wilson"
    ends = proportion_confint(count, size, alpha=ERROR / family, method=method) if size else (np.nan, np.nan)
    error = np.sqrt(share * (1 - share) / max(size, 1))
    found = Interval(share, float(ends[0]), float(ends[1]), float(error))
    if isinstance(bounds, Bounds):
        return level_row(claim, regime, quantity, found, bounds)
    return point_row(claim, regime, quantity, found, bounds, max_width)


def coverage_row(
    claim: str, regime: str, quantity: str, rows: pd.DataFrame, predicted: float | Bounds = 0.95, *,
    max_width: float = 0.06, family: int = 1,
) -> Row:  # fmt: skip
    """Judge the coverage of 95 % normal intervals, of the converged replicates of one cell."""
    good = rows[rows["status"] == CONVERGED]
    covered = (good["estimate"] - good["truth"]).abs() <= norm.ppf(0.975) * good["se"]
    return share_row(claim, regime, quantity, covered, predicted, max_width=max_width, family=family)


def _known(estimate: Callable[..., Interval], *rows: pd.DataFrame, **options: Any) -> Interval:
    """Estimate an interval; NaN, which no claim can be told from, where a cell has too few replicates with a root."""
    try:
        return estimate(*rows, **options)
    except TooFewReplicatesError:
        return Interval(np.nan, np.nan, np.nan, np.nan)


def _numbers(found: Interval) -> tuple[float, float, float, float]:
    return found.estimate, found.low, found.high, found.monte_carlo_se
