"""Absolute bias against the number of draws: 1/K for plug-in, none for the unbiased equations."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.rates_results import SYMBOLS, RatesResults
from paper_figures.results import Results
from paper_figures.style import COLOURS, LABELS, MARKERS, WIDTH, plain_log_axis

__all__ = ["STUDY", "draw"]

STUDY = "rates"

# Estimators are set apart so that their error bars do not hide each other.
_SHIFTS = {"plug_in": 1.0, "quadratic": 0.95, "cross_fitted": 1.05}


def draw(run: Results) -> Figure:
    """One panel a parameter."""
    results = RatesResults(run)
    names = results.parameters
    figure = Figure(figsize=(WIDTH * (0.4 + 0.3 * len(names)), 2.9), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        smallest = min(_points(axis, results, estimator, name) for estimator in _SHIFTS)
        axis.set(xscale="log", yscale="log", xlabel="draws an observation, K")
        axis.set_title(f"{SYMBOLS[name]},  n = {results.size.bias_size:,}")
        axis.set_ylim(bottom=smallest / 3)
        plain_log_axis(axis.xaxis, [2, 4, 8, 16, 32, 64])
    axes[0].set_ylabel("|bias|, with 95 % interval")
    axes[-1].legend(loc="upper right")
    return figure


def _points(axis: Axes, results: RatesResults, estimator: str, name: str) -> float:
    """Draw one estimator and return its smallest absolute bias."""
    line = results.measure("bias", estimator=estimator, parameter=name, n=results.size.bias_size).sort_values("n_draws")
    k, bias, half = line["n_draws"].to_numpy(), line["value"].abs().to_numpy(), 1.96 * line["mcse"].to_numpy()
    axis.errorbar(
        k * _SHIFTS[estimator],
        bias,
        yerr=[np.minimum(half, 0.9999 * bias), half],  # an interval that holds zero runs off the log axis
        color=COLOURS[estimator],
        marker=MARKERS[estimator],
        linestyle="none",
        capsize=2,
        elinewidth=0.8,
        label=LABELS[estimator],
    )
    if estimator == "plug_in":
        far = k >= 8
        level = np.exp(np.mean(np.log(bias[far] * k[far])))
        axis.plot(k, level / k, color=COLOURS[estimator], linewidth=0.8, linestyle="--", label="slope \N{MINUS SIGN}1")
    return float(bias.min())
