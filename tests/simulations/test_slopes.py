"""Slopes and ratios: planted rates are covered at the nominal level, wrong ones are excluded."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.rates import Interval, absolute_bias, ratio, slope

SIZES = np.array([100, 250, 600, 1500, 4000, 10000])
CENTRED = np.log(SIZES) - np.log(SIZES).mean()


def _rows(errors: np.ndarray, sizes: np.ndarray = SIZES) -> pd.DataFrame:
    """One row a size and replicate from an array (sizes, R) of errors."""
    replicates = errors.shape[1]
    return pd.DataFrame(
        {
            "n": np.repeat(sizes, replicates),
            "replicate": np.tile(np.arange(replicates), len(sizes)),
            "truth": 1.0,
            "estimate": 1.0 + errors.ravel(),
            "status": "converged",
        }
    )


def _root_n(seed: int, replicates: int = 100) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return _rows(rng.normal(size=(len(SIZES), replicates)) / np.sqrt(SIZES)[:, None])


def _covered(found: list[Interval], value: float) -> float:
    return float(np.mean([each.low <= value <= each.high for each in found]))


@pytest.mark.parametrize("weighted", [False, True])
def test_planted_rate_is_covered_at_the_nominal_level(*, weighted: bool) -> None:
    found = [slope(_root_n(seed), weighted=weighted, level=0.9, samples=400) for seed in range(400)]
    error = (0.9 * 0.1 / 400) ** 0.5
    assert abs(_covered(found, -0.5) - 0.9) < 4 * error
    # Planted: rates off by a tenth, in either direction, and a level off by a tenth.
    assert _covered(found, -0.4) < 0.1
    assert _covered(found, -0.6) < 0.1
    assert abs(_covered(found, -0.5) - 0.8) > 4 * error


def test_bootstrap_error_is_the_delta_method_error() -> None:
    """The log-RMSE of R normal errors has variance 1 / (2 R)."""
    found = [slope(_root_n(seed), samples=400).monte_carlo_se for seed in range(100)]
    expected = (1 / 200 / np.sum(CENTRED**2)) ** 0.5
    assert np.mean(found) == pytest.approx(expected, rel=0.03)


def test_estimate_is_the_least_squares_slope() -> None:
    rows = _root_n(0)
    log_rmse = 0.5 * np.log(((rows["estimate"] - rows["truth"]) ** 2).groupby(rows["n"]).mean())
    assert slope(rows).estimate == pytest.approx(np.polyfit(np.log(SIZES), log_rmse, 1)[0])


def test_bias_slope_with_weights_is_the_sharper() -> None:
    """Bias 1 / K with the same noise at every K: the large K say little, and weights know it."""
    rng = np.random.default_rng(0)
    draws = np.array([8, 16, 32, 64])
    rows = _rows(1 / draws[:, None] + 0.05 * rng.normal(size=(4, 400)), draws)
    plain, weighted = (slope(rows, "n", absolute_bias, weighted=weighted) for weighted in (False, True))
    for found in (plain, weighted):
        assert found.low <= -1 <= found.high
        assert not found.low <= -0.5 <= found.high
    assert weighted.high - weighted.low < plain.high - plain.low


def test_bias_that_is_not_told_from_zero_has_a_wide_interval() -> None:
    rng = np.random.default_rng(1)
    found = slope(_rows(rng.normal(size=(6, 200))), measure=absolute_bias)
    assert found.high - found.low > 0.5


def test_burn_in_leaves_small_sizes_out() -> None:
    rows = _root_n(0)
    rows.loc[rows["n"] == 100, "estimate"] += 50
    assert slope(rows).estimate < -1
    assert slope(rows, burn_in=250).estimate == slope(rows[rows["n"] >= 250]).estimate


def test_failed_rows_are_not_used() -> None:
    rows = _root_n(0)
    failed = rows.iloc[::7].assign(replicate=lambda x: x["replicate"] + 1000, estimate=np.nan, status="singular")
    assert slope(pd.concat([rows, failed])) == slope(rows)


def test_seed_fixes_the_interval() -> None:
    rows = _root_n(0)
    assert slope(rows, seed=1) == slope(rows, seed=1)
    assert slope(rows, seed=1).low != slope(rows, seed=2).low


def test_measure_of_zero_is_not_a_rate() -> None:
    assert np.isnan(slope(_rows(np.zeros((6, 5)))).low)


@given(st.floats(0.01, 100), st.sampled_from([2, 3, 10]))
def test_units_do_not_matter(unit: float, times: int) -> None:
    rows = _root_n(3, replicates=20)
    scaled = rows.assign(n=rows["n"] * times, truth=0.0, estimate=unit * (rows["estimate"] - rows["truth"]))
    one, other = slope(rows, samples=100), slope(scaled, samples=100)
    assert np.allclose(list(vars(one).values()), list(vars(other).values()), rtol=1e-8)


def test_ratio_is_covered_at_the_nominal_level() -> None:
    found = []
    for seed in range(400):
        wide, narrow = (_root_n(2 * seed + i).query("n == 100") for i in range(2))
        found.append(ratio(wide.assign(estimate=4 * wide["estimate"] - 3), narrow, level=0.9, samples=400))
    error = (0.9 * 0.1 / 400) ** 0.5
    assert abs(_covered(found, 4.0) - 0.9) < 4 * error
    assert _covered(found, 2.5) < 0.1


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (_root_n(0), {"x": "k"}, "column 'k'"),
        (_root_n(0).assign(n=0), {}, "must be there and positive"),
        (_root_n(0), {"burn_in": 5000}, "a slope needs two sizes n >= 5000, found [10000.0]"),
        (pd.concat([_root_n(0)] * 2), {}, "n = 100: a replicate is repeated"),
        (_root_n(0).assign(status="singular"), {}, "n = 100: 0 of 100 replicates converged"),
    ],
)
def test_bad_rows_are_refused(rows: pd.DataFrame, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        slope(rows, **options)
