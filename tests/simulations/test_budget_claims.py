"""The judge of the study ``budget`` on fabricated tables, and on a real run with a biased equation planted."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from eeqs.marginal import iid, plug_in
from simulations.claims.budget import best, best_draws, judge
from simulations.runner import tabulate
from simulations.studies.budget import STUDY, Budget, Size
from simulations.study import Preset
from simulations.verdicts import COULD_NOT_TELL, FAILS, HOLDS, check_verdicts

BUDGETS, DRAWS = (2048, 16384, 131072), (4, 8, 16, 32, 64, 128)
Law = Callable[[float, float], tuple[float, float]]
"""Bias and variance at K draws and a budget."""
LAWS: dict[str, Law] = {
    "plug_in": lambda k, m: (-1.0 / k, 4 * k / m),
    "cross_fitted": lambda k, m: (0.0, 4 * (k + 3 + 9 / k) / m),
    "two_sample": lambda k, m: (0.0, 4 * (k + 60 / k) / m),
}
BEST, RMSE, FIXED, GAIN = (
    "exponent of the best K",
    "exponent of the RMSE at the best",
    "exponent of the RMSE at K",
    "RMSE",
)


def fabricate(laws: Mapping[str, Law], replicates: int = 400) -> pd.DataFrame:
    """Normal quantiles as errors, so that the bias and variance of a cell are the planted ones."""
    spread = norm.ppf((np.arange(replicates) + 0.5) / replicates)
    parts = []
    for name, law in laws.items():
        for budget in BUDGETS:
            for k in (draws for draws in DRAWS if budget >= 2 * draws**2):
                bias, variance = law(k, budget)
                head = {"estimator": name, "budget": budget, "n_draws": k, "replicate": np.arange(replicates)}
                errors = bias + np.sqrt(variance) * spread / spread.std()
                parts.append(pd.DataFrame(head | {"truth": 0.0, "estimate": errors, "status": "converged"}))
    return pd.concat(parts, ignore_index=True)


def _judge(table: pd.DataFrame, exponent_width: float = 0.3, rmse_width: float = 0.2) -> pd.DataFrame:
    verdicts = judge(table, exponent_width=exponent_width, rmse_width=rmse_width)
    check_verdicts(verdicts)
    return verdicts


def _verdict(verdicts: pd.DataFrame, regime: str, quantity: str) -> str:
    chosen = verdicts[(verdicts["regime"] == regime) & verdicts["quantity"].str.startswith(quantity)]
    assert len(chosen) == 1
    return str(chosen["verdict"].iloc[0])


def test_all_claims_hold_on_a_table_that_obeys_the_theory() -> None:
    verdicts = _judge(fabricate(LAWS))
    assert set(verdicts["claim"]) == {"T12"}
    assert len(verdicts) == 9
    assert (verdicts["verdict"] == HOLDS).all(), verdicts.to_string()


def test_exponents_are_the_planted_ones() -> None:
    verdicts = _judge(fabricate(LAWS)).set_index(["regime", "quantity"])["estimate"]
    assert verdicts["plug_in", "exponent of the best K in nK"] == pytest.approx(1 / 3, abs=0.02)
    assert verdicts["plug_in", "exponent of the RMSE at the best K in nK"] == pytest.approx(-1 / 3, abs=0.02)
    assert verdicts["two_sample", "exponent of the RMSE at the best K in nK"] == pytest.approx(-1 / 2, abs=0.02)


@pytest.mark.parametrize(
    ("name", "law", "rows"),
    [
        ("cross_fitted", LAWS["plug_in"], (BEST, RMSE, FIXED)),
        ("two_sample", LAWS["plug_in"], (BEST, RMSE)),
        ("plug_in", LAWS["cross_fitted"], (BEST, RMSE, FIXED)),
        ("plug_in", lambda k, m: (-0.5 / k**0.5, 4 * k / m), (BEST, RMSE)),
    ],
)
def test_a_table_that_disobeys_fails(name: str, law: Law, rows: tuple[str, ...]) -> None:
    verdicts = _judge(fabricate({**LAWS, name: law}))
    assert {row: _verdict(verdicts, name, row) for row in rows} == dict.fromkeys(rows, FAILS)


def test_a_biased_equation_that_wins_fails_the_gain() -> None:
    verdicts = _judge(fabricate({**LAWS, "plug_in": lambda k, m: (-0.01 / k, 1 / m)}))
    assert _verdict(verdicts, "largest budget", GAIN) == FAILS


def test_few_replicates_cannot_tell() -> None:
    verdicts = _judge(fabricate(LAWS, replicates=12))
    assert _verdict(verdicts, "plug_in", BEST) == COULD_NOT_TELL


def test_the_vertex_of_a_parabola_is_found() -> None:
    x = np.log(np.array(DRAWS, dtype=float))
    centre = np.array([1.6, 2.0, 3.1, 4.0])
    found, value = best_draws(x, 0.7 + (x - centre[:, None]) ** 2)
    np.testing.assert_allclose(found, centre, atol=1e-12)
    np.testing.assert_allclose(value, 0.7, atol=1e-12)


def test_a_minimum_at_an_end_of_the_grid_stays_there() -> None:
    x = np.log(np.array(DRAWS, dtype=float))
    found, value = best_draws(x, np.stack([x, -x]))
    np.testing.assert_allclose(found, x[[0, -1]])
    np.testing.assert_allclose(value, [x[0], -x[-1]])


def test_the_best_of_the_fit_is_near_that_of_the_curve() -> None:
    table = fabricate(LAWS)
    found = best(table.loc[table["estimator"] == "plug_in"])
    for position, budget in enumerate(BUDGETS):
        draws = (2 * budget / 4) ** (1 / 3)  # least 1 / K^2 + 4 K / M
        assert np.exp(found.log_draws[0, position]) == pytest.approx(draws, rel=0.2)
        assert np.exp(found.log_rmse[0, position]) == pytest.approx((3 / draws**2) ** 0.5, rel=0.2)


def test_fewer_than_three_numbers_of_draws_are_refused() -> None:
    table = fabricate(LAWS)
    with pytest.raises(ValueError, match="budget 2048: 2 numbers of draws"):
        best(table[(table["estimator"] == "plug_in") & (table["n_draws"] <= 8)])


@pytest.fixture(scope="module")
def small() -> Budget:
    few = {"plug_in": (), "cross_fitted": (4, 8, 16, 32, 64), "two_sample": ()}
    return replace(STUDY, sizes={Preset.QUICK: Size({1024: 80, 16384: 24}, few, 0.8, 0.8)})


def _verdicts(study: Budget) -> pd.DataFrame:
    """Verdicts on real rows under the name of cross_fitted, and fabricated ones of the other lines."""
    table = fabricate({name: law for name, law in LAWS.items() if name != "cross_fitted"})
    rows = tabulate(study, study.cells(Preset.QUICK))
    return study.verdicts(pd.concat([table, rows], ignore_index=True), Preset.QUICK)


def test_the_best_draws_of_the_right_equation_stay_put(small: Budget) -> None:
    assert _verdict(_verdicts(small), "cross_fitted", BEST) == HOLDS


def test_plug_in_in_its_place_needs_draws_and_keeps_a_floor(small: Budget) -> None:
    verdicts = _verdicts(replace(small, lines={**STUDY.lines, "cross_fitted": (plug_in, iid)}))
    for row in (BEST, FIXED):
        assert _verdict(verdicts, "cross_fitted", row) == FAILS
