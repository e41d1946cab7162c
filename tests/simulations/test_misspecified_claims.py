"""The judge of the study ``misspecified``, and that wrong standard errors planted in the study turn its verdicts.

Fabricated tables hold normal quantiles in place of random errors, so that coverage is the planted one.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from simulations.claims.misspecified import judge
from simulations.runner import tabulate
from simulations.studies.misspecified import STUDY, Misspecified, Size, independent, information
from simulations.study import Preset
from simulations.verdicts import check_verdicts

COVERING = {name: kinds[-1] for name, kinds in STUDY.covariances.items()}
TARGETS = {"exact": -0.41, "cross_fitted": -0.39}
SIZES = (300, 3000)
WRONG_SHARE, FEW_SHARE = 0.6, 0.93

Plant = Callable[[pd.DataFrame], pd.DataFrame]


def _cell(design: str, kind: str, n: int, replicates: int) -> pd.DataFrame:
    """Errors of unit standard deviation an observation, with the standard errors the theory predicts."""
    errors = norm.ppf((np.arange(replicates) + 0.5) / replicates)
    share = 1.0 if kind == COVERING[design] else WRONG_SHARE
    if (design, kind, n) == ("clustered", "cluster", SIZES[0]):
        share = FEW_SHARE
    truth = TARGETS.get(design, 0.5)
    return pd.DataFrame(
        {
            "design": design,
            "n": n,
            "replicate": np.arange(replicates),
            "parameter": kind,
            "truth": truth,
            "estimate": truth + errors / n**0.5,
            "se": share * errors.std() / n**0.5,
            "status": "converged",
        }
    )


def fabricate(replicates: int = 2000) -> pd.DataFrame:
    """Table of a study that obeys T10."""
    cells = [(name, kind, n) for name, kinds in STUDY.covariances.items() for kind in kinds for n in SIZES]
    return pd.concat([_cell(*cell, replicates) for cell in cells], ignore_index=True)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return fabricate()


def _judge(table: pd.DataFrame) -> pd.DataFrame:
    verdicts = judge(table, covering=COVERING, coverage_width=0.06, ratio_width=0.2, difference_width=0.05)
    check_verdicts(verdicts)
    return verdicts


def _having(verdicts: pd.DataFrame, verdict: str) -> set[tuple[str, str]]:
    """(regime, first words of the quantity) of the rows with a verdict."""
    rows = verdicts[verdicts["verdict"] == verdict]
    return {(row.regime, " ".join(row.quantity.split()[:3])) for row in rows.itertuples(index=False)}


def test_every_claim_holds_where_the_theory_does(table: pd.DataFrame) -> None:
    verdicts = _judge(table)
    assert set(verdicts["verdict"]) == {"holds"}
    lines = sum(len(kinds) for kinds in STUDY.covariances.values())
    assert len(verdicts) == 2 * lines + 1 + 2 + len(COVERING)
    assert set(verdicts["claim"]) == {"T10"}


def _scaled(design: str, kind: str, factor: float) -> Plant:
    def plant(table: pd.DataFrame) -> pd.DataFrame:
        mine = (table["design"] == design) & (table["parameter"] == kind)
        return table.assign(se=table["se"].where(~mine, factor * table["se"]))

    return plant


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (_scaled("logit", "sandwich", 0.6), {("logit", "coverage by sandwich"), ("logit", "sandwich SE /")}),
        (_scaled("exact", "sandwich", 1.4), {("exact", "coverage by sandwich"), ("exact", "sandwich SE /")}),
        (
            _scaled("crossed", "cluster", 1 / WRONG_SHARE),
            {("crossed", "coverage by cluster"), ("crossed", "cluster SE /")},
        ),
        (
            _scaled("clustered", "cluster", 0.6),
            {("clustered", "coverage by cluster"), ("clustered", "cluster SE /")},
        ),
        (
            lambda t: t.assign(estimate=t["estimate"] + 0.1 * (t["design"] == "cross_fitted")),
            {("cross_fitted", "coverage by sandwich"), ("both", "mean of cross_fitted")},
        ),
        (
            lambda t: t.assign(estimate=t["estimate"] - 0.03 * (t["design"] == "cross_fitted")),
            {("cross_fitted", "coverage by sandwich"), ("both", "mean of cross_fitted"), ("both", "its sign at")},
        ),
        (
            lambda t: t.assign(status=np.where(t["replicate"] % 10 == 0, "singular", t["status"])),
            {(design, "share of failures,") for design in COVERING},
        ),
    ],
    ids=["small", "large", "wrong covers", "few", "target", "other side", "failures"],
)
def test_a_claim_fails_where_the_theory_does(table: pd.DataFrame, plant: Plant, expected: set[tuple[str, str]]) -> None:
    assert _having(_judge(plant(table)), "fails") == expected


def test_too_few_replicates_cannot_tell() -> None:
    verdicts = _judge(fabricate(40))
    assert not _having(verdicts, "fails")
    unsure = _having(verdicts, "could not tell")
    assert {(name, f"coverage by {kind}") for name, kind in COVERING.items()} <= unsure


def _small(**changes: object) -> Misspecified:
    """Regression on counts and clustered lines at one size, in about a second."""
    names = ("poisson", "clustered")
    counts = dict.fromkeys(names, 600)
    size = Size({"poisson": (500,), "clustered": (1000,)}, counts, coverage_width=0.08, ratio_width=0.3,
                difference_width=1.0)  # fmt: skip
    picked = {key: {name: getattr(STUDY, key)[name] for name in names} for key in ("designs", "covariances")}
    return replace(STUDY, sizes={Preset.QUICK: size}, **picked, **changes)


def _run(study: Misspecified) -> pd.DataFrame:
    table = tabulate(study, study.cells(Preset.QUICK))
    return study.verdicts(table, Preset.QUICK).set_index(["regime", "quantity"])["verdict"]


SANDWICH = ("poisson", "coverage by sandwich at n = 500")
CLUSTER = ("clustered", "coverage by cluster at n = 1000")


def test_the_study_holds_with_the_right_covariances() -> None:
    verdicts = _run(_small())
    assert verdicts[SANDWICH] == "holds"
    assert verdicts[CLUSTER] == "holds"
    assert "fails" not in set(verdicts)


def test_a_meat_that_is_the_information_turns_the_sandwich() -> None:
    verdicts = _run(_small(meats=STUDY.meats | {"sandwich": information}))
    assert verdicts[SANDWICH] == "fails"
    assert verdicts[CLUSTER] == "holds"


def test_a_meat_that_ignores_clusters_turns_the_cluster_sandwich() -> None:
    verdicts = _run(_small(meats=STUDY.meats | {"cluster": independent}))
    assert verdicts[CLUSTER] == "fails"
    assert verdicts[SANDWICH] == "holds"
