"""The judge of the study ``capacity``: on tables that obey T13 and that do not, and with the split taken away."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from eeqs.marginal import cross_fitted, single_draw
from simulations.claims.capacity import judge
from simulations.designs.joint_training import Equations, JointTraining
from simulations.runner import tabulate
from simulations.studies.capacity import STUDY, Capacity, Size
from simulations.study import Preset
from simulations.verdicts import check_verdicts

N, OTHERS, RATIOS = 100, (200, 400), STUDY.sizes[Preset.FULL].ratios
TRUTH, ENTROPY = 0.5, 0.73
Value = Callable[[str, str, float, float], float]


def _theory(method: str, parameter: str, _n: float, ratio: float) -> float:
    """In sample the scale falls from the truth past n / 10 and the loss rises to that without noise."""
    share = 1 / (1 + (ratio / 0.1) ** 1.5)
    if method.startswith("split"):
        return TRUTH if parameter == "scale" else 0.9
    if parameter == "scale":
        return 0.0 if method == "plain" else TRUTH * max(share, 0.1)
    return 0.9 + 0.8 * (1 - share)


def fabricate(value: Value = _theory, replicates: int = 40, spread: float = 0.02) -> pd.DataFrame:
    """Table whose log estimates are normal quantiles around the given ones, in another order for every cell."""
    quantiles = spread * norm.ppf((np.arange(replicates) + 0.5) / replicates)
    cells = [(method, N, ratio) for method in STUDY.methods for ratio in RATIOS]
    cells += [("in_sample", n, ratio) for n in OTHERS for ratio in RATIOS if ratio < 1]
    rows = []
    for seed, (method, n, ratio) in enumerate(cells):
        for parameter, truth in (("scale", TRUTH), ("loss", ENTROPY)):
            noise = np.random.default_rng(seed).permutation(quantiles)
            estimate = value(method, parameter, n, ratio) * np.exp(noise)
            fixed = {"method": method, "n": n, "ratio": ratio, "parameter": parameter, "status": "converged"}
            rows.append(pd.DataFrame({**fixed, "replicate": range(replicates), "truth": truth, "estimate": estimate}))
    return pd.concat(rows, ignore_index=True)


def _verdicts(table: pd.DataFrame) -> pd.DataFrame:
    verdicts = judge(table, n=N, crossover_sizes=OTHERS)
    check_verdicts(verdicts)
    return verdicts


def _in_sample(_method: str, parameter: str, n: float, ratio: float) -> float:
    """Every equation behaves as it would in sample."""
    return _theory("in_sample", parameter, n, ratio)


def _harmless(_method: str, parameter: str, n: float, ratio: float) -> float:
    """Estimation in sample keeps the scale and the loss."""
    return _theory("split", parameter, n, ratio)


def _explodes(method: str, parameter: str, n: float, ratio: float) -> float:
    """Everything about the split grows with the capacity."""
    return _theory(method, parameter, n, ratio) * (ratio**0.5 if method.startswith("split") else 1)


def _drifts(method: str, parameter: str, n: float, ratio: float) -> float:
    """The crossover is at a fixed capacity and not at a fixed share of n."""
    return _theory(method, parameter, n, ratio * (n / N) ** 2 if n > OTHERS[0] else ratio)


def test_every_claim_holds_where_the_theory_does() -> None:
    assert (_verdicts(fabricate())["verdict"] == "holds").all()


@pytest.mark.parametrize(
    ("plant", "fails"),
    [
        (_in_sample, "scale over the truth at m = 20 n, at least"),
        (_in_sample, "scale over that of the split"),
        (_in_sample, "loss over that of the split"),
        (_harmless, "scale over the truth at m = 20 n, at most"),
        (_harmless, "loss at m = 20 n over m = 0.02 n"),
        (_explodes, "scale at m = 20 n over m = n"),
        (_explodes, "loss at m = 20 n over m = n"),
        (_drifts, "that m / n at n = 400"),
    ],
)
def test_a_claim_fails_where_the_theory_does(plant: Value, fails: str) -> None:
    verdicts = _verdicts(fabricate(plant))
    hit = verdicts["quantity"].str.contains(fails, regex=False)
    assert hit.any()
    assert set(verdicts.loc[hit, "verdict"]) == {"fails"}


def test_few_noisy_replicates_leave_the_claims_open() -> None:
    verdicts = _verdicts(fabricate(replicates=3, spread=3.0))
    steady = verdicts["quantity"].str.contains("over m = n", regex=False)
    assert set(verdicts.loc[steady, "verdict"]) == {"could not tell"}


def test_diverged_fits_are_counted() -> None:
    table = fabricate()
    table.loc[table["replicate"] < 4, "status"] = "diverged"
    last = _verdicts(table).iloc[-1]
    assert (last["quantity"], last["verdict"]) == ("share diverged, below", "fails")


@pytest.fixture(scope="module")
def small() -> Capacity:
    size = Size(40, (0.2, 1.0, 4.0), 8, crossover_sizes=(50, 60), crossover_replicates=2)
    return replace(STUDY, sizes={Preset.QUICK: size}, training=JointTraining(steps=120, scale_rate=0.03))


def test_estimation_in_sample_in_place_of_a_split_fails_the_claim(small: Capacity) -> None:
    def kept(study: Capacity, table: pd.DataFrame) -> list[str]:
        verdicts = study.verdicts(table, Preset.QUICK)
        ends = ("scale over the truth at m = 4 n, at least", "scale over that of the split at m = 4 n, at most")
        return list(verdicts.loc[verdicts["quantity"].isin(ends), "verdict"])

    table = tabulate(small, small.cells(Preset.QUICK))
    assert kept(small, table) == ["holds"] * 4
    in_sample = {"split": Equations(cross_fitted, cross_fitted), "split_single": Equations(single_draw, cross_fitted)}
    wrong = replace(small, methods={**small.methods, **in_sample})
    again = tabulate(wrong, [cell for cell in wrong.cells(Preset.QUICK) if cell.parameters["method"] in in_sample])
    assert kept(wrong, pd.concat([table[~table["method"].isin(in_sample)], again])) == ["fails"] * 4
