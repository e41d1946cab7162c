"""The study ``extrapolation``: truths against references, rows, and methods that differ in nothing but the noise."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from eeqs.marginal import cross_fitted
from simulations.designs.distances import EDGES, by_distance, labels, reach
from simulations.designs.ensemble import Ensemble
from simulations.designs.extrapolators import Extrapolation, Method, energy_distance
from simulations.designs.pre_additive import TRUTHS, PreAdditive, normal_nodes
from simulations.designs.token_extrapolation import PerturbedKernel
from simulations.designs.token_line import TokenLine
from simulations.schema import CONVERGED, check_rows, complete
from simulations.seeds import replicate_seed
from simulations.studies.extrapolation import NOT_FINITE, STUDY, ExtrapolationStudy
from simulations.study import Cell, Preset, check_cells

SHORT = replace(STUDY, ensemble=Ensemble(hidden=(8, 8), updates=15, batch=20))
LINES = [
    ("square", "learned"),
    ("square", "tuned"),
    ("log", "least_squares"),
    ("tokens", "learned"),
    ("tokens", "none"),
]
BY_NAME = {truth.name: truth for truth in TRUTHS}
PUBLISHED = {
    "softplus": lambda u: np.logaddexp(0, u),
    "square": lambda u: max(u, 0.0) ** 2 / 2,
    "cubic": lambda u: u**3 / 3,
    "log": lambda u: u / 3 + math.log(3) - 2 / 3 if u <= 2 else math.log(1 + u),
}


def _cell(regime: str, estimator: str, replicates: int = 3) -> Cell:
    wanted = {"regime": regime, "estimator": estimator}
    cell = next(c for c in STUDY.cells(Preset.QUICK) if wanted.items() <= c.parameters.items())
    return replace(cell, parameters={**cell.parameters, "n": 60}, replicates=replicates, batch=replicates)


def _run(cell: Cell, replicates: range, study: ExtrapolationStudy = SHORT) -> pd.DataFrame:
    return study.run(cell, replicates, [replicate_seed(0, cell.stream, r) for r in replicates])


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells = STUDY.cells(preset)
    check_cells(STUDY.name, cells)
    assert {cell.parameters["regime"] for cell in cells} == {"softplus", "square", "cubic", "log", "tokens"}
    assert len({(cell.parameters["regime"], cell.stream) for cell in cells}) == 5
    assert all(cell.replicates >= 6 for cell in cells)


@pytest.mark.parametrize(("regime", "estimator"), LINES)
def test_rows_pass_the_schema(regime: str, estimator: str) -> None:
    cell = _cell(regime, estimator)
    (batch,) = cell.batches()
    seeds = [replicate_seed(0, cell.stream, r) for r in batch.replicates]
    rows = complete(_run(cell, batch.replicates), batch, seeds, seconds=1.0)
    check_rows(rows, batch)
    assert (rows["status"] == CONVERGED).all()
    errors = rows[rows["parameter"].str.contains("inside|outside")]
    assert (errors["estimate"] > 0).all()
    assert (errors["truth"] == 0).all()


@pytest.mark.parametrize(("regime", "estimator"), LINES)
def test_a_row_does_not_depend_on_its_batch(regime: str, estimator: str) -> None:
    cell = _cell(regime, estimator)
    together = _run(cell, range(3))
    alone = pd.concat([_run(cell, range(r, r + 1)) for r in range(3)], ignore_index=True)
    assert together.drop(columns="estimate").equals(alone.drop(columns="estimate"))
    # In single precision, over the updates of this short run.
    np.testing.assert_allclose(together["estimate"], alone["estimate"], rtol=1e-3, atol=1e-4)
    outside = together[together["parameter"].str.endswith(" outside")]
    assert outside["estimate"].nunique() == len(outside)


def test_a_fit_that_diverges_is_a_failure_and_not_dropped() -> None:
    cell = _cell("cubic", "least_squares")
    wild = replace(SHORT, ensemble=replace(SHORT.ensemble, rate=1e30))
    rows = _run(cell, range(3), wild)
    assert (rows["status"] == NOT_FINITE).all()
    assert rows["estimate"].isna().all()


def test_levels_of_a_method_see_the_batches_and_latents_of_one_level() -> None:
    cell = _cell("square", "fixed")

    def run(method: Method) -> pd.Series:
        regime = Extrapolation(BY_NAME["square"], methods={"fixed": method})
        return _run(cell, range(3), replace(SHORT, regimes=(regime,)))["estimate"]

    np.testing.assert_allclose(run(Method((0.3,))), run(Method((0.3, 0.3))), rtol=1e-3, atol=1e-4)
    assert not np.allclose(run(Method((0.3,))), run(Method((0.9,))), rtol=1e-2)


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_truths_are_those_of_the_reference(truth: PreAdditive) -> None:
    published = PUBLISHED[truth.name]
    nodes = normal_nodes(127)[:, 0]
    for x in np.linspace(truth.low - 4, truth.high + 4, 9):
        assert float(truth.function(torch.tensor(x))) == pytest.approx(published(float(x)), rel=1e-5, abs=1e-5)
        mean, _ = integrate.quad(lambda u, x=x: published(x + u) * stats.norm.pdf(u), -9, 9, limit=200)
        found = float(truth.responses(torch.tensor(x), nodes).mean())
        assert found == pytest.approx(mean, rel=0.01, abs=0.01)
    x, y = truth.sample(200_000, torch.Generator().manual_seed(0))
    assert truth.low <= float(x.min()) < float(x.max()) <= truth.high
    # Of the far tails of the noise, on which the variance of a cube depends, the nodes hold a part only.
    assert truth.spread(nodes) == pytest.approx(float(y.std()), rel=0.03)


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_observations_expected_beyond_the_support(truth: PreAdditive) -> None:
    generator = np.random.default_rng(1)
    n = 1_000_000
    u = generator.uniform(truth.low, truth.high, n) + generator.normal(size=n)
    for distance in (0.0, 0.5, 1.5):
        expected, counted = truth.expected_beyond(distance, n), int((u > truth.high + distance).sum())
        # The formula leaves out noise of more than the width of the support, at most 1 % of the count here.
        assert abs(counted - expected) < 5 * expected**0.5 + 0.06 * expected
    assert truth.expected_beyond(truth.end(2000), 2000) <= 0.1 < truth.expected_beyond(truth.end(2000) - 0.1, 2000)


def test_energy_distance_is_that_of_scipy() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=50), 0.5 + 2 * generator.normal(size=50)
    expected = stats.energy_distance(a, b) ** 2 / 2
    assert float(energy_distance(torch.tensor(a), torch.tensor(b))) == pytest.approx(expected, rel=1e-6)


def test_errors_by_distance_and_reach() -> None:
    distance = torch.tensor([-1.0, 0.0, 0.25, 0.5, 0.75, *EDGES[2:]])
    errors = torch.arange(len(distance), dtype=torch.float32)[None]
    found = by_distance(distance, errors)
    assert list(found) == [*labels(), "outside"]
    assert [float(found[name]) for name in ("inside", "+0.5", "+1.0", "+1.5")] == [0.5, 2.5, 4.5, 6.0]
    assert float(found["outside"]) == pytest.approx((2 + 3 + 4 + 5 + 6 + 7) / 6)
    within = torch.tensor([[0, 0, 1, 1, 0, *[1] * 7], [1, 1, 0, *[1] * 9], [1] * 12], dtype=torch.bool)
    assert reach(distance, within).tolist() == [0.5, 0.0, 4.0]
    with pytest.raises(ValueError, match="no point lies in the bins"):
        by_distance(distance[:5], errors[:, :5])


def test_law_of_the_token_line_is_that_of_its_samples() -> None:
    line = TokenLine()
    prefix, y = line.sample(400_000, torch.Generator().manual_seed(3))
    assert float(prefix.abs().max()) == line.half_width
    chosen = (prefix == torch.tensor([0.5, 2.0])).all(dim=1)
    counts = torch.bincount(y[chosen], minlength=line.n_classes).numpy()
    p = line.log_prob(torch.tensor([0.5, 2.0]), normal_nodes(127)[:, 0]).exp().numpy()
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert (np.abs(counts - counts.sum() * p) < 4.5 * np.sqrt(counts.sum() * p) + 1).all()


def test_without_noise_the_cross_fitted_gradient_is_that_of_the_cross_entropy() -> None:
    torch.manual_seed(0)
    module, x, y = PerturbedKernel(TokenLine(), (8,)), torch.randn(1, 30, 2), torch.randint(9, (30,))
    module.load_state_dict({**module.state_dict(), "perturbation.log_scale": torch.tensor(-torch.inf)})
    module = module.double()
    weights = list(module.kernel.parameters())
    live = module(x.double(), torch.randn(4, 1, 30, 2).double()).flatten(1, 2)
    surrogate = cross_fitted.loss(live, live.detach(), y, torch.full((4,), -math.log(4)).double()).sum()
    entropy = torch.nn.functional.nll_loss(live[0], y, reduction="sum")
    for one, other in zip(
        torch.autograd.grad(surrogate, weights, retain_graph=True), torch.autograd.grad(entropy, weights), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
