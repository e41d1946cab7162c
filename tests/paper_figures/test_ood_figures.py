"""Figures of the study ``ood`` from a fabricated table: every method, test set and regime is there."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from eeqs.llm.evaluation import DocumentScores
from paper_figures.gallery import discover, discover_tables
from paper_figures.ood_results import KINDS, LABELS, REGIMES, kind
from paper_figures.results import Results
from paper_figures.style import style
from simulations.designs.ood_methods import METHODS, TWO_CORES
from simulations.designs.ood_rows import EXACT, of_scores, scores_of
from simulations.designs.ood_training import BUDGETS, Size
from simulations.studies.ood import STUDY
from simulations.studies.ood_draws import STUDY as DRAWS
from simulations.studies.ood_seeds import STUDY as SEEDS
from simulations.studies.ood_tuning import STUDY as TUNING
from simulations.study import Preset

FIGURES = discover("ood")


def scores(rng: np.random.Generator, level: float) -> DocumentScores:
    n = 5
    bins = np.zeros((n, 15))
    bins[:, 7] = 50
    nats = -100 * np.log(2) * (level + rng.normal(0, 0.05, n))
    right = rng.integers(1, 40, n).astype(float)
    correct = np.zeros((n, 15))
    correct[:, 7] = right
    return DocumentScores(tuple("abcde"), nats, np.full(n, 50.0), np.full(n, 100.0), right, bins, correct, bins / 2)


def rows_of(size: Size, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of one run of some method."""
    found = {d: scores(rng, 3.0 + i) for i, d in enumerate(size.regime.domains)}
    for domain, one in found.items():
        if domain.endswith(EXACT):
            object.__setattr__(one, "n_tokens", np.full(5, 50.0))
    rows = [row for budget in BUDGETS for row in of_scores(budget, found)]
    rows += [(f"{b}|{name}", 1.0, np.nan) for b in BUDGETS for name in ("noise", "update", "passes")]
    return pd.DataFrame(rows, columns=["parameter", "estimate", "se"])


@pytest.fixture(scope="module")
def results() -> Results:
    rng = np.random.default_rng(0)
    parts = []
    for size in STUDY.sizes[Preset.CPU]:
        for replicate in range(2):
            frame = rows_of(size, rng)  # once for all methods, which then differ by a factor
            nats = frame["parameter"].str.endswith("|nats")
            for index, method in enumerate(size.methods):
                estimate = frame["estimate"].where(~nats, frame["estimate"] * (1 + rng.normal(0, 0.01)) + index)
                mine = frame.assign(estimate=estimate, regime=size.regime.name, method=method, replicate=replicate)
                parts.append(mine)
    return Results("ood", Preset.CPU, pd.concat(parts, ignore_index=True))


@pytest.fixture(scope="module")
def figures(results: Results) -> dict[str, Figure]:
    with style():
        return {name: draw(results) for name, draw in FIGURES.items()}


@pytest.mark.parametrize("name", FIGURES)
def test_axes_are_labelled_and_methods_named(name: str, figures: dict[str, Figure]) -> None:
    figure = figures[name]
    words = {text.get_text() for text in figure.findobj(Text)}
    expected = {"ood_plane": ["plain", "split, isotropic"], "ood_scan": ["plain", "split, isotropic"]}
    for label in expected.get(name, [LABELS[m] for m in TWO_CORES if m != "plain"]):
        assert label in words
    assert any("bits a byte" in word or "exactly right" in word for word in words)


def test_every_method_and_regime_has_a_name_and_a_look() -> None:
    assert set(LABELS) == set(METHODS)
    assert {kind(method) for method in METHODS} == set(KINDS)
    sizes = [size for study in (STUDY, SEEDS) for found in study.sizes.values() for size in found]
    assert {size.regime.name for size in sizes} <= set(REGIMES)


def test_the_points_of_the_differences_are_all_drawn(figures: dict[str, Figure]) -> None:
    figure = figures["ood_differences"]
    points = sum(len(line.get_xdata()) == 1 for axis in figure.axes for line in axis.get_lines())
    texts = [size for size in STUDY.sizes[Preset.CPU] if "scan" not in size.regime.name]
    assert points == len(BUDGETS) * sum(len(size.regime.domains) * (len(size.methods) - 1) for size in texts)
    for axis in figure.axes:
        low, high = axis.get_xlim()
        at = [float(line.get_xdata()[0]) for line in axis.get_lines() if len(line.get_xdata()) == 1]
        assert all(low < x < high for x in at)


@pytest.mark.parametrize("name", ["ood_differences", "ood_scan"])
def test_methods_are_listed_from_the_top(name: str, figures: dict[str, Figure]) -> None:
    for axis in figures[name].axes:
        bottom, top = axis.get_ylim()
        assert bottom > top


def test_held_out_commands_are_on_the_left(figures: dict[str, Figure]) -> None:
    titles = [axis.get_title() for axis in figures["ood_scan"].axes]
    assert [": held-out" in title for title in titles] == [True, False] * (len(titles) // 2)


def test_the_table_has_every_method_and_its_standard_errors(results: Results) -> None:
    table = discover_tables("ood")["ood_bits"](results)
    texts = [size for size in STUDY.sizes[Preset.CPU] if "scan" not in size.regime.name]
    assert len(table) == 2 * sum(len(size.methods) for size in texts)
    row = table[(table["method"] == "plain") & (table["equal"] == "updates")].iloc[0]
    scores = scores_of(results.rows(regime="little_text"), "updates")["plain"]["stories"]
    value, error = row["stories"].rstrip(")").split(" (")
    assert float(value) == pytest.approx(np.mean([one.bits_per_byte for one in scores]), abs=1e-3)
    assert 0 < float(error) < 0.2


def test_the_figure_of_the_tuning_shows_every_candidate() -> None:
    cells = TUNING.cells(Preset.CPU)
    table = pd.DataFrame([{**cell.parameters, "estimate": 2.0 + i / 50} for i, cell in enumerate(cells)])
    with style():
        figure = discover("ood_tuning")["ood_tuning_candidates"](Results("ood_tuning", Preset.CPU, table))
    lines = [line for axis in figure.axes for line in axis.get_lines() if line.get_linestyle() == "-"]
    drawn = sum(len(line.get_xdata()) for line in lines)
    assert drawn == len(cells)


def test_the_study_with_more_seeds_has_the_same_figure_and_table() -> None:
    assert discover("ood_seeds") == {"ood_seeds_differences": FIGURES["ood_differences"]}
    assert discover_tables("ood_seeds") == {"ood_seeds_bits": discover_tables("ood")["ood_bits"]}


def test_the_figure_of_draws_has_a_line_a_method() -> None:
    size, numbers = DRAWS.sizes[Preset.CPU][0], (1, 6)
    rng = np.random.default_rng(0)
    parts = []
    for method in size.methods:
        for replicate in range(2):
            rows = [
                row for m in numbers for row in of_scores(str(m), {d: scores(rng, 3.0) for d in size.regime.domains})
            ]
            frame = pd.DataFrame(rows, columns=["parameter", "estimate", "se"])
            parts.append(frame.assign(regime=size.regime.name, method=method, replicate=replicate))
    with style():
        figure = discover("ood_draws")["ood_draws_bits"](Results("ood_draws", Preset.CPU, pd.concat(parts)))
    for axis in figure.axes:
        lines = [line for line in axis.get_lines() if line.get_xdata().tolist() == list(numbers)]
        assert len(lines) == len(size.methods)
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {LABELS[name] for name in size.methods}


def test_a_run_without_scan_says_so(results: Results) -> None:
    text = Results("ood", Preset.CPU, results.rows(regime="little_text"))
    with style():
        figure = FIGURES["ood_scan"](text)
    assert "no regime of SCAN" in figure.texts[0].get_text()
