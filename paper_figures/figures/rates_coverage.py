"""Coverage of 95 % sandwich intervals against sample size."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from paper_figures.rates_results import SYMBOLS, RatesResults
from paper_figures.results import Results
from paper_figures.style import COLOURS, LABELS, LINES, MARKERS, WIDTH, plain_log_axis

__all__ = ["STUDY", "draw"]

STUDY = "rates"


def draw(run: Results) -> Figure:
    """One panel a parameter (row) and number of draws (column)."""
    results = RatesResults(run)
    names, draws = results.parameters, results.draws
    figure = Figure(figsize=(WIDTH, 1.9 * len(names) + 0.7), layout="constrained")
    axes = figure.subplots(len(names), len(draws), sharex=True, sharey=True, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for axis, n_draws in zip(row, draws, strict=True):
            axis.axhspan(92.5, 97.5, color="0.9", linewidth=0)
            axis.axhline(95, color="0.4", linewidth=0.8)
            for estimator in LINES:
                k = 0 if estimator == "exact" else n_draws
                line = results.measure("coverage", estimator=estimator, n_draws=k, parameter=name).sort_values("n")
                share, half = 100 * line["value"], 196 * line["mcse"]
                axis.errorbar(
                    line["n"],
                    share,
                    yerr=[half.clip(upper=share), half.clip(upper=100 - share)],
                    color=COLOURS[estimator],
                    marker=MARKERS[estimator],
                    label=LABELS[estimator],
                    capsize=1.5,
                    elinewidth=0.7,
                )
            axis.set(xscale="log", ylim=(-3, 103), title=f"{SYMBOLS[name]},  K = {n_draws} draws")
            axis.set_yticks(np.array([0, 25, 50, 75, 95]))
            plain_log_axis(axis.xaxis, results.sizes)
            axis.tick_params(axis="x", rotation=45)
        row[0].set_ylabel("coverage (%)")
    for axis in axes[-1]:
        axis.set_xlabel("sample size n")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(LINES))
    return figure
