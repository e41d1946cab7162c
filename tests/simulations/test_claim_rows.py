"""Rows of verdict tables against independent intervals, and each of the three verdicts."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from simulations.claims.rows import (
    Bounds,
    coverage_row,
    frame,
    level_row,
    mean_row,
    point_row,
    ratio_row,
    share_row,
    slope_row,
)
from simulations.rates import Interval
from simulations.study import VERDICT_COLUMNS
from simulations.verdicts import COULD_NOT_TELL, FAILS, HOLDS, check_verdicts

HEAD = ("T0", "regime", "quantity")


def _cell(n: int, deviation: float, replicates: int = 400, bias: float = 0.0, se: float | None = None) -> pd.DataFrame:
    errors = deviation * stats.norm.ppf((np.arange(replicates) + 0.5) / replicates) + bias
    reported = deviation if se is None else se
    fixed = {"truth": 0.0, "se": reported, "status": "converged", "n": n, "parameter": "a"}
    return pd.DataFrame({"replicate": np.arange(replicates), "estimate": errors, **fixed})


def _line(exponent: float) -> pd.DataFrame:
    return pd.concat([_cell(n, n**exponent) for n in (100, 400, 1600)], ignore_index=True)


@pytest.mark.parametrize(("exponent", "verdict"), [(-0.5, HOLDS), (-0.25, FAILS)])
def test_slopes(exponent: float, verdict: str) -> None:
    row = slope_row(*HEAD, _line(exponent), -0.5, max_width=0.2)
    assert row.verdict == verdict
    assert row.estimate == pytest.approx(exponent, abs=1e-6)
    assert row.low < exponent < row.high


def test_a_slope_that_is_bounded_and_one_too_wide() -> None:
    assert slope_row(*HEAD, _line(-0.5), Bounds(at_most=-0.3), max_width=1.0).verdict == HOLDS
    assert slope_row(*HEAD, _line(-0.5), Bounds(at_least=-0.3), max_width=1.0).verdict == FAILS
    assert slope_row(*HEAD, _line(-0.5), -0.5, max_width=0.01).verdict == COULD_NOT_TELL


def test_cells_without_roots_tell_nothing() -> None:
    lost = _line(-0.5).assign(status="diverged")
    assert slope_row(*HEAD, lost, -0.5, max_width=1.0).verdict == COULD_NOT_TELL
    assert ratio_row(*HEAD, lost[lost["n"] == 100], _cell(100, 1.0), Bounds(at_least=1.0)).verdict == COULD_NOT_TELL


def test_families_widen_intervals() -> None:
    one, ten = (slope_row(*HEAD, _line(-0.5), -0.5, max_width=1.0, family=family) for family in (1, 10))
    assert ten.high - ten.low > one.high - one.low


def test_means_have_student_intervals() -> None:
    values = pd.Series(np.random.default_rng(0).normal(0.3, 1.0, size=25))
    row = mean_row(*HEAD, values, Bounds(at_least=-1.0))
    low, high = sm.stats.DescrStatsW(values).tconfint_mean(0.05)
    np.testing.assert_allclose((row.low, row.high), (low, high), rtol=1e-12)
    assert row.verdict == HOLDS
    assert mean_row(*HEAD, values, Bounds(at_least=2.0)).verdict == FAILS
    assert mean_row(*HEAD, values, 0.3, max_width=2.0).verdict == HOLDS
    assert mean_row(*HEAD, values.iloc[:1], Bounds(at_least=0.0)).verdict == COULD_NOT_TELL


def test_shares_have_exact_intervals_where_they_are_bounded() -> None:
    hits = pd.Series([True] * 7 + [False] * 93)
    row = share_row(*HEAD, hits, Bounds(at_most=0.2))
    expected = stats.binomtest(7, 100).proportion_ci(0.95, "exact")
    np.testing.assert_allclose((row.low, row.high), expected, rtol=1e-10)
    assert row.verdict == HOLDS
    assert row.monte_carlo_se == pytest.approx((0.07 * 0.93 / 100) ** 0.5)
    assert share_row(*HEAD, hits, Bounds(at_least=0.2)).verdict == FAILS
    assert share_row(*HEAD, hits.iloc[:0], Bounds(at_least=0.2)).verdict == COULD_NOT_TELL


def test_coverage_counts_converged_replicates_only() -> None:
    rows = _cell(100, 1.0)
    assert coverage_row(*HEAD, rows, max_width=0.06).verdict == HOLDS
    assert coverage_row(*HEAD, rows.assign(se=0.6), max_width=0.1).verdict == FAILS
    assert coverage_row(*HEAD, rows.assign(se=0.3), Bounds(at_most=0.6)).verdict == HOLDS
    failed = rows.assign(status=["lost"] * 200 + ["converged"] * 200)
    share = (rows["estimate"].iloc[200:].abs() <= stats.norm.ppf(0.975)).mean()
    assert coverage_row(*HEAD, failed).estimate == share


def test_ratios_and_levels() -> None:
    wide, narrow = _cell(100, 3.0), _cell(100, 1.0)
    row = ratio_row(*HEAD, wide, narrow, Bounds(at_least=2.0))
    assert row.verdict == HOLDS
    assert row.estimate == pytest.approx(3.0, rel=1e-6)
    assert row.predicted == 2.0
    known = Interval(1.0, 0.9, 1.1, 0.05)
    assert level_row(*HEAD, known, Bounds(0.5, 1.5)).verdict == HOLDS
    assert point_row(*HEAD, known, 1.2, 1.0).verdict == FAILS


def test_rows_make_a_verdict_table() -> None:
    table = frame([mean_row(*HEAD, pd.Series([1.0, 2.0, 3.0]), Bounds(at_least=0.0))])
    assert tuple(table.columns) == VERDICT_COLUMNS
    check_verdicts(table)
