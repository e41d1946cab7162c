"""Measures that compare methods: by hand, against brute force, with failures, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from simulations.comparisons import compare, interval_width, precision_gain, rejection, relative_bias


def _table(**columns: object) -> pd.DataFrame:
    fixed = {
        "study": "toy",
        "parameter": "a",
        "truth": 1.0,
        "se": 1.0,
        "status": "converged",
        "seconds": 0.0,
        "seed": "",
    }
    return pd.DataFrame(fixed | columns)


def _two_methods(first: list[float], second: list[float], n: int = 10) -> pd.DataFrame:
    parts = [
        _table(method=name, n=n, replicate=range(len(values)), estimate=values)
        for name, values in (("A", first), ("B", second))
    ]
    return pd.concat(parts, ignore_index=True)


def test_by_hand() -> None:
    errors = np.array([-1.0, 0.0, 4.0])
    assert relative_bias(errors, np.full(3, -2.0)) == pytest.approx((-0.5, 7**0.5 / 2 / 3**0.5))
    assert interval_width(np.array([1.0, 1.0, 4.0]), 2.0) == pytest.approx((8.0, 48**0.5 / 3**0.5))
    tested = rejection(np.array([1.0, 2.0, -3.0, 0.0]), np.ones(4), 2.0)
    assert tested == pytest.approx((0.5, 0.25))
    assert rejection(np.array([1.0, 2.0, -3.0, 0.0]), np.ones(4), 2.0, null=-3.0).value == 0.75
    # Variances 4 and 1 of A and B, correlation 1/2 of (-1, 0, 1) and (-2, 2, 0): gain 300 %.
    reference, own = np.array([-2.0, 2.0, 0.0]), np.array([-1.0, 0.0, 1.0])
    assert precision_gain(own, reference) == pytest.approx((300.0, 200 * 4 * (0.75 / 2) ** 0.5))
    assert precision_gain(own, own) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_formula_error_of_the_gain_equals_the_spread_over_repeated_studies() -> None:
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(2, 3000, 200))
    pairs = [precision_gain(b, a) for a, b in zip(shared, 0.8 * shared + 0.5 * own, strict=True)]
    value, mcse = np.array(pairs).T
    spread = value.std()
    # The standard error of a standard deviation of 3,000 near-normal numbers is 1.3 % of it: four of them.
    assert abs(np.mean(mcse**2) ** 0.5 / spread - 1) < 0.052
    assert abs(np.mean(mcse**2) ** 0.5 / spread - 1.1) > 0.052


def test_failures_count_for_their_own_method_only() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 50))
    table = _two_methods(list(first), list(second))
    gone = (table["method"] == "A") & table["replicate"].isin((3, 7))
    table = table.assign(status=table["status"].mask(gone, "diverged"))  # the numbers stay, as a solver leaves them
    found = compare(table, "method", "A").set_index(["measure", "method"])
    kept = np.delete(first, (3, 7))
    gain = np.var(kept, ddof=1) / np.var(second, ddof=1)
    rho = np.corrcoef(kept, np.delete(second, (3, 7)))[0, 1]
    assert found.loc[("precision_gain", "B"), "value"] == pytest.approx(100 * (gain - 1))
    assert found.loc[("precision_gain", "B"), "mcse"] == pytest.approx(200 * gain * ((1 - rho**2) / 49) ** 0.5)
    assert found.loc[("relative_bias", "A"), "n_used"] == 48
    assert found.loc[("relative_bias", "B"), "n_used"] == 50


def test_groups_are_compared_within_their_cells() -> None:
    table = pd.concat([_two_methods([0, 1, 2], [0, 2, 5], n) for n in (10, 20)], ignore_index=True)
    found = compare(table, "method", "A")
    assert list(found.columns) == ["n", "parameter", "method", "measure", "value", "mcse", "n_used"]
    gains = found[(found["measure"] == "precision_gain") & (found["method"] == "B")]
    assert gains["n"].tolist() == [10, 20]
    assert len(set(gains["value"])) == 1


def test_too_few_or_without_a_meaning_is_nan() -> None:
    assert np.isnan(relative_bias(np.ones(3), np.array([1.0, 0.0, 1.0]))).all()
    assert np.isnan(relative_bias(np.ones(0), np.ones(0))).all()
    assert np.isnan(rejection(np.ones(2), np.array([1.0, np.nan]), 2.0)).all()
    assert np.isnan(interval_width(np.ones(1), 2.0).mcse)
    assert np.isnan(precision_gain(np.array([1.0, np.nan]), np.array([np.nan, 1.0]))).all()
    assert np.isnan(precision_gain(np.ones(3), np.arange(3.0))).all()


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (_two_methods([1, 2], [1, 2]), {"reference": "C"}, "a column 'method' that holds 'C'"),
        (_two_methods([1, 2], [1, 2]), {"reference": "A", "level": 1.0}, "level in"),
        (_two_methods([1, 2], [1, 2]).drop(columns="method"), {"reference": "A"}, "a column 'method'"),
        (_two_methods([1, 2], [1, 2]).assign(replicate=0), {"reference": "A"}, "a replicate of"),
        (
            pd.concat([_two_methods([1, 2], [1, 2]), _two_methods([1, 2], [1, 2], 20).query("method == 'B'")]),
            {"reference": "A"},
            "no rows of 'A'",
        ),
    ],
)
def test_bad_requests_are_refused(table: pd.DataFrame, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(table, "method", **options)
