"""Figures of the study ``boundary`` from a small real table: labelled, and the same bytes twice."""

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.text import Text

from paper_figures.gallery import discover
from paper_figures.results import Results
from paper_figures.style import save, style
from simulations.runner import tabulate
from simulations.studies.boundary import STUDY
from simulations.study import Preset

FIGURES = discover("boundary")
LABELS = {
    "boundary_rates": {"sample size n", "RMSE, with 95 % band", "slope \N{MINUS SIGN}1/4", "slope \N{MINUS SIGN}1/2"}
    | {"exact (quadrature)", "cross-fitted, independent draws", r"noise scale $\sigma$", "predicted probabilities"},
    "boundary_law": {"density, or share at zero", "coverage (%), with 95 % interval; black: predicted", "one half"},
}


@pytest.fixture(scope="module")
def results() -> Results:
    cells = [
        replace(cell, replicates=12, batch=12)
        for cell in STUDY.cells(Preset.QUICK)
        if int(cell.parameters["n"]) <= 1000
    ]
    return Results(STUDY.name, Preset.QUICK, tabulate(STUDY, cells))


def test_all_figures_are_tried() -> None:
    assert set(FIGURES) == set(LABELS)


@pytest.mark.parametrize("name", LABELS)
def test_labels(name: str, results: Results) -> None:
    with style():
        figure = FIGURES[name](results)
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert LABELS[name] <= texts
    assert figure.get_size_inches()[0] == pytest.approx(7.0)


@pytest.mark.parametrize("name", LABELS)
def test_two_saves_give_equal_bytes(name: str, results: Results, tmp_path: Path) -> None:
    written = []
    for copy in ("first", "second"):
        with style():
            paths = save(FIGURES[name](results), tmp_path / copy, name)
        written.append({path.suffix: path.read_bytes() for path in paths})
    assert written[0] == written[1]
    assert set(written[0]) == {".pdf", ".svg", ".png"}
    assert mpl.rcParams["pdf.fonttype"] != 42  # the style did not leak
