"""The judge of the study ``stochastic`` on tables without randomness, whose errors are normal quantiles."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from simulations.claims.stochastic import judge
from simulations.study import VERDICT_COLUMNS
from simulations.verdicts import check_verdicts

ALPHA = 0.6
STEPS = {"logistic": (128, 256, 512, 1024, 2048), "marginal": (128, 256, 512, 1024)}
COORDINATES = {"logistic": ("intercept", "x1"), "marginal": ("variance",)}
OUTPUTS = ("random_scaling", "plug_in", "batch_means", "last")


def _cell(regime: str, steps: int, output: str, coordinate: str, replicates: int, role: str = "rate") -> pd.DataFrame:
    errors = norm.ppf((np.arange(replicates) + 0.5) / replicates)
    scale = steps ** (-ALPHA / 2 if output == "last" else -0.5)
    return pd.DataFrame(
        {
            "regime": regime,
            "role": role,
            "steps": steps,
            "replicate": np.arange(replicates),
            "parameter": f"{output}.{coordinate}",
            "truth": 0.5,
            "estimate": 0.5 + scale * errors,
            "se": np.nan if output == "last" else scale * (0.7 if output == "batch_means" else 1.0),
            "status": "converged",
        }
    )


def fabricate(replicates: int = 400) -> pd.DataFrame:
    """Table of a study that obeys T9, with a path that no claim is about."""
    cells = [
        _cell(regime, steps, output, coordinate, replicates)
        for regime, sizes in STEPS.items()
        for steps in sizes
        for output in OUTPUTS
        for coordinate in COORDINATES[regime]
    ]
    path = _cell("logistic", 8192, "random_scaling", "x1", 2, role="path").assign(estimate=1e3)
    return pd.concat([*cells, path], ignore_index=True)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return fabricate()


def _judge(table: pd.DataFrame, slope_width: float = 0.2, coverage_width: float = 0.1) -> pd.DataFrame:
    verdicts = judge(
        table,
        burn_in={"logistic": 256, "marginal": 128},
        exponents=dict.fromkeys(STEPS, ALPHA),
        slope_width=slope_width,
        coverage_width=coverage_width,
    )
    check_verdicts(verdicts)
    return verdicts


def _kinds(verdicts: pd.DataFrame, verdict: str) -> set[tuple[str, str]]:
    """Regime and kind of the claims with a verdict."""
    kinds = (
        "averaged iterate",
        "last iterate",
        "last / averaged",
        "random_scaling",
        "plug_in",
        "batch_means",
        "failures",
    )
    rows = verdicts[verdicts["verdict"] == verdict]
    return {(r.regime, next(k for k in kinds if k in r.quantity)) for r in rows.itertuples(index=False)}


def _rows(table: pd.DataFrame, regime: str, output: str) -> pd.Series:
    return (table["regime"] == regime) & table["parameter"].str.startswith(f"{output}.") & (table["role"] == "rate")


def test_all_claims_hold_on_a_table_that_obeys_the_theory(table: pd.DataFrame) -> None:
    verdicts = _judge(table)
    assert list(verdicts.columns) == list(VERDICT_COLUMNS)
    assert set(verdicts["claim"]) == {"T9"}
    assert (verdicts["verdict"] == "holds").all(), verdicts.to_string()
    assert len(verdicts) == 3 * 6 + 2
    slopes = verdicts[verdicts["quantity"].str.startswith("slope")]
    np.testing.assert_allclose(slopes["estimate"], np.tile([-0.5, -ALPHA / 2], 3), atol=1e-9)
    np.testing.assert_allclose(slopes["predicted"], np.tile([-0.5, -ALPHA / 2], 3))


def not_averaged(table: pd.DataFrame) -> pd.DataFrame:
    here = _rows(table, "logistic", "random_scaling")
    return table.assign(
        estimate=table["estimate"].where(~here, 0.5 + (table["estimate"] - 0.5) * table["steps"] ** 0.2)
    )


def a_bias(table: pd.DataFrame) -> pd.DataFrame:
    averaged = table["parameter"].str.startswith(("random_scaling.", "plug_in."))
    here = averaged & (table["regime"] == "marginal")
    return table.assign(estimate=table["estimate"] + 0.2 * here)


def normal_quantiles(table: pd.DataFrame) -> pd.DataFrame:
    here = _rows(table, "logistic", "random_scaling")
    return table.assign(se=table["se"].where(~here, table["se"] * 1.96 / 6.747))


def too_wide(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(se=table["se"].where(~_rows(table, "marginal", "plug_in"), 3 * table["se"]))


def batch_means_over_cover(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(se=table["se"].where(~_rows(table, "marginal", "batch_means"), 3 * table["se"]))


def last_iterates_average(table: pd.DataFrame) -> pd.DataFrame:
    here = _rows(table, "marginal", "last")
    return table.assign(
        estimate=table["estimate"].where(~here, 0.5 + (table["estimate"] - 0.5) * table["steps"] ** -0.2)
    )


def one_in_twenty_diverges(table: pd.DataFrame) -> pd.DataFrame:
    failed = (table["regime"] == "marginal") & (table["replicate"] % 20 == 10)
    return table.assign(status=table["status"].mask(failed, "diverged"))


@pytest.mark.parametrize(
    ("plant", "failing"),
    [
        (not_averaged, {("logistic", k) for k in ("averaged iterate", "random_scaling", "last / averaged")}),
        (a_bias, {("marginal", kind) for kind in ("averaged iterate", "random_scaling", "plug_in", "last / averaged")}),
        (normal_quantiles, {("logistic", "random_scaling")}),
        (too_wide, {("marginal", "plug_in")}),
        (batch_means_over_cover, {("marginal", "batch_means")}),
        (last_iterates_average, {("marginal", "last iterate"), ("marginal", "last / averaged")}),
        (one_in_twenty_diverges, {("marginal", "failures")}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_error_fails_its_own_claims_only(
    plant: Callable[[pd.DataFrame], pd.DataFrame], failing: set[tuple[str, str]], table: pd.DataFrame
) -> None:
    found = _judge(plant(table))
    assert _kinds(found, "fails") == failing, found.to_string()
    assert _kinds(found, "could not tell") == set()


def test_too_few_replicates_leave_claims_open() -> None:
    verdicts = _judge(fabricate(20))
    assert _kinds(verdicts, "fails") == set()
    open_kinds = {kind for _, kind in _kinds(verdicts, "could not tell")}
    assert {"averaged iterate", "last iterate", "random_scaling", "plug_in", "failures"} <= open_kinds


def test_a_bend_below_the_burn_in_does_not_count(table: pd.DataFrame) -> None:
    early = (table["regime"] == "logistic") & (table["steps"] < 256)
    assert (_judge(table.assign(estimate=table["estimate"] + 3.0 * early))["verdict"] == "holds").all()
