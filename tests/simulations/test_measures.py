"""Measures against hand computation, closed forms and brute force; failures are counted and never dropped."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from simulations.measures import measures, performance

QUANTILE = norm.ppf(0.975)
PERFORMANCE = (
    "bias", "empirical_se", "mse", "rmse", "model_se", "model_se_relative_error", "coverage",
    "bias_eliminated_coverage",
)  # fmt: skip


def _table(estimate: np.ndarray, se: np.ndarray, truth: float = 0.0, **extra: object) -> pd.DataFrame:
    fixed = {"study": "toy", "replicate": range(len(estimate)), "parameter": "a", "truth": truth}
    return pd.DataFrame(
        fixed | {"estimate": estimate, "se": se, "status": "converged", "seconds": 0.0, "seed": ""} | extra
    )


def _values(found: pd.DataFrame) -> dict[str, tuple[float, float]]:
    return {row.measure: (row.value, row.mcse) for row in found.itertuples()}


def test_three_replicates_by_hand() -> None:
    """Estimates 1, 2, 6 of truth 2 with standard errors 1, 1, 2: errors -1, 0, 4, deviations -2, -1, 3."""
    found = _values(measures(_table(np.array([1.0, 2.0, 6.0]), np.array([1.0, 1.0, 2.0]), truth=2.0)))
    sd = 7**0.5  # (4 + 1 + 9) / 2
    mse, mse_error = 17 / 3, ((14**2 + 17**2 + 31**2) / 9 / 2 / 3) ** 0.5
    relative = 100 * (2 / 7) ** 0.5 * (3 / (4 * 3 * 4) + 1 / 4) ** 0.5  # var(1, 1, 4) = 3, ModSE^2 = 2
    expected = {
        "replicates": (3, 0),
        "n_failed": (0, 0),
        "failed": (0, 0),
        "bias": (1, sd / 3**0.5),
        "empirical_se": (sd, sd / 2),
        "mse": (mse, mse_error),
        "rmse": (mse**0.5, mse_error / 2 / mse**0.5),
        "model_se": (2**0.5, (3 / (4 * 3 * 2)) ** 0.5),
        "model_se_relative_error": (100 * ((2 / 7) ** 0.5 - 1), relative),
        "coverage": (2 / 3, (2 / 27) ** 0.5),
        "bias_eliminated_coverage": (2 / 3, (2 / 27) ** 0.5),
    }
    assert list(found) == list(expected)
    for name, pair in expected.items():
        assert found[name] == pytest.approx(pair, rel=1e-12, abs=1e-12), name


def _brute_force(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Measures and their formula errors in 3000 repetitions of a study with 200 replicates: a biased normal mean."""
    rng = np.random.default_rng(seed)
    studies = []
    for _ in range(3000):
        errors = 0.1 + rng.normal(scale=10**-0.5, size=200)
        se = np.sqrt(rng.chisquare(9, size=200) / 90)
        studies.append(performance(errors, se, QUANTILE))
    return {name: tuple(np.array([study[name] for study in studies]).T) for name in PERFORMANCE}


def _standardised_difference(values: np.ndarray, mcse: np.ndarray) -> float:
    """Difference of true and formula standard error, over the Monte Carlo error of the former."""
    squares = (values - values.mean()) ** 2
    spread = squares.mean() ** 0.5
    error = squares.std() / len(squares) ** 0.5 / (2 * spread)
    return float((np.mean(mcse**2) ** 0.5 - spread) / error)


def test_formula_errors_equal_the_spread_over_repeated_studies() -> None:
    for name, (values, mcse) in _brute_force(0).items():
        assert abs(_standardised_difference(values, mcse)) < 4, name
        # Planted: each formula off by a tenth.
        assert abs(_standardised_difference(values, 1.1 * mcse)) > 4, name
        assert abs(_standardised_difference(values, mcse / 1.1)) > 4, name


def test_measures_centre_on_closed_forms() -> None:
    found = _brute_force(1)
    # Square roots are biased by -1/8 of the relative variance of their argument: 2/199 for the variance of 200 normal
    # estimates, 2/9/200 for the mean of 200 squared standard errors; a reciprocal root by +3/8 of it.
    empirical, model = 2 / 199, 2 / 9 / 200
    truth = {
        "bias": 0.1,
        "mse": 0.11,
        "model_se": 0.1**0.5 * (1 - model / 8),
        "empirical_se": 0.1**0.5 * (1 - empirical / 8),
        "model_se_relative_error": 100 * (3 / 8 * empirical - model / 8),
    }
    for name, value in truth.items():
        values = found[name][0]
        tolerance = 4 * values.std() / 3000**0.5
        assert abs(values.mean() - value) < tolerance, name
        # Planted: a fifth of the spread of one study.
        assert abs(values.mean() - value - 0.2 * values.std()) > tolerance, name


def test_failures_are_rows() -> None:
    status = np.array(["converged"] * 6 + ["singular"] * 3 + ["diverged"])
    table = _table(np.where(status == "converged", 1.0, np.nan), np.ones(10), status=status)
    found = measures(table)
    values = _values(found)
    assert values["replicates"] == (10, 0)
    assert values["n_failed"] == pytest.approx((4, 10 * 0.024**0.5))
    assert values["failed"] == pytest.approx((0.4, 0.024**0.5))
    assert values["failed: singular"] == pytest.approx((0.3, 0.021**0.5))
    assert values["failed: diverged"] == pytest.approx((0.1, 0.009**0.5))
    used = found.set_index("measure")["n_used"]
    assert used["bias"] == 6
    assert used["failed"] == 10
    assert values["bias"] == (1.0, 0.0)


def test_all_failed_or_one_left_gives_nan_not_numbers() -> None:
    none = _values(measures(_table(np.full(3, np.nan), np.ones(3), status="singular")))
    assert none["failed"][0] == 1
    assert all(np.isnan(none[name]).all() for name in PERFORMANCE)
    one = _values(measures(_table(np.ones(1), np.ones(1))))
    assert one["bias"][0] == 1
    assert np.isnan(one["bias"][1])
    assert np.isnan(one["empirical_se"]).all()


def test_absent_standard_error_shows() -> None:
    found = _values(measures(_table(np.arange(4.0), np.array([1, 1, np.nan, 1]))))
    assert np.isfinite(found["rmse"]).all()
    for name in PERFORMANCE[4:]:
        assert np.isnan(found[name]).all()


def test_groups_are_cells_and_parameters() -> None:
    estimate = np.arange(8.0)
    table = _table(estimate, np.ones(8), n=[10, 10, 10, 10, 20, 20, 20, 20], parameter=list("abab") * 2)
    found = measures(table)
    assert list(found.columns) == ["n", "parameter", "measure", "value", "mcse", "n_used"]
    bias = found[found["measure"] == "bias"].set_index(["n", "parameter"])["value"]
    assert bias.to_dict() == {(10, "a"): 1, (10, "b"): 2, (20, "a"): 5, (20, "b"): 6}
    pooled = measures(table, by=[])
    assert pooled.loc[pooled["measure"] == "bias", "value"].tolist() == [3, 4]


def test_level_moves_coverage() -> None:
    rng = np.random.default_rng(0)
    table = _table(rng.normal(size=4000), np.ones(4000))
    for level in (0.5, 0.95):
        value, mcse = _values(measures(table, level=level))["coverage"]
        assert abs(value - level) < 4 * mcse
        assert abs(value - level - 0.1) > 4 * mcse


@given(arrays(float, 12, elements=st.floats(-10, 10)), st.floats(0.1, 10), st.permutations(range(12)))
def test_scale_and_order(errors: np.ndarray, scale: float, order: list[int]) -> None:
    assume(np.ptp(errors) > 0.01)  # the relative error of the model SE divides by the spread
    se = np.linspace(0.5, 1, 12)
    plain = performance(errors, se, QUANTILE)
    moved = performance(scale * errors[order], scale * se[order], QUANTILE)
    powers = {"mse": 2, "coverage": 0, "bias_eliminated_coverage": 0, "model_se_relative_error": 0}
    for name, (value, mcse) in plain.items():
        factor = scale ** powers.get(name, 1)
        assert moved[name].value == pytest.approx(factor * value, rel=1e-8, abs=1e-8, nan_ok=True), name
        assert moved[name].mcse == pytest.approx(factor * mcse, rel=1e-6, abs=1e-6, nan_ok=True), name


@pytest.mark.parametrize(
    ("table", "options"),
    [
        (_table(np.ones(2), np.ones(2)), {"level": 1.0}),
        (_table(np.ones(2), np.ones(2)), {"by": ["k"]}),
        (_table(np.ones(0), np.ones(0)), {}),
    ],
)
def test_bad_requests_are_refused(table: pd.DataFrame, options: dict) -> None:
    with pytest.raises(ValueError, match="need rows, known columns and a level"):
        measures(table, **options)
