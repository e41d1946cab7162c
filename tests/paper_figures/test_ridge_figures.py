"""Figures of the study ``ridge`` from a fabricated table: labelled, complete, and the same bytes twice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import norm

from paper_figures.gallery import discover
from paper_figures.results import Results
from paper_figures.ridge_results import panels
from paper_figures.style import save, style
from simulations.studies.ridge import STUDY
from simulations.study import Cell, Preset

FIGURES = discover("ridge")


def _rows(cell: Cell, equivalent: float) -> pd.DataFrame:
    errors = 1 + 0.2 * norm.ppf((np.arange(cell.replicates) + 0.5) / cell.replicates)
    fixed = {"truth": 0.0, "estimate": equivalent * errors, "se": np.nan, "status": "converged", "seconds": 0.1}
    head = {"study": STUDY.name, **cell.parameters, "replicate": np.arange(cell.replicates), "parameter": "excess_risk"}
    return pd.DataFrame({**head, **fixed, "seed": "[0]"})


@pytest.fixture(scope="module")
def results() -> Results:
    found = []
    for cell in STUDY.cells(Preset.QUICK):
        line = next(line for line in STUDY.lines if line.levels.items() <= cell.parameters.items())
        found.append(_rows(cell, line.equivalent(int(cell.parameters["n"]))))
    return Results(STUDY.name, Preset.QUICK, pd.concat(found, ignore_index=True))


def _draw(name: str, results: Results) -> Figure:
    with style():
        return FIGURES[name](results)


def test_both_figures_are_found() -> None:
    assert set(FIGURES) == {"ridge_rates", "ridge_equivalent"}


@pytest.mark.parametrize("name", FIGURES)
def test_axes_are_labelled_and_every_line_is_named(name: str, results: Results) -> None:
    figure = _draw(name, results)
    assert len(figure.axes) == 3
    for axis, (title, lines) in zip(figure.axes, panels(), strict=True):
        assert axis.get_title() == title
        assert axis.get_xlabel() == "sample size n"
        shown = [text.get_text() for text in axis.get_legend().get_texts()]
        assert len(set(shown)) == len(shown) == len(lines)
        for text, line in zip(shown, lines, strict=True):
            assert f"a = {line.design.decay:g}, r = {line.design.source:g}" in text
    assert figure.axes[0].get_ylabel()


def test_predicted_and_fitted_slopes_are_printed(results: Results) -> None:
    for axis, (_, lines) in zip(_draw("ridge_rates", results).axes, panels(), strict=True):
        for text, line in zip(axis.get_legend().get_texts(), lines, strict=True):
            assert f"theory \N{MINUS SIGN}{line.design.exponent:.2f}, fit \N{MINUS SIGN}0." in text.get_text()


def test_ratios_of_a_table_that_equals_its_equivalent_are_one(results: Results) -> None:
    for axis in _draw("ridge_equivalent", results).axes:
        for bars in axis.containers:
            np.testing.assert_allclose(bars.lines[0].get_ydata(), 1, atol=1e-9)


@pytest.mark.parametrize("name", FIGURES)
def test_drawing_twice_gives_the_same_bytes(name: str, results: Results, tmp_path: Path) -> None:
    written = []
    for part in "ab":
        with style():
            paths = save(FIGURES[name](results), tmp_path / part, name)
        written.append({path.suffix: path.read_bytes() for path in paths})
    assert set(written[0]) == {".pdf", ".svg", ".png"}
    assert written[0] == written[1]
