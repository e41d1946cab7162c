"""The figure of the study ``efficiency`` from a fabricated table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paper_figures.figures.efficiency_draws import draw
from paper_figures.results import Results
from paper_figures.style import save, style
from simulations.studies.efficiency import EXCESS, STUDY
from simulations.study import Cell, Preset


def _rows(cell: Cell) -> pd.DataFrame:
    k = max(int(cell.parameters["n_draws"]), 1)
    head = {"study": STUDY.name, **cell.parameters, "replicate": np.arange(cell.replicates), "parameter": "log_scale"}
    spread = np.linspace(0.9, 1.1, cell.replicates)
    estimate = 3 * spread / k if cell.parameters["quantity"] == EXCESS else spread
    tail = {
        "truth": 0.0,
        "estimate": estimate,
        "se": np.nan,
        "status": "converged",
        "seconds": 0.001 * k,
        "seed": "[0]",
    }
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
    assert [axis.get_xlabel() for axis in figure.axes] == [
        "draws an observation, K",
        "kernel evaluations an observation",
    ]
    assert all(axis.get_ylabel() and axis.get_title() for axis in figure.axes)
    assert len({text.get_text() for text in figure.legends[0].get_texts()}) == 4


def test_points_are_those_of_the_table(results: Results) -> None:
    with style():
        axes = draw(results).axes
    excess = 3 * np.linspace(0.9, 1.1, 24) / 16
    lost = float(np.mean(excess / (1 + excess)))
    for axis, expected in zip(axes, (lost, 1 - lost), strict=True):
        shown = np.concatenate([np.stack(np.broadcast_arrays(*line.get_data()), axis=1) for line in axis.lines])
        at = shown[shown[:, 0] == 16, 1].astype(float)
        assert np.isclose(at, expected, rtol=1e-12).sum() == 3


def test_two_saves_give_equal_bytes(results: Results, tmp_path: Path) -> None:
    once, twice = (_bytes(results, tmp_path / part) for part in "ab")
    assert once == twice
    moved = replace(results, table=results.table.assign(estimate=1.1 * results.table["estimate"]))
    assert all(one != other for one, other in zip(once, _bytes(moved, tmp_path / "c"), strict=True))
