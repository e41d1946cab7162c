"""The judge of the study ``phi_coverage``, and that wrong standard errors planted in a table turn its verdicts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from torch import Tensor

from simulations.claims.phi_coverage import judge
from simulations.designs.perturbed_text import PerturbedText
from simulations.runner import tabulate
from simulations.studies.phi_coverage import STUDY, Size, by_document
from simulations.study import Preset
from simulations.verdicts import check_verdicts

Plant = Callable[[pd.DataFrame], pd.DataFrame]
DESIGNS = {"one_scale": ("log_scale",), "two_scales": ("log_scale[0]", "log_scale[1]"), "styles": ("log_scale",),
           "plug_in": ("log_scale",)}  # fmt: skip


def _cell(design: str, entry: str, kind: str, n: int, replicates: int) -> pd.DataFrame:
    """Errors of the planted law: normal quantiles in place of random errors."""
    errors = norm.ppf((np.arange(replicates) + 0.5) / replicates)
    share = 0.65 if (design, kind) == ("styles", "token") else 1.0
    return pd.DataFrame(
        {
            "design": design,
            "n": n,
            "replicate": np.arange(replicates),
            "parameter": f"{entry}:{kind}",
            "truth": 0.1,
            "estimate": 0.1 + (errors - 2.5 * (design == "plug_in")) / n**0.5,
            "se": share * errors.std() / n**0.5,
            "status": "converged",
        }
    )


def fabricate(replicates: int = 1000) -> pd.DataFrame:
    """Table of a study that obeys the claim."""
    cells = [(d, e, k, n) for d, names in DESIGNS.items() for e in names for k in STUDY.meats for n in (40, 160)]
    return pd.concat([_cell(*cell, replicates) for cell in cells], ignore_index=True)


def _judge(table: pd.DataFrame) -> pd.DataFrame:
    verdicts = judge(table, coverage_width=0.08, ratio_width=0.25)
    check_verdicts(verdicts)
    return verdicts


def _having(verdicts: pd.DataFrame, verdict: str) -> set[tuple[str, str]]:
    rows = verdicts[verdicts["verdict"] == verdict]
    return {(row.regime, row.quantity.split(",")[0]) for row in rows.itertuples(index=False)}


def test_every_claim_holds_where_the_theory_does() -> None:
    verdicts = _judge(fabricate())
    assert set(verdicts["verdict"]) == {"holds"}
    assert set(verdicts["claim"]) == {"LM"}
    assert len(verdicts) == 6 + 8 + 1 + 4


def _scaled(design: str, kind: str, factor: float) -> Plant:
    def plant(table: pd.DataFrame) -> pd.DataFrame:
        mine = (table["design"] == design) & table["parameter"].str.endswith(kind)
        return table.assign(se=table["se"].where(~mine, factor * table["se"]))

    return plant


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (
            _scaled("one_scale", "document", 0.6),
            {
                ("one_scale", "coverage of log_scale by document"),
                ("one_scale", "document SE of log_scale / spread of the estimates"),
            },
        ),
        (
            _scaled("styles", "token", 1 / 0.65),
            {
                ("styles", "coverage of log_scale by token"),
                ("styles", "token SE of log_scale / spread of the estimates"),
            },
        ),
        (
            _scaled("two_scales", "token", 0.5),
            {("two_scales", f"token SE of log_scale[{j}] / spread of the estimates") for j in (0, 1)},
        ),
        (
            lambda t: t.assign(estimate=t["estimate"] + 2.5 / t["n"] ** 0.5 * (t["design"] == "plug_in")),
            {("plug_in", "coverage of log_scale by document"), ("plug_in", "bias of log_scale / spread")},
        ),
        (
            lambda t: t.assign(status=np.where((t["replicate"] % 5 == 0) & (t["design"] == "styles"), "stalled",
                                               t["status"])),
            {("styles", "share of failures")},
        ),
    ],
    ids=["too small", "naive covers", "naive far off", "plug-in unbiased", "failures"],
)  # fmt: skip
def test_a_claim_fails_where_the_theory_does(plant: Plant, expected: set[tuple[str, str]]) -> None:
    assert _having(_judge(plant(fabricate())), "fails") == expected


def test_too_few_replicates_cannot_tell() -> None:
    verdicts = _judge(fabricate(30))
    assert not _having(verdicts, "fails")
    assert ("one_scale", "coverage of log_scale by document") in _having(verdicts, "could not tell")


def test_a_meat_that_is_too_small_turns_the_verdict_of_the_study() -> None:
    """Planted in the study itself: standard errors of half the size, eight Monte Carlo errors from one."""

    def quarter(design: PerturbedText, theta: Tensor, data: dict[str, Tensor]) -> Tensor:
        return by_document(design, theta, data) / 4

    size = Size((30,), {"one_scale": 30}, coverage_width=0.5, ratio_width=1.0)
    for meat, expected in ((quarter, "fails"), (by_document, "holds")):
        study = replace(STUDY, sizes={Preset.QUICK: size}, meats={"document": meat})
        verdicts = study.verdicts(tabulate(study, study.cells(Preset.QUICK)), Preset.QUICK)
        ratio = verdicts[verdicts["quantity"].str.startswith("document SE")]
        assert ratio["verdict"].tolist() == [expected]
