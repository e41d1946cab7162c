"""Plots of a fit, by matplotlib: an optional extra that is imported when a plot is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eeqs.engine.inference.coefficients import Coefficients
from eeqs.engine.inference.hypothesis import positions
from eeqs.engine.inference.result import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_coefficients", "plot_influence"]

# Blue and vermillion of Okabe & Ito (2008), told apart in every kind of colour vision and in grey.
_BLUE, _VERMILLION = "#0072B2", "#D55E00"


def plot_coefficients(
    fit: Coefficients, ax: Axes | None = None, *, alpha: float = 0.05, names: Sequence[str] | None = None
) -> Axes:
    """Forest plot: one row a parameter, a dot at its estimate and a line over its interval.

    Parameters
    ----------
    fit : Estimate or DerivedEstimate
    ax : Axes, optional
        Where to draw; a new figure when left out.
    alpha : float
        Level of the intervals is ``1 - alpha``.
    names : sequence of str, optional
        The parameters to show, from top to bottom; all of them when left out.

    Returns
    -------
    Axes
        A parameter that is not estimable has its label, and no mark.
    """
    chosen = positions(fit.names if names is None else names, fit.names)
    interval = fit.conf_int(alpha).iloc[chosen]
    at = np.arange(len(chosen))
    axes = _axes(ax, (6.0, 1.2 + 0.32 * len(chosen)))
    known = interval[0].notna().to_numpy()
    axes.axvline(0.0, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    axes.hlines(at[known], interval.loc[known, 0], interval.loc[known, 1], color=_BLUE, linewidth=1.8)
    axes.plot(fit.params.iloc[chosen][known], at[known], "o", color=_BLUE, markersize=5.5)
    labels = [fit.names[j] + ("" if k else " (not estimable)") for j, k in zip(chosen, known, strict=True)]
    axes.set_yticks(at, labels=labels)
    axes.set_ylim(len(chosen) - 0.5, -0.5)
    axes.set_xlabel(f"estimate and {100 * (1 - alpha):g} % interval")
    _open_frame(axes)
    return axes


def plot_influence(fit: Estimate, ax: Axes | None = None, *, label: int = 3) -> Axes:
    """Cook-type distance that leaving each row out moves the estimates, as in `leave_one_out`.

    Parameters
    ----------
    fit : Estimate
    ax : Axes, optional
        Where to draw; a new figure when left out.
    label : int
        The number of rows, from the largest distance, that are marked and labelled by the index of the data.

    Returns
    -------
    Axes
    """
    distance = fit.leave_one_out().distance
    values = distance.to_numpy()
    top = np.argsort(-values, kind="stable")[: max(label, 0)]
    axes = _axes(ax, (6.0, 3.4))
    axes.vlines(np.arange(len(values)), 0, values, color=_BLUE, linewidth=0.7)
    axes.plot(top, values[top], "o", color=_VERMILLION, markersize=5)
    for k in top:
        axes.annotate(str(distance.index[k]), (k, values[k]), (4, 3), textcoords="offset points", fontsize=9)
    axes.set_xlabel("row of the data")
    axes.set_ylabel("Cook-type distance when left out")
    axes.set_ylim(bottom=0.0)
    axes.margins(x=0.02, y=0.12)
    _open_frame(axes)
    return axes


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def _open_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
