"""RMSE against sample size on log-log axes, with Monte Carlo bands and fitted slopes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.rates_results import SYMBOLS, RatesResults
from paper_figures.results import Results
from paper_figures.style import COLOURS, LABELS, LINES, MARKERS, WIDTH, plain_log_axis
from simulations.rates import Interval, TooFewReplicatesError, slope

__all__ = ["STUDY", "draw"]

STUDY = "rates"


def draw(run: Results) -> Figure:
    """One panel a parameter (row) and number of draws (column)."""
    results = RatesResults(run)
    names, draws = results.parameters, results.draws
    figure = Figure(figsize=(WIDTH, 2.6 * len(names) + 0.7), layout="constrained")
    axes = figure.subplots(len(names), len(draws), sharex=True, sharey="row", squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for axis, n_draws in zip(row, draws, strict=True):
            axis.set(xscale="log", yscale="log", title=f"{SYMBOLS[name]},  K = {n_draws} draws")
            for position, estimator in enumerate(LINES):
                _line(axis, results, estimator, 0 if estimator == "exact" else n_draws, name, position)
            axis.axvline(results.size.burn_in, color="0.6", linewidth=0.8, linestyle=":")
            plain_log_axis(axis.xaxis, results.sizes)
            axis.tick_params(axis="x", rotation=45)
        _limits(row, results, name)
        row[0].set_ylabel("RMSE")
    for axis in axes[-1]:
        axis.set_xlabel("sample size n")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(LINES))
    return figure


def _limits(row: Sequence[Axes], results: RatesResults, name: str) -> None:
    """Scale to the sizes past the burn-in, with room for the slopes below, and print what lies above the frame."""
    shown = results.measure("rmse", parameter=name)
    shown = shown[shown["estimator"].isin(LINES) & shown["n_draws"].isin((0, *results.draws))]
    past = shown.loc[shown["n"] >= results.size.burn_in, "value"]
    low, high = 0.7 * past.min(), 2 * past.max()
    row[0].set_ylim(low * (low / high) ** 0.55, high)
    for axis, n_draws in zip(row, results.draws, strict=True):
        above = shown[shown["n_draws"].isin((0, n_draws)) & ~(shown["value"] <= high)].sort_values("value")
        for rank, point in enumerate(above.itertuples()):
            text = f"\N{UPWARDS ARROW} {point.value:.2g}" if np.isfinite(point.value) else "no roots"
            axis.text(
                point.n, high * 0.75**rank, text, color=COLOURS[point.estimator], fontsize=6.5, ha="left", va="top"
            )


def _line(axis: Axes, results: RatesResults, estimator: str, n_draws: int, name: str, position: int) -> None:
    """Points with a 95 % band, the fitted line past the burn-in, and its slope as text."""
    wanted: dict[str, str | int] = {"estimator": estimator, "n_draws": n_draws, "parameter": name}
    line = results.measure("rmse", **wanted).sort_values("n")
    n, value, half = line["n"].to_numpy(), line["value"].to_numpy(), 1.96 * line["mcse"].to_numpy()
    try:
        found = slope(results.roots(**wanted), burn_in=results.size.burn_in)
    except TooFewReplicatesError:
        found = Interval(np.nan, np.nan, np.nan, np.nan)
    colour, past = COLOURS[estimator], n >= results.size.burn_in
    axis.fill_between(n, np.maximum(value - half, value / 3), value + half, color=colour, alpha=0.2, linewidth=0)
    axis.plot(n, value, color=colour, linewidth=0.5, alpha=0.6)
    axis.plot(n, value, color=colour, marker=MARKERS[estimator], linestyle="none", label=LABELS[estimator])
    centre = [np.exp(np.mean(np.log(part[past]))) for part in (n, value)]
    axis.plot(n[past], centre[1] * (n[past] / centre[0]) ** found.estimate, color=colour)
    text = f"slope {found.estimate:.2f}  [{found.low:.2f}, {found.high:.2f}]".replace("-", "\N{MINUS SIGN}")
    axis.text(0.04, 0.27 - 0.08 * position, text, transform=axis.transAxes, color=colour, fontsize=7, va="bottom")
