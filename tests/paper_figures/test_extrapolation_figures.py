"""Figures of the study ``extrapolation`` from a table made to order: labelled, complete, and the same bytes twice."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from paper_figures.extrapolation_methods import LOOKS, geometric
from paper_figures.gallery import discover
from paper_figures.results import Results
from paper_figures.style import save, style
from simulations.designs.distances import labels
from simulations.designs.extrapolators import Extrapolation
from simulations.designs.token_extrapolation import TokenExtrapolation
from simulations.studies.extrapolation import STUDY
from simulations.study import Preset

FIGURES = discover("extrapolation")
REPLICATES = 4


def _rows(regime: Extrapolation | TokenExtrapolation, method: str, n: int) -> pd.DataFrame:
    if isinstance(regime, Extrapolation):
        names = [f"{m} {label}" for m in ("mean", "median", "energy") for label in [*labels(), "outside"]]
        points = [f"curve {x:+.1f}" for x in np.arange(regime.truth.low - 4, regime.truth.high + 4.1, 0.5)]
    else:
        names, points = [f"divergence {label}" for label in [*labels(), "outside"]], []
    index = pd.MultiIndex.from_product(
        [range(REPLICATES), [*names, *points, "scale"]], names=["replicate", "parameter"]
    )
    frame = index.to_frame(index=False)
    level = 0.1 * (1 + list(LOOKS).index(method)) * (1 + frame["replicate"] / 10)
    fixed: dict[str, Any] = {
        "study": STUDY.name,
        "regime": regime.name,
        "estimator": method,
        "n": n,
        "se": np.nan,
        "status": "converged",
    }
    return frame.assign(
        **fixed,
        truth=frame["parameter"].str.extract(r"([+-].*)$")[0].astype(float).fillna(0),
        estimate=level,
        seconds=0.1,
        seed="[0]",
    )


@pytest.fixture(scope="module")
def results() -> Results:
    parts = [_rows(regime, name, 2000) for regime in STUDY.regimes for name in regime.methods]
    return Results(STUDY.name, Preset.QUICK, pd.concat(parts, ignore_index=True))


@pytest.mark.parametrize("name", FIGURES)
def test_drawing_twice_gives_the_same_bytes(name: str, results: Results, tmp_path: Path) -> None:
    written = []
    for part in "ab":
        with style():
            paths = save(FIGURES[name](results), tmp_path / part, name)
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    assert len(written[0]) == 3


def _first_column(axis: Axes) -> bool:
    place = axis.get_subplotspec()
    return place is not None and place.is_first_col()


@pytest.mark.parametrize("name", FIGURES)
def test_panels_axes_and_legend_are_named(name: str, results: Results) -> None:
    with style():
        figure = FIGURES[name](results)
    shown = [axis for axis in figure.axes if axis.axison]
    titles = {axis.get_title() for axis in shown}
    assert {"softplus", "square", "cubic", "log"} <= titles
    assert all(axis.get_xlabel() for axis in shown[-2:])
    assert all(axis.get_ylabel() for axis in shown if _first_column(axis))
    found = [*figure.legends, *(axis.get_legend() for axis in figure.axes)]
    (legend,) = [each for each in found if each is not None]
    names = [text.get_text() for text in legend.get_texts()]
    assert {LOOKS["learned"].label, LOOKS["fixed"].label} <= set(names)
    assert len(names) == len(set(names))


def test_points_are_geometric_means_with_intervals() -> None:
    rows = pd.DataFrame({"parameter": ["a"] * 4 + ["b"] * 4, "estimate": [1.0, 2.0, 4.0, np.nan, 3.0, 3.0, 3.0, 3.0]})
    found = geometric(rows, ["b", "a"])
    assert found["value"].tolist() == pytest.approx([3.0, 2.0])
    half = 4.302653 * np.log(2) / 3**0.5  # Student quantile with 2 degrees of freedom
    assert found.loc["a", "high"] == pytest.approx(2 * np.exp(half), rel=1e-5)
    assert found.loc["b", "low"] == pytest.approx(3.0)
