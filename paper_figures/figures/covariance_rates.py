"""Errors of a covariance and of its factor against sample size, by rank and number of columns."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.style import COLOURS, WIDTH, plain_log_axis

__all__ = ["STUDY", "draw"]

STUDY = "covariance"

# Okabe & Ito colours, a marker and its size, by rank and columns; the first of two lines that coincide is the larger.
_MODELS = {
    (3, 3): (COLOURS["cross_fitted"], "o", 6.0),
    (3, 6): ("#56B4E9", "s", 3.0),
    (1, 1): (COLOURS["quadratic"], "^", 6.0),
    (1, 3): (COLOURS["plug_in"], "D", 3.0),
}
_TICKS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
_PANELS = {
    "sigma": (r"covariance: $\|\hat\Sigma - \Sigma\|$", ((3, 3), -1 / 2)),
    "factor": (r"factor: $\|\hat L - L\|$", None),
    "aligned_factor": (r"best rotation: $\|\hat L Q - L\|$", ((1, 1), -1 / 2)),
}


def draw(results: Results) -> Figure:
    """One panel a kind of error."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots(1, len(_PANELS))
    for axis, (name, (title, guide)) in zip(axes, _PANELS.items(), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="sample size n", title=title)
        for model in _MODELS:
            _line(axis, results, model, name)
        if guide is not None:
            _guide(axis, results, name, *guide)
        plain_log_axis(axis.xaxis, sorted(float(n) for n in set(results.rows(quantity="root")["n"])))
        axis.tick_params(axis="x", rotation=45)
    _guide(axes[-1], results, "surplus", (1, 3), -1 / 4, above=True)
    axes[1].set_ylim(0.5, 10)
    for axis in axes:
        axis.margins(y=0.12)
        low, high = axis.get_ylim()
        plain_log_axis(axis.yaxis, [tick for tick in _TICKS if low < tick < high])
    axes[0].set_ylabel("RMSE, with 95 % band")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(_MODELS))
    return figure


def _line(axis: Axes, results: Results, model: tuple[int, int], name: str) -> None:
    n, value, half = _points(results, model, name)
    colour, marker, markersize = _MODELS[model]
    rank, columns = model
    label = f"rank {rank}, {columns} column{'s' if columns > 1 else ''}"
    axis.fill_between(n, np.maximum(value - half, value / 3), value + half, color=colour, alpha=0.15, linewidth=0)
    axis.plot(n, value, color=colour, marker=marker, markersize=markersize, label=label)


def _guide(
    axis: Axes, results: Results, name: str, model: tuple[int, int], exponent: float, *, above: bool = False
) -> None:
    """Draw a predicted slope beside a line."""
    n, value, _ = _points(results, model, name)
    end = 0 if above else -1
    level = (1.9 if above else 0.6) * np.exp(np.mean(np.log(value) - exponent * np.log(n)))
    axis.plot(n, level * n**exponent, color="0.3", linestyle="--", linewidth=0.9)
    axis.annotate(
        f"slope \N{MINUS SIGN}1/{-1 / exponent:g}",
        (n[end], level * n[end] ** exponent),
        xytext=(0, 3 if above else -3),
        textcoords="offset points",
        color="0.3",
        fontsize=7,
        ha="left" if above else "right",
        va="bottom" if above else "top",
    )


def _points(results: Results, model: tuple[int, int], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rank, columns = model
    line = results.measure("rmse", quantity="root", rank=rank, columns=columns, parameter=name).sort_values("n")
    return line["n"].to_numpy(dtype=float), line["value"].to_numpy(), 1.96 * line["mcse"].to_numpy()
