"""Figures from a fabricated table: written whole, the same bytes twice, labelled, and nothing dropped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import norm
from typer.testing import CliRunner

from paper_figures.__main__ import app
from paper_figures.gallery import discover
from paper_figures.rates_results import RatesResults
from paper_figures.results import Results
from paper_figures.style import LABELS, LINES, save, style
from simulations.manifest import Plan
from simulations.store import open_store
from simulations.studies.rates import STUDY
from simulations.study import Batch, Cell, Preset

FIGURES = {name: draw for name, draw in discover("rates").items() if name != "rates_zip"}
SIGNATURES = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}
OFF_SCALE = 40.0


def _rows(cell: Cell) -> pd.DataFrame:
    """Rows of a cell, with normal quantiles as errors; quadrature is far off at the smallest n."""
    estimator, n, n_draws = (cell.parameters[name] for name in ("estimator", "n", "n_draws"))
    bias = {"plug_in": -1.0, "single_draw": -30.0}.get(str(estimator), 5e-4) / max(int(n_draws), 1)
    factor = OFF_SCALE if (estimator, n) == ("exact", STUDY.size(Preset.QUICK).sizes[0]) else 1.0
    errors = factor * (norm.ppf((np.arange(cell.replicates) + 0.5) / cell.replicates) / float(n) ** 0.5 + bias)
    fixed = {"truth": 0.0, "estimate": errors, "se": float(n) ** -0.5, "status": "converged", "seconds": 0.1}
    head = {"study": STUDY.name, **cell.parameters, "replicate": np.arange(cell.replicates), "parameter": "log_scale"}
    return pd.DataFrame({**head, **fixed, "seed": "[0]"})


@pytest.fixture(scope="module")
def results() -> Results:
    table = pd.concat([_rows(cell) for cell in STUDY.cells(Preset.QUICK)], ignore_index=True)
    return Results(STUDY.name, Preset.QUICK, table)


def _draw(draw: Callable[[Results], Figure], results: Results) -> Figure:
    with style():
        return draw(results)


def _written(draw: Callable[[Results], Figure], results: Results, directory: Path) -> dict[str, bytes]:
    with style():
        paths = save(draw(results), directory, "figure")
    assert sorted(directory.iterdir()) == sorted(paths)
    return {path.suffix[1:]: path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", FIGURES)
def test_every_format_is_written_and_drawing_twice_gives_the_same_bytes(
    name: str, results: Results, tmp_path: Path
) -> None:
    once, twice = (_written(FIGURES[name], results, tmp_path / part) for part in "ab")
    assert once.keys() == SIGNATURES.keys()
    assert all(once[kind].startswith(signature) for kind, signature in SIGNATURES.items())
    assert once == twice


def test_another_table_gives_other_bytes(results: Results, tmp_path: Path) -> None:
    moved = results.table.assign(estimate=1.1 * results.table["estimate"])
    one = _written(FIGURES["rates_bias"], results, tmp_path / "a")
    other = _written(FIGURES["rates_bias"], replace(results, table=moved), tmp_path / "b")
    assert all(one[kind] != other[kind] for kind in SIGNATURES)


@pytest.mark.parametrize("name", FIGURES)
def test_axes_are_labelled(name: str, results: Results) -> None:
    figure = _draw(FIGURES[name], results)
    assert len(figure.axes) == (1 if name == "rates_bias" else len(STUDY.draws))
    for axis in figure.axes:
        place = axis.get_subplotspec()
        assert axis.get_title()
        assert bool(axis.get_xlabel()) == place.is_last_row()
        assert bool(axis.get_ylabel()) == place.is_first_col()


@pytest.mark.parametrize("name", FIGURES)
def test_the_legend_names_every_line(name: str, results: Results) -> None:
    figure = _draw(FIGURES[name], results)
    legends = [*figure.legends, *(axis.get_legend() for axis in figure.axes if axis.get_legend())]
    assert len(legends) == 1
    shown = [text.get_text() for text in legends[0].get_texts()]
    names = [estimator for estimator in LINES if name != "rates_bias" or estimator != "exact"]
    assert {LABELS[estimator] for estimator in names} <= set(shown)
    assert len(shown) == len(set(shown))


def test_settings_do_not_leak(results: Results) -> None:
    def settings() -> dict[str, object]:
        return {name: mpl.rcParams[name] for name in ("font.size", "savefig.dpi", "svg.hashsalt", "axes.grid")}

    before = settings()
    _draw(FIGURES["rates_coverage"], results)
    assert settings() == before
    with style():
        assert settings() != before


def _arrows(figure: Figure) -> list[list[Text]]:
    return [[text for text in axis.texts if text.get_text().startswith("\N{UPWARDS ARROW}")] for axis in figure.axes]


def test_rmse_above_the_frame_is_printed(results: Results) -> None:
    figure = _draw(FIGURES["rates_rmse"], results)
    n = RatesResults(results).sizes[0]
    value = float(RatesResults(results).measure("rmse", estimator="exact", n=n)["value"].iloc[0])
    assert value > figure.axes[0].get_ylim()[1]
    for axis, arrows in zip(figure.axes, _arrows(figure), strict=True):
        assert [text.get_text() for text in arrows] == [f"\N{UPWARDS ARROW} {value:.2g}"]
        assert arrows[0].get_position()[0] == n
        assert axis.get_ylim()[0] < arrows[0].get_position()[1] <= axis.get_ylim()[1]


def test_points_in_the_frame_are_not_printed(results: Results) -> None:
    table = results.table
    far = (table["estimator"] == "exact") & (table["n"] == RatesResults(results).sizes[0])
    near = table.assign(estimate=table["estimate"].where(~far, table["estimate"] / OFF_SCALE))
    assert not any(_arrows(_draw(FIGURES["rates_rmse"], replace(results, table=near))))


def test_fitted_slopes_are_printed(results: Results) -> None:
    figure = _draw(FIGURES["rates_rmse"], results)
    for axis in figure.axes:
        slopes = [text.get_text() for text in axis.texts if text.get_text().startswith("slope")]
        assert len(slopes) == len(LINES)
        assert sum(text.startswith("slope \N{MINUS SIGN}0.50") for text in slopes) == len(LINES) - 1
        assert sum(text.startswith("slope \N{MINUS SIGN}0.0") for text in slopes) == 1  # plug-in's floor


def _store(directory: Path, study: str, cells: list[Cell], table: pd.DataFrame | None = None) -> Path:
    with open_store(directory, Plan(study, "quick", 0, cells)) as store:
        for cell in cells if table is not None else ():
            mine = (table[list(cell.parameters)] == pd.Series(cell.parameters)).all(axis=1)
            store.write(Batch(cell, range(cell.replicates)), table[mine].reset_index(drop=True))
    return directory


def _call(source: Path, out: Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["--from", str(source), "--out", str(out)])
    return result.exit_code, result.output, result.stderr


def test_command_line_draws_all_figures(results: Results, tmp_path: Path) -> None:
    source = _store(tmp_path / "results", STUDY.name, STUDY.cells(Preset.QUICK), results.table)
    out = tmp_path / "deep" / "figures"
    code, output, _ = _call(source, out)
    assert code == 0, output
    expected = {out / f"{name}.{kind}" for name in discover("rates") for kind in SIGNATURES}
    assert set(out.iterdir()) == expected
    assert {Path(line) for line in output.splitlines()} == expected


def test_mistakes_are_exit_code_two_and_draw_nothing(tmp_path: Path) -> None:
    cell = Cell("another", {"estimator": "plug_in", "n": 10, "n_draws": 2}, replicates=2, batch=2)
    other = _store(tmp_path / "other", "another", [cell], _rows(cell).assign(study="another"))
    unfinished = _store(tmp_path / "unfinished", STUDY.name, STUDY.cells(Preset.QUICK))
    cases = (
        (tmp_path / "nowhere", "nowhere is not a results directory: it holds no manifest.json"),
        (other, "no figure shows the study in"),
        (unfinished, "unfinished is incomplete"),
    )
    for source, message in cases:
        code, _, errors = _call(source, tmp_path / "figures")
        assert code == 2
        assert message in errors
        assert not (tmp_path / "figures").exists()
