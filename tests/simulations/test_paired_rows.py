"""Paired ratios, slopes and crossovers against scipy, closed form and planted errors."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from simulations.claims.crossover import crossover, ratio_of_crossovers
from simulations.claims.paired import geometric_interval, log_estimates, ratio_row, slopes
from simulations.claims.rows import Bounds

PLACES = (0.1, 0.2, 0.5, 1.0)


def _logs(exponent: float = -1.0, replicates: int = 30, spread: float = 0.05, seed: int = 0) -> pd.DataFrame:
    noise = np.random.default_rng(seed).normal(0, spread, (replicates, len(PLACES)))
    return pd.DataFrame(exponent * np.log(PLACES) + noise, columns=list(PLACES))


def _table() -> pd.DataFrame:
    rows = [(r, place, place * (r + 1.0)) for r in range(4) for place in PLACES]
    return pd.DataFrame(rows, columns=["replicate", "ratio", "estimate"]).assign(status="converged")


def test_replicates_that_failed_anywhere_are_left_out() -> None:
    table = _table()
    table.loc[(table["replicate"] == 2) & (table["ratio"] == 0.5), ["estimate", "status"]] = np.nan, "diverged"
    logs = log_estimates(table, "ratio")
    assert logs.isna().to_numpy().sum() == 1
    assert list(slopes(logs).index) == [0, 1, 3]
    assert geometric_interval(logs[0.5]) == geometric_interval(logs[0.5].drop(2))
    assert crossover(logs, 1.0) == crossover(logs.drop(2), 1.0)
    assert [float(place) for place in logs.columns] == list(PLACES)
    np.testing.assert_allclose(logs.loc[3], np.log(4 * np.array(PLACES)))


def test_bad_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="repeated"):
        log_estimates(pd.concat([_table(), _table()]), "ratio")
    with pytest.raises(ValueError, match="not positive"):
        log_estimates(_table().assign(estimate=0.0), "ratio")


def test_slopes_are_those_of_least_squares() -> None:
    logs = _logs()
    expected = [stats.linregress(np.log(PLACES), row).slope for row in logs.to_numpy()]
    np.testing.assert_allclose(slopes(logs), expected)


@pytest.mark.parametrize("family", [1, 4])
def test_geometric_interval_is_students_on_the_log_scale(family: int) -> None:
    sample = _logs()[0.1]
    found = geometric_interval(sample, family=family)
    expected = stats.ttest_1samp(sample, 0.0).confidence_interval(1 - 0.05 / family)
    np.testing.assert_allclose([found.low, found.high], np.exp([expected.low, expected.high]))
    assert found.estimate == pytest.approx(stats.gmean(np.exp(sample)))
    assert np.isnan(geometric_interval(sample[:1]).low)


def test_pairing_resolves_what_the_spread_between_replicates_hides() -> None:
    between = np.random.default_rng(1).normal(0, 2.0, 20)
    one, other = (pd.Series(between + 0.01 * np.random.default_rng(seed).normal(size=20)) for seed in (2, 3))
    row = ratio_row("T", "paired", "ratio, at most", one - other, Bounds(at_most=1.1))
    assert row.verdict == "holds"
    assert ratio_row("T", "paired", "ratio, at most", one - other + 0.2, Bounds(at_most=1.1)).verdict == "fails"


def test_a_power_law_crosses_where_it_should() -> None:
    # x^-1 passes 3 at 1/3, and interpolation on log scales is exact for a power law.
    exact = pd.DataFrame([-np.log(PLACES)] * 2, columns=list(PLACES))
    assert crossover(exact, 3.0).estimate == pytest.approx(1 / 3)
    noisy = crossover(_logs(), 3.0)
    assert noisy.low < 1 / 3 < noisy.high
    assert 0.5 < noisy.monte_carlo_se / (0.05 / 30**0.5 / 3) < 2


def test_a_crossing_outside_the_places_is_put_at_their_end() -> None:
    logs = _logs(spread=0.0)
    assert crossover(logs, 100.0).estimate == pytest.approx(PLACES[0])
    assert crossover(logs, 0.01).estimate == pytest.approx(PLACES[-1])
    assert np.isnan(crossover(logs[:1], 3.0).low)


def test_ratio_of_crossovers() -> None:
    # 2 x^-1 passes 4 at 1/2, x^-1 at 1/4.
    found = ratio_of_crossovers(_logs(seed=1) + np.log(2), _logs(seed=2), 4.0)
    assert found.low < 2 < found.high
    assert found.high - found.low < 0.3
