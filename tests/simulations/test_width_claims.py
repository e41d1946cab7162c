"""The judge of the study ``width``: on tables that obey T8 and that do not, and with early stopping taken away."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from simulations.claims.width import judge
from simulations.designs.network_path import NetworkPath
from simulations.runner import tabulate
from simulations.studies.width import STUDY, Size, Width
from simulations.study import Preset
from simulations.verdicts import check_verdicts

BURN_IN, SWEEP = 100, 200
Error = Callable[[str, str, float, float], float]


def _theory(learner: str, parameter: str, n: float, ratio: float) -> float:
    """Error that falls as n^-0.7, flat in the width, with a peak where nothing regularises."""
    peak, height = (0.2, 4.0) if learner == "network" else (1.0, 20.0)
    bump = (height - 1) * np.exp(-((np.log(ratio / peak) / 0.3) ** 2)) if parameter == "unregularised" else 0.0
    return float(3 * n**-0.7 * (1 + bump))


def fabricate(error: Error = _theory, replicates: int = 60, spread: float = 0.1) -> pd.DataFrame:
    """Table whose log errors are normal quantiles around the given ones, in another order for every cell."""
    quantiles = spread * norm.ppf((np.arange(replicates) + 0.5) / replicates)
    cells = {
        (learner, n, ratio): None for learner, ratios in STUDY.rate_ratios.items() for n in (50, 100, 200, 400)
        for ratio in ratios
    }  # fmt: skip
    cells |= {(name, SWEEP, ratio): None for name, ratios in STUDY.sweep_ratios.items() for ratio in ratios}
    rows = []
    for seed, (learner, n, ratio) in enumerate(cells):
        for parameter in ("regularised", "unregularised"):
            noise = np.random.default_rng(seed).permutation(quantiles)
            estimate = error(learner, parameter, n, ratio) * np.exp(noise)
            fixed = {"learner": learner, "n": n, "ratio": ratio, "parameter": parameter, "status": "converged"}
            rows.append(pd.DataFrame({**fixed, "replicate": range(replicates), "truth": 0.0, "estimate": estimate}))
    return pd.concat(rows, ignore_index=True)


def _verdicts(table: pd.DataFrame) -> pd.DataFrame:
    verdicts = judge(table, burn_in=BURN_IN, sweep_size=SWEEP)
    check_verdicts(verdicts)
    return verdicts


def test_every_claim_holds_where_the_theory_does() -> None:
    assert (_verdicts(fabricate())["verdict"] == "holds").all()


def _flat_in_n(learner: str, parameter: str, _n: float, ratio: float) -> float:
    return _theory(learner, parameter, 200.0, ratio)


def _grows(learner: str, parameter: str, n: float, ratio: float) -> float:
    return _theory(learner, parameter, n, ratio) * ratio**0.2


def _peaks(learner: str, _parameter: str, n: float, ratio: float) -> float:
    return _theory(learner, "unregularised", n, ratio)


def _never_peaks(learner: str, _parameter: str, n: float, ratio: float) -> float:
    return _theory(learner, "regularised", n, ratio)


@pytest.mark.parametrize(
    ("plant", "fails"),
    [
        (_flat_in_n, "exponent of squared error in n"),
        (_grows, "exponent of squared error in m"),
        (_grows, "m = 50 n over m = 2 n"),
        (_peaks, "m = 0.2 n over m = 50 n, at most"),
        (_never_peaks, "m = 1 n over m = 0.5 n, at least"),
    ],
)
def test_a_claim_fails_where_the_theory_does(plant: Error, fails: str) -> None:
    verdicts = _verdicts(fabricate(plant))
    hit = verdicts["quantity"].str.contains(fails, regex=False)
    assert hit.any()
    assert (verdicts.loc[hit, "verdict"] == "fails").all()


def test_few_noisy_replicates_leave_the_claims_open() -> None:
    verdicts = _verdicts(fabricate(replicates=4, spread=2.0))
    growth = verdicts["quantity"].str.contains("m = 50 n over m = 2 n", regex=False)
    assert (verdicts.loc[growth, "verdict"] == "could not tell").all()


def test_diverged_fits_are_counted() -> None:
    table = fabricate()
    table.loc[table["replicate"] < 6, "status"] = "diverged"
    verdicts = _verdicts(table)
    assert verdicts.iloc[-1]["quantity"] == "share diverged, below"
    assert verdicts.iloc[-1]["verdict"] == "fails"


def _last(error: torch.Tensor, _best: torch.Tensor) -> torch.Tensor:
    """Never stop: always move on along the path."""
    return torch.ones_like(error, dtype=torch.bool)


@pytest.fixture(scope="module")
def small() -> Width:
    size = Size((40, 80), 40, 4, sweep_size=40, sweep_replicates=40)
    sweep = {"network": (0.2, 2.0, 50.0), "random_features": (0.5, 1.0, 2.0, 50.0)}
    learners = {**STUDY.learners, "network": NetworkPath(steps=200)}
    return replace(STUDY, sizes={Preset.QUICK: size}, sweep_ratios=sweep, learners=learners)


def test_a_path_followed_to_its_end_fails_the_claim(small: Width) -> None:
    def peaks(study: Width) -> list[str]:
        verdicts = study.verdicts(tabulate(study, study.cells(Preset.QUICK)), Preset.QUICK).set_index("quantity")
        names = (
            "squared error at m = 0.2 n over m = 50 n, at most",
            "squared error at m = 1 n over m = 0.5 n, at most",
        )
        return list(verdicts.loc[list(names), "verdict"])

    assert peaks(small) == ["holds", "holds"]
    assert peaks(replace(small, keep=_last)) == ["fails", "fails"]
