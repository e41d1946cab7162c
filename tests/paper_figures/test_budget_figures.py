"""The figure of the study ``budget`` from a fabricated table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from paper_figures.figures.budget_best import draw
from paper_figures.results import Results
from paper_figures.style import save, style
from simulations.studies.budget import STUDY
from simulations.study import Cell, Preset


def _rows(cell: Cell) -> pd.DataFrame:
    k, n = int(cell.parameters["n_draws"]), int(cell.parameters["n"])
    bias = -1.0 / k if cell.parameters["estimator"] == "plug_in" else 0.0
    errors = bias + norm.ppf((np.arange(cell.replicates) + 0.5) / cell.replicates) * np.sqrt((4 + 12 / k) / n)
    head = {"study": STUDY.name, **cell.parameters, "replicate": np.arange(cell.replicates), "parameter": "log_scale"}
    tail = {"truth": 0.0, "estimate": errors, "se": np.nan, "status": "converged", "seconds": 0.1, "seed": "[0]"}
    return pd.DataFrame(head | tail)


@pytest.fixture(scope="module")
def results() -> Results:
    table = pd.concat([_rows(cell) for cell in STUDY.cells(Preset.QUICK)], ignore_index=True)
    return Results(STUDY.name, Preset.QUICK, table)


def _bytes(results: Results, directory: Path) -> list[bytes]:
    with style():
        return [path.read_bytes() for path in save(draw(results), directory, "figure")]


def test_axes_are_labelled_and_every_line_is_named(results: Results) -> None:
    with style():
        figure = draw(results)
    budgets = STUDY.sizes[Preset.QUICK].replicates
    assert [axis.get_title() for axis in figure.axes] == [*(f"total nK = {total:,}" for total in budgets), "", ""]
    assert all(axis.get_xlabel() for axis in figure.axes)
    assert [bool(axis.get_ylabel()) for axis in figure.axes] == [True, *[False] * (len(budgets) - 1), True, True]
    assert len({text.get_text() for text in figure.legends[0].get_texts()}) == len(STUDY.lines)


def test_two_saves_give_equal_bytes(results: Results, tmp_path: Path) -> None:
    once, twice = (_bytes(results, tmp_path / part) for part in "ab")
    assert once == twice
    moved = replace(results, table=results.table.assign(estimate=1.1 * results.table["estimate"]))
    assert all(one != other for one, other in zip(once, _bytes(moved, tmp_path / "c"), strict=True))
