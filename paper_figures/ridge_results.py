"""What the figures of the study ``ridge`` share: the points of a line, and how lines and panels look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from paper_figures.results import Results
from paper_figures.style import plain_log_axis
from simulations.claims.ridge import rows_of
from simulations.designs.ridge_lines import Line
from simulations.schema import CONVERGED
from simulations.studies.ridge import STUDY

__all__ = ["Points", "draw_points", "dress", "panels", "points"]

_TITLES = {"least_squares": "least squares", "logistic": "logistic", "perturbed": "perturbed logit"}
# Okabe & Ito (2008), one colour for each decay a and source r.
_COLOURS = {(1.5, 0.5): "#0072B2", (2.0, 0.5): "#D55E00", (1.5, 0.75): "#009E73", (2.0, 0.75): "#000000"}
_MARKERS = {"least_squares": "o", "logistic": "o", "perturbed_cross_fitted": "s", "perturbed_exact": "D"}


class Points(NamedTuple):
    """Mean excess risk of a line at each n, with the half-width of its 95 % interval; arrays of one length."""

    n: np.ndarray
    mean: np.ndarray
    half: np.ndarray


def panels() -> Iterator[tuple[str, list[Line]]]:
    """Title and lines of each panel."""
    for prefix, title in _TITLES.items():
        yield title, [line for line in STUDY.lines if line.estimator.startswith(prefix)]


def points(results: Results, line: Line) -> Points:
    """Points of a line, from its converged replicates."""
    rows = rows_of(results.table, line)
    found = rows[rows["status"] == CONVERGED].groupby("n")["estimate"].agg(["mean", "sem"])
    return Points(found.index.to_numpy(float), found["mean"].to_numpy(), 1.96 * found["sem"].to_numpy())


def draw_points(axis: Axes, line: Line, n: np.ndarray, value: np.ndarray, half: np.ndarray) -> ErrorbarContainer:
    """Draw points with bars in the look of the line; those of the quadrature estimator are open."""
    colour = _COLOURS[line.design.decay, line.design.source]
    return axis.errorbar(
        n,
        value,
        yerr=half,
        color=colour,
        marker=_MARKERS[line.estimator],
        markerfacecolor="white" if line.estimator == "perturbed_exact" else colour,
        linestyle="none",
        capsize=1.5,
        elinewidth=0.8,
        label=_label(line),
    )


def dress(axis: Axes, title: str, sizes: np.ndarray) -> None:
    """Give a panel its title and its axis of n."""
    axis.set(xscale="log", title=title, xlabel="sample size n")
    plain_log_axis(axis.xaxis, sorted(set(sizes.tolist())))
    axis.minorticks_off()
    axis.tick_params(axis="x", rotation=45)


def _label(line: Line) -> str:
    kind = {"perturbed_cross_fitted": ", cross-fitted", "perturbed_exact": ", exact"}.get(line.estimator, "")
    return f"a = {line.design.decay:g}, r = {line.design.source:g}{kind}"
