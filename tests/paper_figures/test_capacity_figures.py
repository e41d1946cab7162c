"""Figures of the study ``capacity`` from a fabricated table: labelled, complete, and the same bytes twice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from paper_figures.figures import capacity_collapse, capacity_crossover
from paper_figures.results import Results
from paper_figures.style import save, style
from simulations.claims.capacity import LABELS
from simulations.studies.capacity import STUDY
from simulations.study import Preset

FIGURES = {"collapse": capacity_collapse.draw, "crossover": capacity_crossover.draw}


@pytest.fixture(scope="module")
def results() -> Results:
    """In sample the scale falls as (m / n)^-1/2 from the truth at 0.05, and so to half of it at 0.2."""
    rows = []
    for cell in STUDY.cells(Preset.QUICK):
        method, ratio = str(cell.parameters["method"]), float(cell.parameters["ratio"])
        falls = 0.5 * (ratio / 0.05) ** -0.5
        scale = {"plain": 0.0, "in_sample": falls, "in_sample_single": falls}.get(method, 0.5)
        for parameter, truth, value in (("scale", 0.5, scale), ("loss", 0.7, 1.2)):
            estimate = value * np.exp(0.1 * np.linspace(-1, 1, 6))
            fixed = {**cell.parameters, "parameter": parameter, "truth": truth, "status": "converged"}
            rows.append(pd.DataFrame({**fixed, "replicate": range(6), "estimate": estimate}))
    return Results(STUDY.name, Preset.QUICK, pd.concat(rows, ignore_index=True))


def _draw(name: str, results: Results) -> Figure:
    with style():
        return FIGURES[name](results)


@pytest.mark.parametrize("name", FIGURES)
def test_drawing_twice_gives_the_same_bytes(name: str, results: Results, tmp_path: Path) -> None:
    with style():
        once, twice = (save(FIGURES[name](results), tmp_path / part, "figure") for part in "ab")
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in twice]


@pytest.mark.parametrize("name", FIGURES)
def test_axes_are_labelled(name: str, results: Results) -> None:
    for axis in _draw(name, results).axes:
        assert axis.get_xlabel()
        assert axis.get_ylabel()
        assert axis.get_title()


def test_the_legend_names_every_method(results: Results) -> None:
    (legend,) = _draw("collapse", results).legends
    assert {text.get_text() for text in legend.get_texts()} == set(LABELS.values())


def test_the_crossover_stands_in_the_legend(results: Results) -> None:
    (axis,) = _draw("crossover", results).axes
    legend = axis.get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == 2
    assert all("half at m / n = 0.20" in text for text in texts)
