"""Zip plots and the coverage figure from fabricated tables: what they show, and the same bytes twice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import norm

from paper_figures.figures import misspecified_coverage, misspecified_zip, rates_zip
from paper_figures.misspecified_labels import DESIGNS, LABELS
from paper_figures.results import Results
from paper_figures.style import save, style
from paper_figures.zip_plot import zip_plot
from simulations.studies.misspecified import STUDY
from simulations.studies.rates import STUDY as RATES
from simulations.study import Preset


def _rows(se: float = 1.0, replicates: int = 200, **levels: object) -> pd.DataFrame:
    errors = norm.ppf((np.arange(replicates) + 0.5) / replicates)
    fixed = {"replicate": np.arange(replicates), "truth": 0.5, "estimate": 0.5 + errors, "se": se}
    return pd.DataFrame(levels | fixed | {"status": "converged", "seconds": 0.1, "seed": "[0]"})


@pytest.fixture(scope="module")
def results() -> Results:
    size = STUDY.sizes[Preset.QUICK]
    cells = [(name, kind, n) for name, kinds in STUDY.covariances.items() for kind in kinds for n in size.sizes[name]]
    parts = [
        _rows(1.0 if kind == STUDY.covariances[name][-1] else 0.6, study=STUDY.name, design=name, n=n, parameter=kind)
        for name, kind, n in cells
    ]
    return Results(STUDY.name, Preset.QUICK, pd.concat(parts, ignore_index=True))


@pytest.fixture(scope="module")
def rates() -> Results:
    n = RATES.size(Preset.QUICK).sizes[-1]
    levels = {"study": RATES.name, "quantity": "root", "n": n, "n_draws": 4, "parameter": "log_scale"}
    parts = [_rows(se, estimator=name, **levels) for name, se in (("plug_in", 0.3), ("cross_fitted", 1.0))]
    return Results(RATES.name, Preset.QUICK, pd.concat(parts, ignore_index=True))


def _drawn(module: object, results: Results) -> Figure:
    with style():
        return module.draw(results)


def test_every_design_and_covariance_has_its_name() -> None:
    assert set(DESIGNS) == set(STUDY.designs)
    assert set(LABELS) == set(STUDY.meats)


def test_coverage_has_a_labelled_panel_a_design(results: Results) -> None:
    figure = _drawn(misspecified_coverage, results)
    panels = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title() for axis in panels] == list(DESIGNS.values())
    legend = figure.axes[-1].get_legend()
    assert {text.get_text() for text in legend.get_texts()} == set(LABELS.values())
    for axis in (panels[0], panels[4]):
        assert axis.get_ylabel() == "coverage (%)"
    assert all(axis.get_xlabel() == "sample size n" for axis in panels[3:])


def test_zip_shows_the_wrong_above_the_right(results: Results) -> None:
    figure = _drawn(misspecified_zip, results)
    assert len(figure.axes) == 2 * len(misspecified_zip.SHOWN)
    wrong, right = figure.axes[:4], figure.axes[4:]
    assert all(LABELS["model_based"] in axis.get_title() for axis in wrong)
    for axis, design in zip(right, misspecified_zip.SHOWN, strict=True):
        assert axis.get_title() == LABELS[STUDY.covariances[design][-1]]
        assert axis.get_xlabel().startswith("estimate")
        assert axis.texts[0].get_text().startswith("95.0 %")
    assert all(axis.texts[0].get_text().startswith("76.0 %") for axis in wrong)


def test_zip_of_the_rates_shows_both_estimators(rates: Results) -> None:
    figure = _drawn(rates_zip, rates)
    assert [axis.get_title().split(",")[0] for axis in figure.axes] == ["plug-in", "cross-fitted"]
    assert all("K = 4" in axis.get_title() for axis in figure.axes)


@pytest.mark.parametrize("module", [misspecified_coverage, misspecified_zip])
def test_the_same_table_gives_the_same_bytes(module: object, results: Results, tmp_path: Path) -> None:
    with style():
        paths = [save(module.draw(results), tmp_path / part, "figure") for part in "ab"]
    assert all(one.read_bytes() == two.read_bytes() for one, two in zip(*paths, strict=True))


def test_intervals_are_ranked_and_coloured_by_covering() -> None:
    rows = _rows(replicates=4).assign(estimate=[0.5, 2.0, 0.0, 4.5], se=[1.0, 1.0, 1.0, 2.0])
    axis = Figure().subplots()
    zip_plot(axis, rows)
    covering, missing = axis.collections
    # |z| is 0, 1.5, 0.5 and 2: the last one misses and is on top.
    centres = [segment[:, 0].mean() for segment in covering.get_segments()]
    np.testing.assert_allclose(centres, [0.0, -0.5, 1.5], atol=1e-12)
    assert [segment[0, 1] for segment in covering.get_segments()] == [12.5, 37.5, 62.5]
    (only,) = missing.get_segments()
    np.testing.assert_allclose(only, [[4.0 - 2 * norm.ppf(0.975), 87.5], [4.0 + 2 * norm.ppf(0.975), 87.5]])
    assert axis.texts[0].get_text().startswith("75.0 %")


def test_failures_are_counted_and_nothing_to_draw_is_refused() -> None:
    rows = _rows(replicates=10)
    rows.loc[:2, "status"] = "singular"
    axis = Figure().subplots()
    zip_plot(axis, rows)
    assert "3 failed" in axis.texts[0].get_text()
    with pytest.raises(ValueError, match="a converged replicate"):
        zip_plot(axis, rows.assign(status="singular"))
