"""Fitted conditional means inside and beyond the training support, with their spread over replicates."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures.extrapolation_methods import LOOKS, line
from paper_figures.results import Results
from paper_figures.style import WIDTH
from simulations.designs.pre_additive import TRUTHS, PreAdditive

__all__ = ["STUDY", "draw"]

STUDY = "extrapolation"

_METHODS = ("fixed", "least_squares", "learned")
_POINT = r"^curve (?P<x>[+-]\d+\.\d)$"


def draw(run: Results) -> Figure:
    """One panel a truth."""
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = figure.subplots(2, 2)
    for axis, truth in zip(axes.ravel(), TRUTHS, strict=True):
        _panel(axis, run, truth)
        axis.set_title(truth.name)
    for axis in axes[1]:
        axis.set_xlabel("covariate x (sd of the noise)")
    for axis in axes[:, 0]:
        axis.set_ylabel("conditional mean of y")
    handles = [Line2D([], [], color="black", label="truth")] + [
        Line2D([], [], color=LOOKS[name].colour, linestyle=LOOKS[name].style, label=LOOKS[name].label)
        for name in reversed(_METHODS)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _panel(axis: Axes, run: Results, truth: PreAdditive) -> None:
    """Median curve and the middle 80 % of the replicates."""
    axis.axvspan(truth.low, truth.high, color="#DDDDDD", linewidth=0)
    true = np.array([])
    for method in _METHODS:
        rows = run.rows(regime=truth.name, estimator=method)
        points = rows.assign(x=rows["parameter"].str.extract(_POINT)["x"].astype(float)).dropna(subset=["x"])
        groups = points.groupby("x")
        levels = {"low": 0.1, "value": 0.5, "high": 0.9}
        found = pd.DataFrame({name: groups["estimate"].quantile(level) for name, level in levels.items()})
        x, true = found.index.to_numpy(), groups["truth"].first().to_numpy()
        line(axis, method, x, found, marker=False)
        axis.plot(x, true, color="black", linewidth=0.9)
    margin = 0.25 * np.ptp(true)
    axis.set(xlim=(x[0], x[-1]), ylim=(true.min() - margin, true.max() + margin))
