"""RMSE over the number of draws at fixed totals, and how the best number grows with the total."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.style import COLOURS, LABELS, MARKERS, WIDTH, plain_log_axis
from simulations.claims.budget import RMSE_EXPONENT, Best, best
from simulations.designs.leading_order import LeadingOrder
from simulations.studies.budget import STUDY as BUDGET

__all__ = ["STUDY", "draw"]

STUDY = "budget"

_DRAWS_TICKS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_RMSE_TICKS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5)


def draw(results: Results) -> Figure:
    """One panel of RMSE a budget, then the best K and the RMSE there against the budget."""
    budgets = sorted(int(budget) for budget in results.table["budget"].unique())
    found = {name: best(results.rows(estimator=name)) for name in BUDGET.lines}
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False)[:, 0]
    axes = upper.subplots(1, len(budgets), sharex=True, sharey=True, squeeze=False)[0]
    for position, (axis, budget) in enumerate(zip(axes, budgets, strict=True)):
        _over_draws(axis, results, found, position)
        axis.set(xscale="log", yscale="log", xlabel="draws an observation, K", title=f"total nK = {budget:,}")
    plain_log_axis(axes[0].xaxis, sorted(float(k) for k in results.table["n_draws"].unique()))
    _plain(axes[0].yaxis, _RMSE_TICKS)
    axes[0].set_ylabel("RMSE of the log-scale")
    left, right = lower.subplots(1, 2)
    _best_draws(left, found)
    _best_rmse(right, found)
    for axis in (left, right):
        axis.set(xscale="log", yscale="log", xlabel="total number of draws, nK")
        plain_log_axis(axis.xaxis, [float(budget) for budget in budgets])
        axis.xaxis.set_major_formatter("{x:,.0f}")
    _plain(left.yaxis, _DRAWS_TICKS)
    _plain(right.yaxis, _RMSE_TICKS)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _over_draws(axis: Axes, results: Results, found: dict[str, Best], position: int) -> None:
    """RMSE at every K with 95 % bars, and the interpolated minimum as a ring."""
    for name, line in found.items():
        shown = results.measure("rmse", estimator=name, budget=int(line.budget[position])).sort_values("n_draws")
        axis.errorbar(
            shown["n_draws"],
            shown["value"],
            np.minimum(1.96 * shown["mcse"], 0.9 * shown["value"]),
            color=COLOURS[name],
            marker=MARKERS[name],
            capsize=2,
            elinewidth=0.8,
            label=LABELS[name],
        )
        x, y = np.exp(line.log_draws[0, position]), np.exp(line.log_rmse[0, position])
        axis.plot(x, y, marker="o", markersize=9, markerfacecolor="none", color=COLOURS[name], linestyle="none")


def _best_draws(axis: Axes, found: dict[str, Best]) -> None:
    for position, (name, line) in enumerate(found.items()):
        _points(axis, line.budget, line.log_draws, name, position)
    theory, budget = LeadingOrder(BUDGET.design), _range(found)
    predicted = [theory.best_draws(total) for total in budget]
    axis.plot(budget, predicted, color=COLOURS["plug_in"], linestyle="--", linewidth=0.8)
    middle = float(np.sqrt(budget.prod()))
    text = "leading order, slope 1/3"
    axis.text(
        middle, 0.72 * theory.best_draws(middle), text, color=COLOURS["plug_in"], fontsize=7.5, ha="left", va="center"
    )
    axis.set(ylabel="best K", ylim=(1.6, 2.5 * predicted[-1]), yscale="log")


def _best_rmse(axis: Axes, found: dict[str, Best]) -> None:
    for position, (name, line) in enumerate(found.items()):
        _points(axis, line.budget, line.log_rmse, name, position)
        budget = _range(found)
        centre = np.exp(np.log(line.budget).mean()), np.exp(line.log_rmse[0].mean())
        predicted = centre[1] * (budget / centre[0]) ** RMSE_EXPONENT[name]
        axis.plot(budget, predicted, color=COLOURS[name], linestyle="--", linewidth=0.8)
        if name != "two_sample":
            text = "slope \N{MINUS SIGN}1/3" if name == "plug_in" else "slope \N{MINUS SIGN}1/2"
            where = (1.1 if name == "plug_in" else 0.8) * centre[1]
            side = "left" if name == "plug_in" else "right"
            axis.text(centre[0], where, text, color=COLOURS[name], fontsize=7.5, ha=side, va="center")
    axis.set(ylabel="RMSE at the best K")


def _points(axis: Axes, budget: np.ndarray, values: np.ndarray, name: str, position: int) -> None:
    """Estimates with 95 % bootstrap bars, set apart so that they do not hide each other."""
    centre = values[0]
    low, high = np.quantile(values[1:], [0.025, 0.975], axis=0)
    at = np.exp(centre)
    bars = [np.maximum(at - np.exp(low), 0), np.maximum(np.exp(high) - at, 0)]
    axis.errorbar(
        budget * 1.06 ** (position - 1),
        at,
        bars,
        color=COLOURS[name],
        marker=MARKERS[name],
        linestyle="none",
        capsize=2,
    )


def _plain(axis: Axis, ticks: tuple[float, ...]) -> None:
    """Show those of the ticks that the view holds, which it then keeps."""
    low, high = axis.get_view_interval()
    plain_log_axis(axis, [tick for tick in ticks if low <= tick <= high])


def _range(found: dict[str, Best]) -> np.ndarray:
    budget = found["plug_in"].budget
    return np.array([budget[0] / 1.3, budget[-1] * 1.3])
