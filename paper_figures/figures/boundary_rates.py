"""Errors against sample size where the true noise scale is zero, with the predicted slopes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.style import COLOURS, LABELS, MARKERS, WIDTH, plain_log_axis
from simulations.claims.boundary import RATES

__all__ = ["STUDY", "draw"]

STUDY = "boundary"

_PANELS = {
    "scale": r"noise scale $\sigma$",
    "variance": r"noise variance $\sigma^2$",
    "prediction": "predicted probabilities",
}
_EXPONENTS = {-1 / 4: "1/4", -1 / 2: "1/2"}
_TICKS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2]
_INDEPENDENT = "cross_fitted_independent"
_COLOURS = {**COLOURS, _INDEPENDENT: "#CC79A7"}
_MARKERS = {**MARKERS, _INDEPENDENT: "v"}
_LABELS = {**LABELS, _INDEPENDENT: "cross-fitted, independent draws"}


def draw(results: Results) -> Figure:
    """One panel a parameter."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots(1, len(_PANELS))
    for axis, (name, title) in zip(axes, _PANELS.items(), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="sample size n", title=title)
        for estimator in RATES:
            _line(axis, results, estimator, name)
        _guide(axis, results, name)
        plain_log_axis(axis.xaxis, sorted(float(n) for n in set(results.rows(quantity="root")["n"])))
        axis.tick_params(axis="x", rotation=45)
        axis.margins(y=0.1)
        low, high = axis.get_ylim()
        plain_log_axis(axis.yaxis, [tick for tick in _TICKS if low < tick < high])
    axes[0].set_ylabel("RMSE, with 95 % band")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(RATES))
    return figure


def _line(axis: Axes, results: Results, estimator: str, name: str) -> None:
    line = results.measure("rmse", quantity="root", estimator=estimator, parameter=name).sort_values("n")
    n, value, half = line["n"].to_numpy(), line["value"].to_numpy(), 1.96 * line["mcse"].to_numpy()
    colour = _COLOURS[estimator]
    axis.fill_between(n, np.maximum(value - half, value / 3), value + half, color=colour, alpha=0.15, linewidth=0)
    axis.plot(n, value, color=colour, marker=_MARKERS[estimator], label=_LABELS[estimator])


def _guide(axis: Axes, results: Results, name: str) -> None:
    """Draw the predicted slope below the points of quadrature."""
    line = results.measure("rmse", quantity="root", estimator="exact", parameter=name).sort_values("n")
    n, value, exponent = line["n"].to_numpy(dtype=float), line["value"].to_numpy(), RATES["exact"][name]
    level = 0.6 * np.exp(np.mean(np.log(value) - exponent * np.log(n)))
    axis.plot(n, level * n**exponent, color="0.3", linestyle="--", linewidth=0.9)
    axis.annotate(
        f"slope \N{MINUS SIGN}{_EXPONENTS[exponent]}",
        (n[-1], level * n[-1] ** exponent),
        xytext=(0, -3),
        textcoords="offset points",
        color="0.3",
        fontsize=7,
        ha="right",
        va="top",
    )
