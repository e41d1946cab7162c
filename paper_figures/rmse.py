"""RMSE against sample size on log-log axes, with Monte Carlo bands and fitted slopes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.style import COLOURS, LABELS, MARKERS, WIDTH, plain_log_axis
from simulations.rates import slope

__all__ = ["draw"]

_LINES = ("plug_in", "quadratic", "cross_fitted", "exact")


def draw(results: Results) -> Figure:
    """One panel a parameter (row) and number of draws (column)."""
    names, draws = results.parameters, (2, 4, 8)
    figure = Figure(figsize=(WIDTH, 2.3 * len(names) + 0.5), layout="constrained")
    axes = figure.subplots(len(names), len(draws), sharex=True, sharey="row", squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for axis, n_draws in zip(row, draws, strict=True):
            for estimator in _LINES:
                _line(axis, results, estimator, 0 if estimator == "exact" else n_draws, name)
            axis.set(xscale="log", yscale="log", title=f"{results.symbols[name]},  K = {n_draws} draws")
            axis.axvline(results.burn_in, color="0.6", linewidth=0.8, linestyle=":")
            axis.legend(
                title="slope right of the dotted line", loc="lower left", alignment="left",
                handlelength=1.4, labelspacing=0.25, fontsize=6.5, title_fontsize=6.5,
            )  # fmt: skip
            plain_log_axis(axis.xaxis, results.sizes)
            axis.tick_params(axis="x", rotation=45)
        row[0].set_ylabel("RMSE (log-scale units)")
    for axis in axes[-1]:
        axis.set_xlabel("sample size n")
    return figure


def _line(axis: Axes, results: Results, estimator: str, n_draws: int, name: str) -> None:
    wanted: dict[str, str | int] = {"estimator": estimator, "n_draws": n_draws, "parameter": name}
    line = results.measure("rmse", **wanted).sort_values("n")
    n, value, half = line["n"].to_numpy(), line["value"].to_numpy(), 1.96 * line["mcse"].to_numpy()
    colour = COLOURS[estimator]
    found = slope(results.roots(**wanted), burn_in=results.burn_in)
    label = f"{LABELS[estimator]}: {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"
    axis.fill_between(n, np.maximum(value - half, value / 5), value + half, color=colour, alpha=0.2, linewidth=0)
    axis.plot(n, value, color=colour, marker=MARKERS[estimator], linestyle="none")
    axis.plot(n, value, color=colour, linewidth=0.6, alpha=0.6)
    fitted = n[n >= results.burn_in]
    centre = np.exp(np.mean(np.log(value[n >= results.burn_in])))
    axis.plot(fitted, centre * (fitted / np.exp(np.mean(np.log(fitted)))) ** found.estimate, color=colour, label=label)
