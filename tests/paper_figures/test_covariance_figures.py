"""Figures of the study ``covariance`` from a small real table: labelled, and the same bytes twice."""

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.text import Text

from paper_figures.gallery import discover
from paper_figures.results import Results
from paper_figures.style import save, style
from simulations.runner import tabulate
from simulations.studies.covariance import STUDY
from simulations.study import Preset

FIGURES = discover("covariance")
LABELS = {
    "covariance_rates": {"sample size n", "RMSE, with 95 % band", "slope \N{MINUS SIGN}1/4", "slope \N{MINUS SIGN}1/2"}
    | {"rank 3, 6 columns", "rank 1, 1 column", r"covariance: $\|\hat\Sigma - \Sigma\|$"},
}


@pytest.fixture(scope="module")
def results() -> Results:
    cells = [replace(cell, replicates=min(cell.replicates, 8)) for cell in STUDY.cells(Preset.QUICK)]
    return Results(STUDY.name, Preset.QUICK, tabulate(STUDY, [c for c in cells if int(c.parameters["n"]) <= 1000]))


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
