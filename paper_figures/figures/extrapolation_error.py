"""Error against the distance beyond the training support: how far each method follows the truth."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures.extrapolation_methods import LOOKS, geometric, line
from paper_figures.results import Results
from paper_figures.style import WIDTH
from simulations.designs.distances import CLAIMED, EDGES, labels
from simulations.designs.pre_additive import TRUTHS

__all__ = ["STUDY", "draw"]

STUDY = "extrapolation"

# The middle of each bin; what is inside the support is drawn at its edge's left.
_PLACES = np.array([-0.5, *((np.array(EDGES[:-1]) + np.array(EDGES[1:])) / 2)])
_SCALAR = ("learned", "tuned", "fixed", "additive", "least_absolute")
_TOKENS = ("learned", "fixed", "none")


def draw(run: Results) -> Figure:
    """One panel a scalar truth, one for tokens, and the legend in the place of a sixth."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    for axis, truth in zip(axes, TRUTHS, strict=False):
        _panel(axis, run, truth.name, "median", _SCALAR)
        axis.set_title(truth.name)
        size = int(run.rows(regime=truth.name)["n"].iloc[0])
        axis.axvline(truth.end(size), color="black", linestyle=":", linewidth=0.9)
    _panel(axes[4], run, "tokens", "divergence", _TOKENS)
    axes[4].set_title("tokens on a line")
    for axis in (axes[0], axes[3]):
        axis.set_ylabel("RMSE of the median")
    axes[4].set_ylabel("excess log score, nats")
    for axis in axes[2:5]:
        axis.set_xlabel("distance beyond the support\n(sd of the noise)")
    _legend(axes[5])
    return figure


def _panel(axis: Axes, run: Results, regime: str, measure: str, methods: tuple[str, ...]) -> None:
    axis.axvspan(-1, 0, color="#DDDDDD", linewidth=0)
    axis.axvline(CLAIMED, color="black", linewidth=0.6)
    names = [f"{measure} {label}" for label in labels()]
    for method in methods:
        points = geometric(run.rows(regime=regime, estimator=method), names)
        line(axis, method, _PLACES, points, marker=True)
    axis.set(yscale="log", xlim=(-1, EDGES[-1]))
    axis.set_xticks([-0.5, 1, 2, 3, 4], ["inside", "1", "2", "3", "4"])


def _legend(axis: Axes) -> None:
    axis.set_axis_off()
    # The plain methods of tokens and scalars look alike: one entry for both.
    looks = [LOOKS[name] for name in _SCALAR[:-1]] + [LOOKS["least_absolute"]]
    names = [look.label for look in looks[:-1]] + ["no noise (least absolute,\ntokens: cross-entropy)"]
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.style, marker=look.marker, label=name)
        for look, name in zip(looks, names, strict=True)
    ]
    handles += [
        Line2D([], [], color="black", linewidth=0.6, label="claim judged up to here"),
        Line2D([], [], color="black", linestyle=":", linewidth=0.9, label="last observations expected"),
    ]
    axis.legend(handles=handles, loc="center")
