"""Figures of the study ``width`` from a fabricated table: labelled, told from their table, and the same bytes twice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from paper_figures.figures import width_rates, width_sweep
from paper_figures.results import Results
from paper_figures.style import save, style
from simulations.studies.width import STUDY
from simulations.study import Preset

FIGURES = {"rates": width_rates.draw, "sweep": width_sweep.draw}
PEAK = 500.0


@pytest.fixture(scope="module")
def results() -> Results:
    """Errors n^-0.7, with a peak off the frame for the minimum norm at m = n."""
    rows = []
    for cell in STUDY.cells(Preset.QUICK):
        spread = np.exp(0.1 * np.linspace(-1, 1, 6))
        for parameter in ("regularised", "unregularised"):
            peak = parameter == "unregularised" and cell.parameters["ratio"] == 1.0
            error = PEAK if peak else 2 * float(cell.parameters["n"]) ** -0.7
            fixed = {**cell.parameters, "parameter": parameter, "truth": 0.0, "status": "converged"}
            rows.append(pd.DataFrame({**fixed, "replicate": range(6), "estimate": error * spread}))
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
    figure = _draw(name, results)
    assert all(axis.get_xlabel() and axis.get_title() for axis in figure.axes)
    assert figure.axes[0].get_ylabel()


def test_fitted_slopes_stand_in_the_legend(results: Results) -> None:
    (legend,) = _draw("rates", results).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert sum(text.endswith("slope \N{MINUS SIGN}0.70") for text in texts) == 3


def test_a_peak_above_the_frame_is_printed(results: Results) -> None:
    for axis in _draw("sweep", results).axes:
        assert [text.get_text() for text in axis.texts] == ["\N{UPWARDS ARROW} 500"]
