"""The judge of the study ``extrapolation``, on tables made to order and on real fits with an error planted."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from simulations.claims.extrapolation import judge
from simulations.designs.ensemble import Ensemble
from simulations.designs.extrapolators import METHODS, Extrapolation, Method
from simulations.designs.pre_additive import TRUTHS
from simulations.runner import tabulate
from simulations.studies.extrapolation import STUDY, ExtrapolationStudy, Size
from simulations.study import Preset
from simulations.verdicts import check_verdicts

BY_NAME = {truth.name: truth for truth in TRUTHS}
# Errors that obey the claim, in units of those of the learned scale.
FACTOR = {"learned": 1, "tuned": 2, "fixed": 3, "additive": 4, "least_squares": 4, "least_absolute": 4, "none": 6}
MEASURES = ("mean", "median", "energy", "divergence")


def fabricate(replicates: int = 20) -> pd.DataFrame:
    """Errors with a factor common to the methods of a replicate and another of their own; no randomness."""
    common = norm.ppf((np.arange(replicates) + 0.5) / replicates)
    rows = []
    for cell in STUDY.cells(Preset.QUICK):
        name = str(cell.parameters["estimator"])
        own = np.sin((1 + list(FACTOR).index(name)) * (1.0 + np.arange(replicates)))
        levels = {f"{m} {place}": FACTOR[name] for m in MEASURES for place in ("inside", "outside")}
        for parameter, level in levels.items():
            rows.append((cell.parameters["regime"], name, parameter, level * np.exp(common + 0.1 * own)))
        rows.append((cell.parameters["regime"], name, "reach", 2.0 / FACTOR[name] + 0.1 * own))
    parts = [
        pd.DataFrame({"regime": regime, "estimator": name, "replicate": range(replicates), "parameter": parameter}
                     | {"truth": 0.0, "estimate": values, "status": "converged"})
        for regime, name, parameter, values in rows
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _judge(table: pd.DataFrame) -> pd.DataFrame:
    verdicts = judge(table, BY_NAME, n=2000)
    check_verdicts(verdicts)
    return verdicts


def _failing(verdicts: pd.DataFrame) -> set[tuple[str, str]]:
    rows = verdicts[verdicts["verdict"] == "fails"]
    return set(zip(rows["regime"], rows["quantity"], strict=True))


def _scaled(table: pd.DataFrame, factor: float, **levels: str) -> pd.DataFrame:
    where = pd.Series(True, index=table.index)
    for column, level in levels.items():
        where &= table[column] == level
    return table.assign(estimate=table["estimate"].where(~where, factor * table["estimate"]))


def test_all_claims_hold_on_a_table_that_obeys_them() -> None:
    verdicts = _judge(fabricate())
    assert (verdicts["verdict"] == "holds").all(), verdicts.to_string()
    assert len(verdicts) == 4 * (3 + 3 + 3 + 2 + 2) + 2 * 2 + 4 + 1
    ratio = verdicts[(verdicts["regime"] == "log") & verdicts["quantity"].str.contains("mean.*outside.*fixed")]
    assert ratio["estimate"].item() == pytest.approx(1 / 3, rel=0.05)


def learned_is_no_better_than_fixed(table: pd.DataFrame) -> pd.DataFrame:
    fixed = table[(table["regime"] == "log") & (table["estimator"] == "fixed")]
    learned = (table["regime"] == "log") & (table["estimator"] == "learned")
    return table.assign(
        estimate=table["estimate"].mask(learned, pd.Series(fixed["estimate"].to_numpy(), table.index[learned]))
    )


def learned_loses_inside(table: pd.DataFrame) -> pd.DataFrame:
    return _scaled(table, 8.0, regime="cubic", estimator="learned", parameter="median inside")


def nothing_ends(table: pd.DataFrame) -> pd.DataFrame:
    return _scaled(table, 2.0, regime="square", estimator="learned", parameter="reach")


def fixed_is_worse_than_none(table: pd.DataFrame) -> pd.DataFrame:
    return _scaled(table, 4.0, regime="tokens", estimator="fixed", parameter="divergence outside")


OUT = "up to 2 sd outside"


@pytest.mark.parametrize(
    ("plant", "failing"),
    [
        (
            learned_is_no_better_than_fixed,
            {("log", f"error of the {m} {OUT}, learned / fixed, at most") for m in ("mean", "median")}
            | {("log", f"excess energy score {OUT}, learned / fixed, at most")}
            | {("log", f"error of the {m} {OUT}, learned / tuned, at most") for m in ("mean", "median")},
        ),
        (learned_loses_inside, {("cubic", "error of the median inside, learned / least_absolute, at most")}),
        (nothing_ends, {("square", "reach of the median in sd, learned; it ends before 3.4")}),
        (fixed_is_worse_than_none, {("tokens", f"excess log score {OUT}, fixed / none, at most")}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_error_fails_its_own_claims_only(
    plant: Callable[[pd.DataFrame], pd.DataFrame], failing: set[tuple[str, str]]
) -> None:
    assert _failing(_judge(plant(fabricate()))) == failing


def test_two_replicates_leave_comparisons_open() -> None:
    verdicts = _judge(fabricate(2))
    assert _failing(verdicts) == set()
    assert (verdicts["verdict"] == "could not tell").sum() >= 40


def test_fits_that_diverged_are_counted() -> None:
    table = fabricate()
    bad = table["replicate"] < 10
    verdicts = _judge(
        table.assign(status=table["status"].mask(bad, "not finite"), estimate=table["estimate"].mask(bad))
    )
    assert _failing(verdicts) == {("all", "share of fits that diverged, below")}


def shared(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """One latent for both responses of the energy score, which are then equal."""
    return torch.randn((1, *shape[1:]), generator=generator).expand(shape)


def _small(ensemble: Ensemble | None = None, **methods: Method) -> ExtrapolationStudy:
    """The square alone, with few updates."""
    kept = {name: METHODS[name] for name in ("learned", "additive", "least_absolute")}
    regime = Extrapolation(BY_NAME["square"], methods={**kept, **methods})
    sizes = {Preset.QUICK: Size(n=1000, replicates=8, batch=8)}
    return ExtrapolationStudy(sizes=sizes, regimes=(regime,), ensemble=ensemble or Ensemble(updates=400))


@pytest.fixture(scope="module")
def right() -> pd.DataFrame:
    study = _small()
    return tabulate(study, study.cells(Preset.QUICK))


def _with_learned_of(wrong: ExtrapolationStudy, right: pd.DataFrame) -> pd.DataFrame:
    """Verdicts where the planted study's learned scale stands in the place of the right one."""
    cells = [cell for cell in wrong.cells(Preset.QUICK) if cell.parameters["estimator"] == "learned"]
    others = right[right["estimator"] != "learned"]
    return wrong.verdicts(pd.concat([tabulate(wrong, cells), others], ignore_index=True), Preset.QUICK)


def _verdict(verdicts: pd.DataFrame, start: str) -> str:
    return verdicts.loc[verdicts["quantity"].str.startswith(start), "verdict"].item()


MEDIAN = f"error of the median {OUT}, learned / least_absolute"
ENERGY = f"excess energy score {OUT}, learned / additive"


def test_the_learned_scale_beats_no_noise_in_real_fits(right: pd.DataFrame) -> None:
    verdicts = _small().verdicts(right, Preset.QUICK)
    assert _verdict(verdicts, MEDIAN) == "holds", verdicts.to_string()
    assert _verdict(verdicts, ENERGY) == "holds", verdicts.to_string()


def test_no_noise_in_place_of_the_learned_scale_fails(right: pd.DataFrame) -> None:
    verdicts = _with_learned_of(_small(learned=Method()), right)
    assert _verdict(verdicts, MEDIAN) == "fails", verdicts.to_string()


def test_a_draw_shared_by_both_responses_of_the_energy_score_fails(right: pd.DataFrame) -> None:
    wrong = _small(Ensemble(updates=400, draw=shared))
    verdicts = _with_learned_of(wrong, right)
    assert _verdict(verdicts, ENERGY) == "fails", verdicts.to_string()
