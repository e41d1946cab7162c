"""The study ``boundary`` and its design: the grid, the rows, the truth, the root and the interval's test."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

import eeqs
from eeqs.marginal import cross_fitted, exact
from eeqs.marginal.boundary import scale_interval
from simulations.claims.boundary import REGULAR
from simulations.designs.zero_noise import FLOOR, ZeroNoise
from simulations.runner import tabulate
from simulations.schema import CONVERGED, check_rows, complete
from simulations.seeds import replicate_seed, torch_generator
from simulations.studies.boundary import ROOT, STUDY, TEST
from simulations.study import Cell, Preset, check_cells

DESIGN = STUDY.design


def _cell(quantity: str, estimator: str, distance: float = 0.0, n: int = 500) -> Cell:
    """A cell of the quick preset, cut down to n observations and eight replicates."""
    wanted = {"quantity": quantity, "estimator": estimator, "distance": distance}
    cell = next(c for c in STUDY.cells(Preset.QUICK) if wanted.items() <= c.parameters.items())
    return replace(cell, parameters={**cell.parameters, "n": n}, replicates=8, batch=8, stream=f"n={n}")


CELLS = [*(_cell(ROOT, line) for line in STUDY.lines), *(_cell(TEST, "exact", t) for t in STUDY.distances)]


def _run(cell: Cell, replicates: range) -> pd.DataFrame:
    return STUDY.run(cell, replicates, [replicate_seed(0, cell.stream, r) for r in replicates])


def _probabilities(scale: float, x: np.ndarray, nodes: int = 40) -> np.ndarray:
    """Class probabilities (n, V) at a scale, in numpy with probabilists' Gauss-Hermite nodes."""
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    e = x[:, None] + scale * z
    logits = np.array(DESIGN.weight) * e[..., None] + np.array(DESIGN.square_weight) * e[..., None] ** 2
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return np.einsum("m,nmv->nv", weight / weight.sum(), p)


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells, size = STUDY.cells(preset), STUDY.sizes[preset]
    check_cells(STUDY.name, cells)
    roots = [cell for cell in cells if cell.parameters["quantity"] == ROOT]
    for line in STUDY.lines:
        sizes = {cell.parameters["n"] for cell in roots if cell.parameters["estimator"] == line}
        assert sizes == set(size.sizes)
        assert sum(n >= size.burn_in for n in size.sizes) >= 4
    assert len({cell.stream for cell in roots}) == len(size.sizes)
    tests = [cell for cell in cells if cell.parameters["quantity"] == TEST]
    assert {cell.parameters["distance"] for cell in tests} == set(STUDY.distances)
    assert len({cell.stream for cell in tests}) == len(tests)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.key)
def test_rows_pass_the_schema_and_do_not_depend_on_their_batch(cell: Cell) -> None:
    (batch,) = cell.batches()
    seeds = [replicate_seed(0, cell.stream, r) for r in batch.replicates]
    rows = STUDY.run(cell, batch.replicates, seeds)
    check_rows(complete(rows, batch, seeds, seconds=1.0), batch)
    alone = pd.concat([_run(cell, range(r, r + 1)) for r in batch.replicates], ignore_index=True)
    exactly = ["replicate", "parameter", "truth", "status"]
    pd.testing.assert_frame_equal(rows[exactly], alone[exactly])
    for column in ("estimate", "se"):
        np.testing.assert_allclose(rows[column], alone[column], rtol=1e-6, atol=1e-8)
    assert (rows["status"] == CONVERGED).all()


def test_score_of_the_variance_at_zero_is_half_the_second_derivative_over_p() -> None:
    x, h = np.linspace(-0.5, 0.5, 7), 1e-3
    p, above, below = (_probabilities(0.0, x + shift, nodes=2) for shift in (0.0, h, -h))
    expected = (above - 2 * p + below) / h**2 / (2 * p)
    psi = DESIGN.psi(exact(DESIGN.nodes), None)
    for v in range(3):
        data = {"x": torch.from_numpy(x)[:, None], "y": torch.full((7,), float(v), dtype=torch.float64)}
        found = psi(torch.tensor([FLOOR], dtype=torch.float64), data)[:, 0]
        np.testing.assert_allclose(found, expected[:, v], rtol=1e-4)


def test_information_and_prediction_error_agree_with_numpy() -> None:
    x, h = np.linspace(-0.5, 0.5, 20_001), 1e-3
    p, above, below = (_probabilities(0.0, x + shift, nodes=2) for shift in (0.0, h, -h))
    curvature = (above - 2 * p + below) / h**2
    assert DESIGN.information == pytest.approx(((curvature / 2) ** 2 / p).sum(axis=1).mean(), rel=1e-3)
    error = math.sqrt(((_probabilities(0.3, x) - p) ** 2).mean())
    found = DESIGN.prediction_error(torch.tensor([0.0, 0.3], dtype=torch.float64), 0.0)
    assert float(found[0]) == 0.0
    assert float(found[1]) == pytest.approx(error, rel=1e-3)


def test_estimate_is_the_maximum_of_the_likelihood_on_the_half_line() -> None:
    rows = _run(CELLS[0], range(8))
    variances = rows[rows["parameter"] == "variance"]["estimate"].to_numpy()
    assert 0 < (variances == 0).sum() < 8
    for r, variance in enumerate(variances):
        data = DESIGN.sample(500, None, torch_generator(replicate_seed(0, "n=500", r)))
        x, y = data["x"][:, 0].numpy(), data["y"].long().numpy()

        def slope(v: float, x: np.ndarray = x, y: np.ndarray = y) -> float:
            value = [np.log(_probabilities(math.sqrt(u), x)[np.arange(500), y]).mean() for u in (v + 1e-5, v)]
            return float(value[0] - value[1])

        if slope(0.0) <= 0:
            assert variance == 0
        else:
            assert variance == pytest.approx(brentq(slope, 0.0, 0.5), abs=1e-4)


def test_standard_errors_are_those_of_the_sandwich_in_the_scale() -> None:
    rows = _run(_cell(ROOT, "cross_fitted"), range(8))
    scale, variance = (rows[rows["parameter"] == name].set_index("replicate") for name in ("scale", "variance"))
    zero = scale["estimate"] == 0
    assert scale.loc[zero, "se"].isna().all()
    assert (variance["se"] > 0).all()
    np.testing.assert_allclose(variance["se"][~zero], (2 * scale["estimate"] * scale["se"])[~zero], rtol=1e-9)
    score, draws = STUDY.lines["cross_fitted"]
    assert score is cross_fitted
    assert draws is not None
    assert draws.name == "antithetic"
    for r in scale.index[~zero]:
        data = DESIGN.sample(500, draws, torch_generator(replicate_seed(0, "n=500", r)))
        model = DESIGN.model(float(scale["estimate"][r]))
        fit = eeqs.estimate(model.psi(score, draws=draws), data, tolerance=1e-5)
        assert float(fit.params.iloc[0]) == pytest.approx(scale["estimate"][r], rel=1e-3)
        assert float(fit.bse.iloc[0]) == pytest.approx(scale["se"][r], rel=1e-2)


def _mean_at_zero(independent: bool) -> Tensor:
    score, draws = STUDY.lines["cross_fitted_independent" if independent else "cross_fitted"]
    data = DESIGN.sample(500, draws, torch_generator(replicate_seed(0, "n=500", 0)))
    return DESIGN.model(0.0).psi(score, draws=draws)(torch.zeros(1, dtype=torch.float64), data).abs().max()


def test_mirrored_draws_leave_nothing_in_the_score_of_the_scale_at_zero() -> None:
    assert float(_mean_at_zero(independent=False)) < 1e-12
    assert float(_mean_at_zero(independent=True)) > 0.1


@pytest.mark.parametrize("distance", [0.0, 1.0])
def test_the_interval_holds_the_truth_where_the_study_says_so(distance: float) -> None:
    cell = replace(_cell(TEST, "exact", distance), stream="interval")
    table = tabulate(STUDY, [replace(cell, replicates=6, batch=6)])
    accepted = table[table["parameter"] == "accepted"]["estimate"].to_numpy()
    design = ZeroNoise(distance=distance)
    truth = design.truth(500)
    assert truth**2 == pytest.approx(distance / math.sqrt(500 * design.information))
    for r, inside in enumerate(accepted):
        data = design.sample(500, None, torch_generator(replicate_seed(0, "interval", r)))
        interval = scale_interval(design.model(0.1), data, exact(design.nodes))
        assert (interval.lower <= truth <= interval.upper) == bool(inside)


def test_all_regular_lines_are_there() -> None:
    assert set(REGULAR) < set(STUDY.lines)
