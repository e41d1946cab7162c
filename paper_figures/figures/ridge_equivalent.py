"""Excess risk over its deterministic equivalent: the level that spectrum, target and penalty predict before any run."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.ridge_results import draw_points, dress, panels, points
from paper_figures.style import WIDTH

__all__ = ["STUDY", "draw"]

STUDY = "ridge"
# Lines of one panel are set apart so that their bars do not hide each other.
_APART = 1.06


def draw(results: Results) -> Figure:
    """One panel a kind of response; 1 is the equivalent of the linearised problem."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for axis, (title, lines) in zip(axes, panels(), strict=True):
        axis.axhline(1, color="0.4", linewidth=0.8)
        sizes = []
        for position, line in enumerate(lines):
            n, value, half = points(results, line)
            expected = np.array([line.equivalent(int(size)) for size in n])
            shift = _APART ** (position - (len(lines) - 1) / 2)
            draw_points(axis, line, n * shift, value / expected, half / expected)
            sizes.append(n)
        if (burn_in := max(line.burn_in for line in lines)) > min(map(min, sizes)):
            axis.axvline(burn_in / 2**0.5, color="0.6", linewidth=0.8, linestyle=":")
        dress(axis, title, np.concatenate(sizes))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), fontsize=6.5, handletextpad=0.4)
    axes[0].set_ylabel("excess risk / its equivalent")
    return figure
