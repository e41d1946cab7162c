"""The judge of the study ``efficiency`` on fabricated tables, and on real runs with a wrong estimator planted."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from eeqs.marginal import iid, plug_in, quadratic, two_sample
from simulations.claims.efficiency import attained, judge
from simulations.runner import tabulate
from simulations.studies.efficiency import EXCESS, ROOT, STUDY, Efficiency, Size
from simulations.study import Preset
from simulations.verdicts import COULD_NOT_TELL, FAILS, HOLDS, check_verdicts

CONSTANT, LIMIT, ROOT_DRAWS = 3.2, 0.08, 16
DRAWS = (8, 16, 32, 64, 128, 256)
BURN_IN = {"cross_fitted": 32, "two_sample": 16, "quadratic": 8}
EXCESSES: dict[str, Callable[[float], float]] = {
    "cross_fitted": lambda k: CONSTANT / k,
    "two_sample": lambda k: 100 * k**-2.6,
    "quadratic": lambda k: LIMIT + 4 / k,
}
SLOPE, CONSTANT_ROW, NET, LIMIT_ROW = "slope of 1 - RE", "K (1/RE - 1) / c", "slope of 1 - RE in K >= 16", "1 - RE at K"


def _rows(quantity: str, estimator: str, n_draws: int, truth: float, errors: np.ndarray) -> pd.DataFrame:
    head = {"quantity": quantity, "estimator": estimator, "n": 1000, "n_draws": n_draws, "parameter": "log_scale"}
    tail = {"replicate": np.arange(len(errors)), "truth": truth, "estimate": truth + errors, "status": "converged"}
    return pd.DataFrame(head | tail)


def fabricate(
    excesses: Mapping[str, Callable[[float], float]], noise: float = 0.05, replicates: int = 40
) -> pd.DataFrame:
    """Excess variances with a relative error of ``noise``, and roots whose variance exceeds the best by them."""
    spread = norm.ppf((np.arange(replicates) + 0.5) / replicates)
    parts = []
    for name, excess in excesses.items():
        limit = LIMIT if name == "quadratic" else 0.0
        parts += [_rows(EXCESS, name, k, limit, excess(k) * (1 + noise * spread) - limit) for k in DRAWS]
    best = np.repeat(spread, 2)
    parts.append(_rows(ROOT, "exact", 0, -0.1, best))
    for name, excess in EXCESSES.items():
        other = np.sqrt(excess(ROOT_DRAWS)) * np.tile([1.0, -1.0], replicates) * np.std(spread)
        parts.append(_rows(ROOT, name, ROOT_DRAWS, -0.1, best + other))
    return pd.concat(parts, ignore_index=True)


def _judge(table: pd.DataFrame, max_width: float = 0.2, root_max_width: float = 0.8) -> pd.DataFrame:
    verdicts = judge(
        table,
        burn_in=BURN_IN,
        constant=CONSTANT,
        max_width=max_width,
        root_max_width=root_max_width,
    )
    check_verdicts(verdicts)
    return verdicts


def _with(name: str, excess: Callable[[float], float]) -> pd.DataFrame:
    return fabricate({**EXCESSES, name: excess})


def _verdict(verdicts: pd.DataFrame, regime: str, quantity: str) -> str:
    chosen = verdicts[verdicts["regime"].str.startswith(regime) & verdicts["quantity"].str.startswith(quantity)]
    assert len(chosen) == 1
    return str(chosen["verdict"].iloc[0])


def test_all_claims_hold_on_a_table_that_obeys_the_theory() -> None:
    verdicts = _judge(fabricate(EXCESSES))
    assert set(verdicts["claim"]) == {"T4"}
    assert len(verdicts) == 8
    assert (verdicts["verdict"] == HOLDS).all(), verdicts.to_string()


@pytest.mark.parametrize(
    ("name", "excess", "row"),
    [
        ("cross_fitted", lambda k: CONSTANT / k**0.7, SLOPE),
        ("cross_fitted", lambda k: 20 * CONSTANT / k**1.5, SLOPE),
        ("cross_fitted", lambda k: 1.3 * CONSTANT / k, CONSTANT_ROW),
        ("two_sample", lambda k: CONSTANT / k, NET),
        ("quadratic", lambda k: LIMIT + 4 / k**0.5, "slope of 1/RE less its limit"),
        ("quadratic", lambda k: 4 / k, LIMIT_ROW),
    ],
)
def test_a_table_that_disobeys_fails(name: str, excess: Callable[[float], float], row: str) -> None:
    assert _verdict(_judge(_with(name, excess)), name, row) == FAILS


def test_wide_intervals_cannot_tell() -> None:
    verdicts = _judge(fabricate(EXCESSES, noise=0.9, replicates=8), max_width=0.01, root_max_width=0.01)
    assert _verdict(verdicts, "cross_fitted", CONSTANT_ROW) == COULD_NOT_TELL
    assert _verdict(verdicts, "cross_fitted", SLOPE) == COULD_NOT_TELL
    assert _verdict(verdicts, "cross_fitted K", "RE of roots") == COULD_NOT_TELL


def test_pairs_without_two_roots_are_left_out() -> None:
    best, other = (_rows(ROOT, name, 0, 0.0, np.array([1.0, -1.0, 1.0, 9.0])) for name in ("exact", "other"))
    last = other["replicate"] == 3
    other = other.assign(
        status=other["status"].mask(last, "stalled"), estimate=2 * other["estimate"].mask(last, np.nan)
    )
    assert attained(best, other, 0.25).estimate == pytest.approx(1.0)
    assert np.isnan(attained(best, other.assign(status="stalled"), 0.25).estimate)


def _small() -> Efficiency:
    draws = {"cross_fitted": (16, 32, 64, 128), "two_sample": (16, 32, 64, 128), "quadratic": (16, 32, 64)}
    burn_in = dict.fromkeys(draws, 16)
    size = Size(draws, burn_in, 500, 8, 16, 1000, 40, max_width=0.4, root_max_width=0.9)
    return replace(STUDY, sizes={Preset.QUICK: size})


def _run(study: Efficiency, quantity: str, estimator: str) -> pd.DataFrame:
    wanted = {"quantity": quantity, "estimator": estimator}
    return tabulate(study, [cell for cell in study.cells(Preset.QUICK) if wanted.items() <= cell.parameters.items()])


@pytest.fixture(scope="module")
def right() -> pd.DataFrame:
    """A small run of all that a wrong estimator will replace; quadratic is fabricated."""
    lines = [(EXCESS, "cross_fitted"), (EXCESS, "two_sample"), (ROOT, "exact"), (ROOT, "cross_fitted")]
    made = fabricate(EXCESSES)
    kept = made[(made["quantity"] == EXCESS) & (made["estimator"] == "quadratic")]
    return pd.concat([kept, *(_run(_small(), *line) for line in lines)], ignore_index=True)


def _planted(right: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Verdicts on the table in which the rows take the place of those of the same quantity and estimator."""
    first = rows.iloc[0]
    kept = right[(right["quantity"] != first["quantity"]) | (right["estimator"] != first["estimator"])]
    return _small().verdicts(pd.concat([kept, rows], ignore_index=True), Preset.QUICK)


def test_the_right_estimators_hold(right: pd.DataFrame) -> None:
    verdicts = _small().verdicts(right, Preset.QUICK)
    assert (verdicts["verdict"] != FAILS).all(), verdicts.to_string()
    for regime, row in (("cross_fitted", SLOPE), ("two_sample", NET), ("cross_fitted K=16", "RE of roots")):
        assert _verdict(verdicts, regime, row) == HOLDS


def test_residual_and_instrument_that_share_their_draws_do_not_attain_the_efficiency(right: pd.DataFrame) -> None:
    wrong = replace(_small(), lines={**STUDY.lines, "cross_fitted": (plug_in, iid)})
    assert _verdict(_planted(right, _run(wrong, ROOT, "cross_fitted")), "cross_fitted K=16", "RE of roots") == FAILS


def test_independent_draws_in_place_of_nets_fall_too_slowly(right: pd.DataFrame) -> None:
    wrong = replace(_small(), lines={**STUDY.lines, "two_sample": (two_sample, lambda k: iid(k, groups=2))})
    assert _verdict(_planted(right, _run(wrong, EXCESS, "two_sample")), "two_sample", NET) == FAILS


def test_quadratic_in_place_of_cross_fitted_does_not_reach_full_efficiency(right: pd.DataFrame) -> None:
    wrong = replace(_small(), lines={**STUDY.lines, "cross_fitted": (quadratic, iid)})
    verdicts = _planted(right, _run(wrong, EXCESS, "cross_fitted"))
    assert _verdict(verdicts, "cross_fitted", SLOPE) == FAILS
    assert _verdict(verdicts, "cross_fitted", CONSTANT_ROW) == FAILS
