"""The judge of the study ``covariance``, on fabricated tables and with wrong estimators planted in the study."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from torch import Tensor

from eeqs.engine.covariance import Root, as_covariance
from simulations.claims.covariance import MODELS, OUTSIDE, judge
from simulations.designs.over_factored import factor_score
from simulations.runner import tabulate
from simulations.studies.covariance import STUDY, Covariance, Size
from simulations.study import Preset
from simulations.verdicts import check_verdicts

SIZES = (500, 1000, 2000, 4000)
FREE = {"rank=3,q=3": 3, "rank=3,q=6": 12, "rank=1,q=1": 0, "rank=1,q=3": 6}
BOUNDARY = "rank=1,q=3"
NOISE = dict.fromkeys(MODELS, 0.5)
Plant = Callable[[pd.DataFrame], pd.DataFrame]


def _root(model: str, n: int, replicates: int) -> pd.DataFrame:
    rank, columns = (int(part.split("=")[1]) for part in model.split(","))
    z = norm.ppf((np.arange(replicates) + 0.5) / replicates)
    spread = 1 + 0.1 * z  # of squares, positive
    surplus = (
        np.sqrt(0.25 * OUTSIDE * n**-0.5 * spread / spread.mean()) if model == BOUNDARY else 0.5 * n**-0.5 * spread
    )
    values = {
        "sigma[0,0]": (z * n**-0.5, n**-0.5),
        "along": (z * n**-0.5, n**-0.5),
        "sigma": (3 * n**-0.5 * spread, np.nan),
        "factor": (2 * spread, np.nan),
        "aligned_factor": (n**-0.5 * spread + (surplus if model == BOUNDARY else 0), np.nan),
        "surplus": (surplus, np.nan),
        "free_directions": (np.full(replicates, float(FREE[model])), np.nan),
        "refused": (np.full(replicates, float(columns > 1)), np.nan),
    }
    truth = {"free_directions": float(FREE[model]), "refused": float(columns > 1)}
    head = {"quantity": "root", "rank": rank, "columns": columns, "n": n, "replicate": np.arange(replicates)}
    rows = [
        pd.DataFrame({**head, "parameter": name, "truth": truth.get(name, 0.0), "estimate": value, "se": se})
        for name, (value, se) in values.items()
    ]
    return pd.concat(rows).assign(status="converged")


def _expected(model: str) -> pd.DataFrame:
    rank, columns = (int(part.split("=")[1]) for part in model.split(","))
    head = {"quantity": "expected_bread", "rank": rank, "columns": columns, "n": 6, "replicate": 0}
    free = float(FREE[model])
    rest = {"parameter": "free_directions", "truth": free, "estimate": free, "se": np.nan, "status": "converged"}
    return pd.DataFrame([{**head, **rest}])


def fabricate(replicates: int = 200) -> pd.DataFrame:
    """Table of a study that obeys T6."""
    roots = [_root(model, n, replicates) for model in MODELS for n in SIZES]
    return pd.concat([*map(_expected, MODELS), *roots], ignore_index=True)


def _judge(table: pd.DataFrame) -> pd.DataFrame:
    verdicts = judge(table, burn_in=500, level_from=1000, noise=NOISE, max_width=0.1, level_width=0.06)
    check_verdicts(verdicts)
    return verdicts


def _verdicts_of(table: pd.DataFrame, *verdict: str) -> set[tuple[str, str]]:
    found = _judge(table)
    found = found[found["verdict"].isin(verdict)]
    return set(zip(found["regime"], found["quantity"].str.split(" in n| of n|, at|, below").str[0], strict=True))


def test_all_claims_hold_on_a_table_that_obeys_the_theory() -> None:
    verdicts = _judge(fabricate())
    assert (verdicts["verdict"] == "holds").all(), verdicts.to_string()
    assert len(verdicts) == 11 + 4 + 1 + 4 + 7 + 4


def _rows(table: pd.DataFrame, model: str, parameter: str) -> pd.Series:
    rank, columns = (int(part.split("=")[1]) for part in model.split(","))
    return (table["rank"] == rank) & (table["columns"] == columns) & table["parameter"].str.startswith(parameter)


def covariance_has_a_floor(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(estimate=table["estimate"] + 0.2 * _rows(table, "rank=3,q=6", "sigma").mul(table["se"].isna()))


def factor_is_identified(table: pd.DataFrame) -> pd.DataFrame:
    factor = (30 * table["n"] ** -0.5).where(_rows(table, "rank=3,q=6", "factor"), 1.0)
    return table.assign(estimate=table["estimate"] * factor)


def surplus_at_the_regular_rate(table: pd.DataFrame) -> pd.DataFrame:
    factor = ((table["n"] / 2000) ** -0.25).where(_rows(table, BOUNDARY, "surplus"), 1.0)
    return table.assign(estimate=table["estimate"] * factor)


def narrow_intervals(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(se=table["se"] * np.where(_rows(table, "rank=3,q=6", "sigma["), 0.8, 1.0))


def nothing_is_refused(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(estimate=table["estimate"].mask(_rows(table, "rank=3,q=3", "refused"), 0.0))


def no_free_direction(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(estimate=table["estimate"].mask(_rows(table, "rank=3,q=3", "free_directions"), 0.0))


@pytest.mark.parametrize(
    ("plant", "failing"),
    [
        (covariance_has_a_floor, {("rank=3,q=6", "slope of RMSE(sigma)")}),
        (factor_is_identified, {("rank=3,q=6", "slope of RMSE(factor)")}),
        (surplus_at_the_regular_rate, {(BOUNDARY, "slope of RMSE(surplus)"), (BOUNDARY, "mean")}),
        (narrow_intervals, {("rank=3,q=6", "coverage of the entries of sigma")}),
        (nothing_is_refused, {("rank=3,q=3", "share of samples that refuse factor[0,0]")}),
        (
            no_free_direction,
            {
                ("rank=3,q=3", "free directions of the expected bread"),
                ("rank=3,q=3", "share of samples whose bread has the free directions"),
            },
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_error_fails_its_own_claims_only(plant: Plant, failing: set[tuple[str, str]]) -> None:
    assert _verdicts_of(plant(fabricate()), "fails") == failing


def test_few_replicates_leave_levels_open() -> None:
    levels = ("coverage", "share")
    few = _judge(fabricate(replicates=8))
    assert set(few.loc[few["quantity"].str.startswith(levels), "verdict"]) == {"could not tell"}
    assert "fails" not in set(few["verdict"])


SMALL = Size((500, 1000, 2000), 500, 1000, 40, 0.6, 0.2)


def _tried(study: Covariance) -> dict[str, str]:
    """Verdicts by quantity on a real run of rank three and six columns, beside models that obey the theory."""
    cells = replace(study, sizes={Preset.QUICK: SMALL}).cells(Preset.QUICK)
    mine = tabulate(study, [cell for cell in cells if cell.parameters["columns"] == 6])
    others = fabricate()
    table = pd.concat([others[others["columns"] != 6], mine])
    verdicts = judge(table, burn_in=500, level_from=1000, noise=NOISE, max_width=0.6, level_width=0.2)
    verdicts = verdicts[verdicts["regime"] == "rank=3,q=6"]
    return dict(zip(verdicts["quantity"].str.split(" in n|, at|, below").str[0], verdicts["verdict"], strict=True))


@dataclass(frozen=True)
class MeatAlone:
    """A meat between two breads, which the sandwich then takes off: the covariance is the meat over n."""

    label: str = "meat alone"
    groups: tuple[str, ...] = ()

    def meat(self, root: Root) -> Tensor:
        return root.bread @ as_covariance("HC0").meat(root) @ root.bread.mT


def wrong_noise(factor: Tensor, moment: Tensor, noise: float) -> Tensor:
    """Score of a kernel whose error is taken too small."""
    return factor_score(factor, moment, 0.5 * noise)


def test_a_real_run_holds() -> None:
    found = _tried(STUDY)
    assert "fails" not in found.values(), found
    assert found["slope of RMSE(sigma)"] == found["coverage of the entries of sigma"] == "holds"


def test_a_bread_that_is_left_out_fails() -> None:
    found = _tried(replace(STUDY, meat=MeatAlone()))
    assert found["coverage of the entries of sigma"] == "fails"
    assert found["slope of RMSE(sigma)"] == "holds"


def test_a_wrong_score_fails() -> None:
    designs = {name: replace(design, score=wrong_noise) for name, design in STUDY.designs.items()}
    found = _tried(replace(STUDY, designs=designs))
    assert found["slope of RMSE(sigma)"] == found["coverage of the entries of sigma"] == "fails"
