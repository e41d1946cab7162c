"""The study ``budget``: every cell spends its budget, and its rows are those of the library's solver."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import eeqs
from simulations.runner import tabulate
from simulations.seeds import replicate_seed, torch_generator
from simulations.studies.budget import STUDY
from simulations.study import Cell, Preset, check_cells

SMALL = [
    Cell(STUDY.name, {"estimator": line, "budget": 2048, "n": 256, "n_draws": 8}, 3, 3)
    for line in ("plug_in", "cross_fitted", "two_sample")
]


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells = STUDY.cells(preset)
    check_cells(STUDY.name, cells)
    grid = pd.DataFrame([cell.parameters for cell in cells])
    assert (grid["n"] * grid["n_draws"] == grid["budget"]).all()
    assert len({cell.stream for cell in cells}) == len(cells)
    assert (grid.groupby(["estimator", "budget"])["n_draws"].nunique() >= 3).all()
    assert grid["budget"].max() >= 8 * grid["budget"].min()


def test_rows_pass_the_schema() -> None:
    table = tabulate(STUDY, SMALL)
    assert len(table) == 9
    assert (table["truth"] == STUDY.design.truth).all()
    assert table["se"].isna().all()
    assert (table["status"] == "converged").all()


@pytest.mark.parametrize("cell", SMALL, ids=lambda cell: cell.key)
def test_a_row_does_not_depend_on_its_batch(cell: Cell) -> None:
    together, alone = (tabulate(STUDY, [replace(cell, batch=batch)]) for batch in (3, 1))
    assert together["estimate"].nunique() == 3
    np.testing.assert_allclose(together["estimate"], alone["estimate"], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("cell", SMALL, ids=lambda cell: cell.key)
def test_an_estimate_is_a_root_of_psi(cell: Cell) -> None:
    score, design = STUDY.lines[str(cell.parameters["estimator"])]
    found = tabulate(STUDY, [cell])["estimate"]
    for replicate in range(3):
        seed = replicate_seed(0, cell.stream, replicate)
        data = STUDY.design.sample(256, design(8), torch_generator(seed))
        psi = STUDY.design.model().psi(score, draws=design(8))
        assert found[replicate] == pytest.approx(float(eeqs.solve(psi, data, [0.1], throw=True).theta[0]), abs=1e-5)
