"""The study ``efficiency``: grid, rows, and the excess variance against two references of its own."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import eeqs
from eeqs.marginal import Score, cross_fitted, exact, iid, plug_in
from simulations.runner import tabulate
from simulations.seeds import replicate_seed, torch_generator
from simulations.studies.efficiency import EXCESS, ROOT, STUDY
from simulations.study import Cell, Preset, check_cells

LINES = ("cross_fitted", "two_sample", "quadratic")


def _cell(quantity: str, estimator: str, n_draws: int, n: int = 300) -> Cell:
    parameters: dict[str, str | int | float] = {
        "quantity": quantity,
        "estimator": estimator,
        "n": n,
        "n_draws": n_draws,
    }
    return Cell(STUDY.name, parameters, 3, 3, stream="shared")


SMALL = [*(_cell(quantity, line, 8) for quantity in (EXCESS, ROOT) for line in LINES), _cell(ROOT, "exact", 0)]


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells, size = STUDY.cells(preset), STUDY.sizes[preset]
    check_cells(STUDY.name, cells)
    grid = pd.DataFrame([{**cell.parameters, "stream": cell.stream} for cell in cells])
    roots, excess = (grid[grid["quantity"] == quantity] for quantity in (ROOT, EXCESS))
    assert len(set(roots["stream"])) == 1
    assert len(set(excess["stream"])) == len(excess)
    for line in LINES:
        draws = excess.loc[excess["estimator"] == line, "n_draws"]
        assert (draws >= size.burn_in[line]).sum() >= 4
        assert size.root_draws in set(draws)


def test_rows_pass_the_schema_and_every_replicate_has_a_number() -> None:
    table = tabulate(STUDY, SMALL)
    assert len(table) == 3 * len(SMALL)
    assert np.isfinite(table["estimate"]).all()
    excess = table[table["quantity"] == EXCESS]
    assert (excess["estimate"] > 0).all()
    assert (excess.loc[excess["estimator"] != "quadratic", "truth"] == 0).all()
    assert excess.loc[excess["estimator"] == "quadratic", "truth"].between(0.05, 0.15).all()


@pytest.mark.parametrize("cell", SMALL, ids=lambda cell: cell.key)
def test_a_row_does_not_depend_on_its_batch(cell: Cell) -> None:
    together, alone = (tabulate(STUDY, [replace(cell, batch=batch)]) for batch in (3, 1))
    assert together["estimate"].nunique() == 3
    np.testing.assert_allclose(together["estimate"], alone["estimate"], rtol=1e-8, atol=1e-8)


def test_excess_is_the_difference_of_two_variances() -> None:
    n = 20_000
    found = tabulate(STUDY, [_cell(EXCESS, "cross_fitted", 4, n)])["estimate"]
    for replicate in range(3):
        generator = torch_generator(replicate_seed(0, "shared", replicate))
        data = STUDY.design.sample(n, iid(4), generator)
        data["y"] = data["y"].double()
        psi, best = (_psi(score, data) for score in (cross_fitted, exact(STUDY.design.nodes)))
        reference = (psi**2).mean() * (best**2).mean() / (psi * best).mean() ** 2 - 1
        assert found[replicate] == pytest.approx(float(reference), rel=1e-9)


def _psi(score: Score, data: dict[str, torch.Tensor]) -> torch.Tensor:
    model = STUDY.design.model()
    return model.psi(score, draws=None if score.nodes else 4)(model.theta, data)[:, 0]


def _bread_gap(score: Score) -> float:
    """Derivative of the mean of psi plus its mean product with the exact score, in standard errors over samples."""
    model, gaps = STUDY.design.model(), []
    for seed in range(20):
        data = STUDY.design.sample(4000, 4, torch.Generator().manual_seed(seed))
        data["y"] = data["y"].double()
        product = (_psi(score, data) * _psi(exact(STUDY.design.nodes), data)).mean()
        bread = eeqs.bread(model.psi(score, draws=4), model.theta, data)
        gaps.append(float(bread.sum().abs() - product))
    return abs(float(np.mean(gaps))) / float(np.std(gaps, ddof=1) / len(gaps) ** 0.5)


def test_bread_is_minus_the_covariance_with_the_score() -> None:
    assert _bread_gap(cross_fitted) < 3.5


def test_of_a_biased_psi_it_is_not() -> None:
    assert _bread_gap(plug_in) > 10
