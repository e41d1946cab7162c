"""Efficiency lost to draws against their number, and efficiency against cost in evaluations of the kernel."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.style import COLOURS, LABELS, MARKERS, WIDTH, plain_log_axis
from simulations.claims.efficiency import lost
from simulations.designs.leading_order import LeadingOrder
from simulations.studies.efficiency import EXCESS
from simulations.studies.efficiency import STUDY as EFFICIENCY

__all__ = ["STUDY", "draw"]

STUDY = "efficiency"

_NET = "two_sample"
# Beyond, all but quadratic are at 1 on a linear scale.
_MOST_SHOWN = 64
_SHOWN = ("quadratic", "cross_fitted", _NET)


def draw(results: Results) -> Figure:
    """Left, 1 - RE against K; right, RE against the kernel evaluations of an observation."""
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    points = _lost(results)
    _against_draws(left, points)
    _against_cost(right, points)
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _lost(results: Results) -> pd.DataFrame:
    """Mean of 1 - RE over replicates and its standard error, by estimator and n_draws."""
    rows = lost(results.rows(quantity=EXCESS))
    return rows.groupby(["estimator", "n_draws"], sort=False)["estimate"].agg(["mean", "sem"])


def _against_draws(axis: Axes, points: pd.DataFrame) -> None:
    theory = LeadingOrder(EFFICIENCY.design)
    for name in _SHOWN:
        line = points.loc[name].sort_index()
        half = np.minimum(1.96 * line["sem"], 0.99 * line["mean"])
        axis.errorbar(
            line.index, line["mean"], half, color=COLOURS[name], marker=MARKERS[name], linestyle="none", capsize=2
        )
    limit = theory.quadratic_limit
    most = int(points.loc["cross_fitted"].index.max())
    draws = np.geomspace(4, most, 50)
    _predicted(axis, draws, theory.draw_constant / draws, "cross_fitted")
    nets = np.sort(points.loc[_NET].index)
    _predicted(axis, nets, np.array([theory.net_excess(int(k)) for k in nets]), _NET)
    axis.axhline(limit / (1 + limit), color=COLOURS["quadratic"], linestyle="--", linewidth=0.8)
    _note(axis, 3.6, 0.75 * limit / (1 + limit), "limit of quadratic", "quadratic", "left")
    _note(axis, most, 0.45 * theory.draw_constant / most, "slope \N{MINUS SIGN}1", "cross_fitted", "right")
    middle = int(nets[len(nets) // 2])
    _note(axis, 0.9 * middle, 0.5 * theory.net_excess(middle), "scrambled net", _NET, "right")
    axis.set(
        xscale="log", yscale="log", xlabel="draws an observation, K", ylabel="lost efficiency, 1 \N{MINUS SIGN} RE"
    )
    axis.set_title("dashed: leading order, by quadrature")
    plain_log_axis(axis.xaxis, [float(k) for k in sorted(points.loc["cross_fitted"].index)])


def _predicted(axis: Axes, draws: np.ndarray, excess: np.ndarray, name: str) -> None:
    axis.plot(draws, excess / (1 + excess), color=COLOURS[name], linestyle="--", linewidth=0.8)


def _note(axis: Axes, x: float, y: float, text: str, name: str, side: str) -> None:
    axis.text(x, y, text, color=COLOURS[name], fontsize=7, ha=side, va="center")


def _against_cost(axis: Axes, points: pd.DataFrame) -> None:
    for name in _SHOWN:
        line = points.loc[name].sort_index().loc[:_MOST_SHOWN]
        axis.errorbar(
            line.index,
            1 - line["mean"],
            1.96 * line["sem"],
            color=COLOURS[name],
            marker=MARKERS[name],
            label=LABELS[name],
            capsize=2,
        )
    nodes = EFFICIENCY.design.nodes
    axis.plot(
        nodes,
        1.0,
        color=COLOURS["exact"],
        marker=MARKERS["exact"],
        linestyle="none",
        label=LABELS["exact"],
        zorder=3,
    )
    axis.axhline(1, color=COLOURS["exact"], linewidth=0.8)
    _note(axis, nodes, 1.05, f"{nodes} nodes", "exact", "center")
    axis.set(xscale="log", xlabel="kernel evaluations an observation", ylabel="relative efficiency, RE", ylim=(0, 1.12))
    axis.set_title("efficiency against cost")
    plain_log_axis(axis.xaxis, [float(k) for k in points.loc["quadratic"].index if k <= _MOST_SHOWN])
