"""The judge of the study ``boundary``, on fabricated tables and with wrong estimators planted in the study."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from torch import Tensor

from eeqs.marginal import antithetic, single_draw
from simulations.claims.boundary import RATES, REGULAR, judge
from simulations.runner import tabulate
from simulations.studies.boundary import STUDY, Boundary, Size
from simulations.study import Preset
from simulations.verdicts import check_verdicts

SIZES, INFORMATION = (500, 1000, 2000, 4000), 2.0
Plant = Callable[[pd.DataFrame], pd.DataFrame]


def _root(estimator: str, n: int, replicates: int) -> pd.DataFrame:
    """Quantiles of the limiting law, or of a law at the rate of independent draws."""
    z = norm.ppf((np.arange(replicates) + 0.5) / replicates)
    se = (n * INFORMATION) ** -0.5
    variance = np.maximum(z, 0) * se
    if estimator not in REGULAR:
        variance = np.maximum(z, 0) ** (2 / 3) * n ** (-1 / 3)
    scale = np.sqrt(variance)
    with np.errstate(divide="ignore"):
        scale_se = np.where(variance > 0, se / (2 * scale), np.nan)
    parts = {"scale": (scale, scale_se), "variance": (variance, se), "prediction": (0.3 * variance, np.nan)}
    head = {"quantity": "root", "estimator": estimator, "n": n, "distance": 0.0, "replicate": np.arange(replicates)}
    fixed = {"truth": 0.0, "status": "converged"}
    return pd.concat(
        [pd.DataFrame({**head, **fixed, "parameter": k, "estimate": v, "se": s}) for k, (v, s) in parts.items()]
    )


def _tests(replicates: int) -> pd.DataFrame:
    uniform = (np.arange(replicates) + 0.5) / replicates
    head = {"quantity": "test", "estimator": "exact", "n": 1000, "replicate": np.arange(replicates), "se": np.nan}
    rows = [
        pd.DataFrame({**head, "distance": t, "parameter": name, "truth": truth, "estimate": value})
        for t in (0.0, 1.0)
        for name, truth, value in (("p_value", 0.0, uniform), ("accepted", 1.0, (uniform > 0.05).astype(float)))
    ]
    return pd.concat(rows).assign(status="converged")


def fabricate(replicates: int = 400) -> pd.DataFrame:
    """Table of a study that obeys T5."""
    roots = [_root(estimator, n, replicates) for estimator in RATES for n in SIZES]
    return pd.concat([*roots, _tests(2 * replicates)], ignore_index=True)


def _judge(table: pd.DataFrame) -> pd.DataFrame:
    verdicts = judge(table, burn_in=500, information=INFORMATION, max_width=0.3, level_width=0.12)
    check_verdicts(verdicts)
    return verdicts


def test_all_claims_hold_on_a_table_that_obeys_the_theory() -> None:
    verdicts = _judge(fabricate())
    assert (verdicts["verdict"] == "holds").all(), verdicts.to_string()
    assert len(verdicts) == 10 + 4 + 6 + 3


def _failing(table: pd.DataFrame) -> set[str]:
    verdicts = _judge(table)
    return set(verdicts.loc[verdicts["verdict"] == "fails", "quantity"].str.split().str[:2].str.join(" "))


def _rows(table: pd.DataFrame, parameter: str, *, quantity: str = "root") -> pd.Series:
    return (table["parameter"] == parameter) & (table["quantity"] == quantity)


def regular_rate_for_the_scale(table: pd.DataFrame) -> pd.DataFrame:
    factor = (table["n"] ** -0.25).where(_rows(table, "scale"), 1.0)
    return table.assign(estimate=table["estimate"] * factor, se=table["se"] * factor)


def intervals_that_cover(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(se=table["se"] * np.where(_rows(table, "scale"), 5.0, 1.0))


def never_zero(table: pd.DataFrame) -> pd.DataFrame:
    zero = _rows(table, "variance") & (table["estimate"] == 0)
    return table.assign(estimate=table["estimate"].mask(zero, 1e-9))


def two_sided_test(table: pd.DataFrame) -> pd.DataFrame:
    halved = table["estimate"] / 2
    return table.assign(estimate=table["estimate"].mask(_rows(table, "p_value", quantity="test"), halved))


def narrow_interval(table: pd.DataFrame) -> pd.DataFrame:
    lost = _rows(table, "accepted", quantity="test") & (table["replicate"] % 5 == 0)
    return table.assign(estimate=table["estimate"].mask(lost, 0.0))


@pytest.mark.parametrize(
    ("plant", "failing"),
    [
        (regular_rate_for_the_scale, {"slope of"}),
        (intervals_that_cover, {"coverage(scale) of"}),
        (never_zero, {"share of"}),
        (two_sided_test, {"size of"}),
        (narrow_interval, {"coverage(scale) 0", "coverage(scale) 1"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_error_fails_its_own_claims_only(plant: Plant, failing: set[str]) -> None:
    assert _failing(plant(fabricate())) == failing


def test_few_replicates_leave_claims_open() -> None:
    verdicts = _judge(fabricate(replicates=10))
    assert "fails" not in set(verdicts["verdict"])
    assert (verdicts["verdict"] == "could not tell").mean() > 0.9


SMALL = Size((250, 500, 1000), (120, 120, 120), 250, 500, 1, 0.6, 0.3)


def _tried(study: Boundary) -> dict[str, str]:
    """Verdicts by quantity on a real run of cross_fitted, beside other lines that obey the theory."""
    cells = replace(study, sizes={Preset.QUICK: SMALL}).cells(Preset.QUICK)
    mine = [cell for cell in cells if cell.parameters["estimator"] == "cross_fitted"]
    others = fabricate()
    table = pd.concat([others[others["estimator"] != "cross_fitted"], tabulate(study, mine)])
    verdicts = judge(table, burn_in=250, information=INFORMATION, max_width=0.6, level_width=0.3)
    verdicts = verdicts[verdicts["regime"] == "cross_fitted"]
    return dict(zip(verdicts["quantity"].str.split(" of| that").str[0], verdicts["verdict"], strict=True))


def meat_only(_bread: Tensor, meat: Tensor, n: int) -> Tensor:
    return meat / n


def test_a_real_run_holds() -> None:
    found = _tried(STUDY)
    assert "fails" not in found.values()
    assert found["share"] == found["coverage(scale)"] == found["coverage(variance)"] == "holds"


def test_a_bread_that_is_left_out_fails() -> None:
    found = _tried(replace(STUDY, covariance=meat_only))
    assert found["coverage(scale)"] == "fails"
    assert found["share"] == "holds"


def test_a_biased_psi_in_place_of_the_unbiased_one_fails() -> None:
    found = _tried(replace(STUDY, lines={**STUDY.lines, "cross_fitted": (single_draw, antithetic(8))}))
    assert found["share"] == "fails"
    assert found["coverage(variance)"] == "fails"
