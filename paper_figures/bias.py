"""Absolute bias against the number of draws: 1/K for plug-in, none for the unbiased equations."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.style import COLOURS, LABELS, MARKERS, WIDTH, plain_log_axis

__all__ = ["draw"]

_LINES = ("plug_in", "quadratic", "cross_fitted")


def draw(results: Results) -> Figure:
    """One panel a parameter."""
    names = results.parameters
    size = results.bias_size
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        for shift, estimator in zip((0.97, 1.0, 1.03), _LINES, strict=True):
            line = results.measure("bias", estimator=estimator, parameter=name, n=size).sort_values("n_draws")
            k, bias, half = (line[c].to_numpy(dtype=float) for c in ("n_draws", "value", "mcse"))
            half = 1.96 * half
            floor = np.minimum(half, 0.999 * np.abs(bias))
            style = {"color": COLOURS[estimator], "marker": MARKERS[estimator], "capsize": 2, "elinewidth": 0.8}
            axis.errorbar(
                k * shift, np.abs(bias), yerr=[floor, half], linestyle="none", label=LABELS[estimator], **style
            )
            if estimator == "plug_in":
                anchor = np.abs(bias[k == k.max()])[0] * k.max()
                axis.plot(
                    k,
                    anchor / k,
                    color=COLOURS[estimator],
                    linewidth=0.8,
                    linestyle="--",
                    label="slope \N{MINUS SIGN}1",
                )
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="draws an observation, K",
            title=f"{results.symbols[name]},  n = {size:,}",
        )
        axis.set_ylim(bottom=max(axis.get_ylim()[0], 1e-4))
        plain_log_axis(axis.xaxis, sorted(set(k)) if len(k) > 3 else [2, 4, 8, 16, 32, 64])
    axes[0].set_ylabel("|bias| (log-scale units), 95 % interval")
    axes[0].legend(loc="lower left")
    return figure
