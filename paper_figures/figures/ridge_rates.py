"""Excess risk of ridge against sample size with p >> n, and the slopes that spectrum and target predict."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from paper_figures.results import Results
from paper_figures.ridge_results import draw_points, dress, panels, points
from paper_figures.style import WIDTH
from simulations.claims.ridge import rows_of
from simulations.designs.ridge_lines import Line
from simulations.rates import Interval, TooFewReplicatesError, mean, slope

__all__ = ["STUDY", "draw"]

STUDY = "ridge"
_RISKS = {"least squares": "excess squared loss", "logistic": "excess log-loss", "perturbed logit": "excess log-loss"}


def draw(results: Results) -> Figure:
    """One panel a kind of response; dashed lines have the predicted slope, below them the fitted ones."""
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, (title, lines) in zip(axes, panels(), strict=True):
        found = [_line(axis, results, line) for line in lines]
        dress(axis, title, np.concatenate([n for n, _ in found]))
        axis.set(yscale="log", ylabel=_RISKS[title])
        low, high = (extreme([extreme(value) for _, value in found]) for extreme in (min, max))
        axis.set_ylim(low / 1.3, high * 1.5)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.legend(loc="upper center", bbox_to_anchor=(0.46, -0.27), fontsize=6.5, handletextpad=0.4, labelspacing=0.7)
    return figure


def _line(axis: Axes, results: Results, line: Line) -> tuple[np.ndarray, np.ndarray]:
    """Draw points and the predicted slope through their centre past the burn-in; return the points."""
    n, value, half = points(results, line)
    bars = draw_points(axis, line, n, value, half)
    past = n >= line.burn_in
    centre = [np.exp(np.mean(np.log(part[past]))) for part in (n, value)]
    axis.plot(
        n[past],
        centre[1] * (n[past] / centre[0]) ** -line.design.exponent,
        color=bars.lines[0].get_color(),
        linestyle="--",
        linewidth=1.0,
    )
    bars.set_label(f"{bars.get_label()}\n{_slopes(results, line)}")
    return n, value


def _slopes(results: Results, line: Line) -> str:
    try:
        found = slope(rows_of(results.table, line), measure=mean, burn_in=line.burn_in)
    except TooFewReplicatesError:
        found = Interval(np.nan, np.nan, np.nan, np.nan)
    text = f"theory {-line.design.exponent:.2f}, fit {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"
    return text.replace("-", "\N{MINUS SIGN}")
