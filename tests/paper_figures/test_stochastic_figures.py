"""Figures of the study ``stochastic`` from a fabricated table: labelled, whole, and the same bytes twice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import norm

from paper_figures.gallery import discover
from paper_figures.results import Results
from paper_figures.style import save, style
from simulations.studies.stochastic import STUDY
from simulations.study import Cell, Preset

FIGURES = discover(STUDY.name)
CELLS = [replace(cell, replicates=min(cell.replicates, 40)) for cell in STUDY.cells(Preset.QUICK)]
PANELS = {"stochastic_rmse": 4, "stochastic_coverage": 4, "stochastic_paths": 3}


def _rows(cell: Cell) -> pd.DataFrame:
    regime, steps = str(cell.parameters["regime"]), float(cell.parameters["steps"])
    design = STUDY.regimes[regime].design
    errors = norm.ppf((np.arange(cell.replicates) + 0.5) / cell.replicates)
    parts = []
    for name, truth in zip(design.names, design.truth, strict=True):
        for output in (*STUDY.methods, "last"):
            scale = steps ** (-0.275 if output == "last" else -0.5)
            part = pd.DataFrame({"study": STUDY.name, **cell.parameters, "replicate": np.arange(cell.replicates)})
            part = part.assign(parameter=f"{output}.{name}", truth=truth, estimate=truth + scale * errors)
            part["se"] = np.nan if output == "last" else scale * (0.7 if output == "batch_means" else 1.0)
            parts.append(part.assign(status="converged", seconds=0.1, seed="[0]"))
    return pd.concat(parts)


@pytest.fixture(scope="module")
def results() -> Results:
    table = pd.concat([_rows(cell) for cell in CELLS], ignore_index=True)
    return Results(STUDY.name, Preset.QUICK, table)


def _drawn(name: str, results: Results) -> Figure:
    with style():
        return FIGURES[name](results)


def _saved(name: str, results: Results, directory: Path) -> list[Path]:
    with style():
        return save(FIGURES[name](results), directory, name)


def test_the_study_has_its_figures() -> None:
    assert set(FIGURES) == set(PANELS)


@pytest.mark.parametrize("name", PANELS)
def test_two_drawings_give_the_same_bytes(name: str, results: Results, tmp_path: Path) -> None:
    once, twice = ({path.suffix: path.read_bytes() for path in _saved(name, results, tmp_path / part)} for part in "ab")
    assert set(once) == {".pdf", ".svg", ".png"}
    assert once == twice


@pytest.mark.parametrize("name", PANELS)
def test_axes_and_legend_are_labelled(name: str, results: Results) -> None:
    figure = _drawn(name, results)
    assert len(figure.axes) == PANELS[name]
    assert all(axis.get_title() and axis.get_xlabel() == "steps T" for axis in figure.axes)
    assert figure.axes[0].get_ylabel()
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert len(shown) == len(set(shown)) >= 3


def test_fitted_slopes_are_printed(results: Results) -> None:
    for axis in _drawn("stochastic_rmse", results).axes:
        averaged, last = (text.get_text() for text in axis.texts)
        assert averaged.startswith("\N{MINUS SIGN}0.50 [")
        assert last.startswith(("\N{MINUS SIGN}0.27 [", "\N{MINUS SIGN}0.28 ["))


def test_the_path_shows_the_band_of_random_scaling(results: Results) -> None:
    rows = results.rows(role="path", parameter="random_scaling.x1").sort_values("steps")
    axis = _drawn("stochastic_paths", results).axes[1]
    band = axis.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(1.96 * rows["se"].max(), rel=1e-3)
