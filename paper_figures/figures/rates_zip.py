"""Zip plots of plug_in and cross_fitted at the largest sample size."""

from __future__ import annotations

from matplotlib.figure import Figure

from paper_figures.rates_results import SYMBOLS, RatesResults
from paper_figures.results import Results
from paper_figures.style import LABELS, WIDTH
from paper_figures.zip_plot import zip_plot

__all__ = ["STUDY", "draw"]

STUDY = "rates"

ESTIMATORS, DRAWS = ("plug_in", "cross_fitted"), 4


def draw(run: Results) -> Figure:
    """One panel an estimator (column) and parameter (row)."""
    results = RatesResults(run)
    names, n = results.parameters, results.size.sizes[-1]
    figure = Figure(figsize=(0.75 * WIDTH, 2.7 * len(names) + 0.4), layout="constrained")
    axes = figure.subplots(len(names), len(ESTIMATORS), sharey=True, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for axis, estimator in zip(row, ESTIMATORS, strict=True):
            zip_plot(axis, results.roots(estimator=estimator, n_draws=DRAWS, parameter=name, n=n))
            axis.set_title(f"{LABELS[estimator]},  K = {DRAWS},  n = {n:,}")
        row[0].set_ylabel("centile of |z|")
        for axis in row:
            axis.set_xlabel(f"estimate \N{MINUS SIGN} truth, {SYMBOLS[name]}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
