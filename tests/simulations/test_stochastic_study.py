"""The study ``stochastic``: its grid, rows, designs, and wrong estimators that turn its verdicts."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from scipy.stats import norm

import eeqs
from eeqs.marginal import plug_in
from simulations.designs.logistic import Logistic
from simulations.designs.noise_variance import NoiseVariance
from simulations.runner import tabulate
from simulations.schema import CONVERGED
from simulations.seeds import replicate_seed
from simulations.studies.stochastic import STUDY, Runs, Size, Stochastic
from simulations.study import Cell, Preset, check_cells


def _cell(regime: str, role: str = "rate", steps: int = 20, replicates: int = 3) -> Cell:
    """A cell of the quick preset, cut down."""
    wanted = {"regime": regime, "role": role}
    cell = next(c for c in STUDY.cells(Preset.QUICK) if wanted.items() <= c.parameters.items())
    stream = cell.stream if role == "path" else ""
    return Cell(cell.study, {**cell.parameters, "steps": steps}, replicates, batch=replicates, stream=stream)


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells, size = STUDY.cells(preset), STUDY.sizes[preset]
    check_cells(STUDY.name, cells)
    for regime, runs in size.runs.items():
        steps = [
            c.parameters["steps"] for c in cells if c.parameters["regime"] == regime and c.parameters["role"] == "rate"
        ]
        assert tuple(steps) == runs.steps
        assert len([t for t in steps if t >= runs.burn_in]) >= 4
        assert 2048 % STUDY.regimes[regime].rows == 0
    rates = [cell.stream for cell in cells if cell.parameters["role"] == "rate"]
    paths = [cell.stream for cell in cells if cell.parameters["role"] == "path"]
    assert len(set(rates)) == len(rates)
    assert len(set(paths)) == 1


@pytest.mark.parametrize(("regime", "coordinates"), [("logistic", 3), ("marginal", 1)])
def test_rows_pass_the_schema(regime: str, coordinates: int) -> None:
    table = tabulate(STUDY, [_cell(regime)])
    outputs = [*STUDY.methods, "last"]
    assert len(table) == 3 * coordinates * len(outputs)
    output = table["parameter"].str.partition(".")[0]
    assert set(output) == set(outputs)
    assert table.loc[output == "last", "se"].isna().all()
    assert (table.loc[output != "last", "se"] > 0).all()
    first, *others = (table.loc[output == name, "estimate"].to_numpy() for name in STUDY.methods)
    assert all(np.array_equal(first, other) for other in others)
    assert not np.array_equal(first, table.loc[output == "last", "estimate"])


@pytest.mark.parametrize("regime", ["logistic", "marginal"])
def test_a_row_does_not_depend_on_its_batch(regime: str) -> None:
    cell = _cell(regime)

    def run(replicates: range) -> pd.DataFrame:
        seeds = [replicate_seed(0, cell.stream, r) for r in replicates]
        return STUDY.run(cell, replicates, seeds).sort_values(["replicate", "parameter"], ignore_index=True)

    together, alone = run(range(3)), pd.concat([run(range(r, r + 1)) for r in range(3)], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone, rtol=1e-8, atol=1e-10)
    pd.testing.assert_frame_equal(together, run(range(3)), check_exact=True)


def test_a_longer_path_continues_a_shorter_one() -> None:
    """Cells of the role ``path`` share a stream: a run of 20 + 2 steps reads the first batches of one of 30 + 3."""
    psi = Logistic().psi()
    short, long = (tabulate(STUDY, [_cell("logistic", "path", t, 1)]) for t in (20, 30))
    assert short["seed"].iloc[0] == long["seed"].iloc[0]
    seen = []

    @dataclass(frozen=True)
    class Watched(Logistic):
        def sample(self, n: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
            seen.append(super().sample(n, generator))
            return seen[-1]

    regime = replace(STUDY.regimes["logistic"], design=Watched())
    tabulate(replace(STUDY, regimes={"logistic": regime}), [_cell("logistic", "path", 30, 1)])
    rows = {name: leaf[: 22 * 64] for name, leaf in seen[0].items()}
    fit = eeqs.stochastic(psi, eeqs.minibatches(rows, 64), [0.0, 0.0, 0.0], step=regime.step, burn_in=2)
    last = short[short["parameter"].str.startswith("last")]
    np.testing.assert_allclose(last["estimate"], fit.last, rtol=1e-12)


def test_the_logistic_design_has_its_truth() -> None:
    """Residuals are uncorrelated with the regressors, within 4 standard errors, at the truth and not beside it."""
    design = Logistic()
    data = {name: leaf.numpy() for name, leaf in design.sample(200_000, torch.Generator().manual_seed(0)).items()}
    x = np.column_stack([np.ones(200_000), data["x1"], data["x2"]])
    np.testing.assert_allclose(x[:, 1:].std(axis=0), 1, atol=0.01)
    for shift, largest in ((0.0, (0.0, 4.0)), (0.05, (4.0, np.inf))):
        scores = x * (data["y"] - expit(x @ np.add(design.truth, [0, shift, 0])))[:, None]
        z = np.abs(scores.mean(axis=0)) / (scores.std(axis=0) / 200_000**0.5)
        assert largest[0] <= z.max() < largest[1]


def test_the_noise_variance_design_has_its_truth_and_is_nearly_linear() -> None:
    design = NoiseVariance()
    assert design.truth == pytest.approx((0.81,))
    assert design.start == (1.0,)
    assert design.low < 0.3 * design.truth[0] < 3 * design.truth[0] < design.high
    data = design.sample(60_000, torch.Generator().manual_seed(1))
    psi = design.psi()

    def mean(variance: float) -> tuple[float, float]:
        values = psi(torch.tensor([variance], dtype=torch.float64), data)
        return float(values.mean()), float(values.std()) / 60_000**0.5

    at, error = mean(0.81)
    assert abs(at) < 4 * error
    below, above = mean(0.81 - 0.3)[0] - at, mean(0.81 + 0.3)[0] - at
    assert abs(below + above) < 0.1 * abs(below - above)  # curvature against slope, on one sample
    biased = replace(design, score=plug_in).psi()(torch.tensor([0.81], dtype=torch.float64), data)
    assert abs(float(biased.mean())) > 10 * float(biased.std()) / 60_000**0.5


SMALL = Size(
    runs={"logistic": Runs((128, 256, 512), 128, 150), "marginal": Runs((64, 128, 256), 64, 50)},
    path_steps=(),
    slope_width=0.8,
    coverage_width=0.25,
)


def _verdicts(study: Stochastic, regime: str) -> pd.Series:
    small = replace(SMALL, runs={regime: SMALL.runs[regime]})
    study = replace(study, sizes={Preset.QUICK: small})
    verdicts = study.verdicts(tabulate(study, study.cells(Preset.QUICK)), Preset.QUICK)
    return verdicts.set_index("quantity")["verdict"]


def _having(verdicts: pd.Series, *words: str) -> set[str]:
    return set(verdicts[[all(word in quantity for word in words) for quantity in verdicts.index]])


def last_iterate(fit: eeqs.StochasticEstimate) -> torch.Tensor:
    """Planted error: no averaging."""
    return fit.last


@dataclass(frozen=True)
class NormalRandomScaling(eeqs.RandomScaling):
    """Planted error: the random scale taken for a variance."""

    def quantile(self, probability: float) -> float:
        return float(norm.ppf(probability))


def test_planted_errors_in_the_recursion_turn_the_verdicts() -> None:
    right = _verdicts(STUDY, "logistic")
    assert (right == "holds").all(), right.to_string()
    not_averaged = _verdicts(replace(STUDY, estimator=last_iterate), "logistic")
    assert _having(not_averaged, "slope", "averaged") == {"fails"}
    assert _having(not_averaged, "coverage", "plug_in") == {"fails"}
    assert _having(not_averaged, "last / averaged") == {"fails"}
    assert _having(not_averaged, "slope", "last iterate") == {"holds"}
    methods = {**STUDY.methods, "random_scaling": NormalRandomScaling()}
    normal = _verdicts(replace(STUDY, methods=methods), "logistic")
    assert _having(normal, "random_scaling") == {"fails"}
    assert _having(normal, "plug_in") == {"holds"}


def test_a_biased_psi_turns_the_verdicts() -> None:
    """With shorter steps and more Jacobians than in the study, so that a few hundred steps are enough."""
    regime = replace(STUDY.regimes["marginal"], step=eeqs.PowerStep(8.0, 0.55, delay=10))
    short = replace(STUDY, methods={**STUDY.methods, "plug_in": eeqs.PlugIn(every=4)})
    right = _verdicts(replace(short, regimes={"marginal": regime}), "marginal")
    assert _having(right, "slope", "averaged") == _having(right, "coverage", "plug_in") == {"holds"}, right.to_string()
    biased = replace(regime, design=replace(regime.design, score=plug_in))
    wrong = _verdicts(replace(short, regimes={"marginal": biased}), "marginal")
    assert _having(wrong, "slope", "averaged") == {"fails"}
    assert _having(wrong, "coverage", "plug_in") == {"fails"}
    assert _having(wrong, "coverage", "random_scaling") == {"fails"}


def test_a_run_that_diverges_is_a_row_with_its_status() -> None:
    regime = replace(STUDY.regimes["logistic"], step=lambda _: 1e9)
    table = tabulate(replace(STUDY, regimes={"logistic": regime}), [_cell("logistic")])
    assert set(table["status"]) == {"diverged"}
    assert CONVERGED not in set(table["status"])
    assert np.isfinite(table["estimate"]).all()
