"""The study ``rates`` and its design: the grid, the rows, common observations, and an estimate free of its start."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import eeqs
from eeqs.marginal import Score, cross_fitted, exact, plug_in, quadratic, single_draw
from simulations.schema import CONVERGED, check_rows, complete
from simulations.seeds import replicate_seed, torch_generator
from simulations.studies.rates import ROOT, SCORE, STUDY
from simulations.study import Cell, Preset, check_cells

DESIGN = STUDY.design
SCORES = {score.name: score for score in (single_draw, plug_in, quadratic, cross_fitted)}
LINES = [*((name, 4) for name in SCORES), ("exact", 0)]


def _cell(quantity: str, estimator: str, n_draws: int, n: int = 200) -> Cell:
    """A cell of the quick preset, cut down to n observations and three replicates."""
    wanted = {"quantity": quantity, "estimator": estimator, "n_draws": n_draws}
    cell = next(c for c in STUDY.cells(Preset.QUICK) if wanted.items() <= c.parameters.items())
    return replace(cell, parameters={**cell.parameters, "n": n}, replicates=3, batch=3, stream=f"n={n}")


def _run(cell: Cell, replicates: range) -> pd.DataFrame:
    return STUDY.run(cell, replicates, [replicate_seed(0, cell.stream, r) for r in replicates])


def _score(estimator: str) -> Score:
    return SCORES.get(estimator) or exact(DESIGN.nodes)


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells, size = STUDY.cells(preset), STUDY.size(preset)
    check_cells(STUDY.name, cells)
    grid = pd.DataFrame([cell.parameters for cell in cells])
    roots = grid[grid["quantity"] == ROOT]
    assert set(roots["estimator"]) == {*SCORES, "exact"}
    for estimator in (*SCORES, "exact"):
        for n_draws in (0,) if estimator == "exact" else (2, 4, 8):
            line = roots[(roots["estimator"] == estimator) & (roots["n_draws"] == n_draws)]
            assert len(set(line["n"])) >= 6
            assert line["n"].max() >= 100 * line["n"].min()
            assert len(set(line.loc[line["n"] >= size.burn_in, "n"])) >= 4
            assert ((grid["quantity"] == SCORE) & (grid["estimator"] == estimator) & (grid["n_draws"] == n_draws)).any()
    at_one_size = roots[(roots["estimator"] == "plug_in") & (roots["n"] == size.bias_size)]
    assert sorted(at_one_size["n_draws"]) == [2, 4, 8, 16, 32, 64]


def test_cells_of_one_size_share_a_stream_and_others_do_not() -> None:
    for preset in (Preset.QUICK, Preset.FULL):
        cells = STUDY.cells(preset)
        assert len({(cell.parameters["n"], cell.stream) for cell in cells}) == len({cell.stream for cell in cells})
        assert len({cell.stream for cell in cells}) == len({cell.parameters["n"] for cell in cells})


def test_observations_do_not_depend_on_the_number_of_draws() -> None:
    plain, *drawn = (DESIGN.sample(300, k, torch.Generator().manual_seed(5)) for k in (None, 2, 4, 8))
    assert set(plain) == {"x", "y"}
    for n_draws, data in zip((2, 4, 8), drawn, strict=True):
        assert torch.equal(data["x"], plain["x"])
        assert torch.equal(data["y"], plain["y"])
        assert data["z"].shape == (300, n_draws, 1)
    assert not torch.equal(DESIGN.sample(300, None, torch.Generator().manual_seed(6))["x"], plain["x"])


@pytest.mark.parametrize("quantity", [ROOT, SCORE])
@pytest.mark.parametrize(("estimator", "n_draws"), LINES)
def test_rows_pass_the_schema(quantity: str, estimator: str, n_draws: int) -> None:
    cell = _cell(quantity, estimator, n_draws)
    (batch,) = cell.batches()
    seeds = [replicate_seed(0, cell.stream, r) for r in batch.replicates]
    rows = complete(STUDY.run(cell, batch.replicates, seeds), batch, seeds, seconds=1.0)
    check_rows(rows, batch)
    assert (rows["truth"] == (DESIGN.truth if quantity == ROOT else 0.0)).all()
    assert set(rows["parameter"]) == {"log_scale"}
    if estimator != "single_draw":  # whose scale collapses
        assert (rows["status"] == CONVERGED).all()
        assert (rows["se"] > 0).all()


@pytest.mark.parametrize("quantity", [ROOT, SCORE])
@pytest.mark.parametrize(("estimator", "n_draws"), LINES)
def test_a_row_does_not_depend_on_its_batch(quantity: str, estimator: str, n_draws: int) -> None:
    cell = _cell(quantity, estimator, n_draws)
    together = _run(cell, range(3))
    alone = pd.concat([_run(cell, range(r, r + 1)) for r in range(3)], ignore_index=True)
    exactly = ["replicate", "parameter", "truth", "status"]
    pd.testing.assert_frame_equal(together[exactly], alone[exactly])
    for column in ("estimate", "se"):
        np.testing.assert_allclose(together[column], alone[column], rtol=1e-8, atol=1e-8)
    assert together["estimate"].nunique() == 3


@pytest.mark.parametrize(("estimator", "n_draws"), LINES)
def test_psi_at_truth_is_minus_the_gradient_of_the_training_loss(estimator: str, n_draws: int) -> None:
    cell = _cell(SCORE, estimator, n_draws)
    rows = _run(cell, range(2))
    for r in range(2):
        data = DESIGN.sample(200, n_draws or None, torch_generator(replicate_seed(0, cell.stream, r)))
        model = DESIGN.model()
        model.loss(_score(estimator), data["x"], data["y"], data.get("z")).backward()
        mean = -float(model.perturbation.log_scale.grad.sum())
        assert rows["estimate"][r] == pytest.approx(mean, rel=1e-9, abs=1e-12)
        values = model.psi(_score(estimator), draws=n_draws or None)(model.theta, data | {"y": data["y"].double()})
        assert rows["se"][r] == pytest.approx(np.std(values.numpy(), ddof=1) / 200**0.5, rel=1e-9)


def _quadrature_error(nodes: int) -> float:
    """Error of the score at the truth by quadrature, against 90 nodes, in standard errors of the score."""
    model = DESIGN.model()
    data = DESIGN.sample(20_000, None, torch.Generator().manual_seed(1))
    data["y"] = data["y"].double()
    found, reference = (model.psi(exact(m))(model.theta, data) for m in (nodes, 90))
    return float((found - reference).mean().abs() / (reference.std() / 20_000**0.5))


def test_quadrature_of_the_design_is_exact_enough() -> None:
    assert _quadrature_error(DESIGN.nodes) < 0.05


def test_fewer_nodes_would_not_be() -> None:
    assert _quadrature_error(8) > 0.5


@pytest.mark.parametrize("score", [plug_in, quadratic, cross_fitted, exact(DESIGN.nodes)], ids=lambda score: score.name)
def test_the_estimate_does_not_depend_on_the_start(score: Score) -> None:
    n_draws = None if score.nodes else 8
    data = DESIGN.sample(1000, n_draws, torch.Generator().manual_seed(0))
    psi = DESIGN.model().psi(score, draws=n_draws)
    found = [eeqs.solve(psi, data, [start], tolerance=1e-6, throw=True).theta for start in (0.0, -0.4)]
    assert float((found[0] - found[1]).abs().max()) < 1e-5
    assert DESIGN.start not in (DESIGN.truth, float(found[0][0]))
