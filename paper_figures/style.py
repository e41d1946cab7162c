"""One look for all figures: print width, colour-blind safe colours, embedded fonts, reproducible bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from simulations.files import write_atomically

__all__ = ["COLOURS", "LABELS", "LINES", "MARKERS", "WIDTH", "plain_log_axis", "save", "style"]

# Full text width of a journal page, in inches.
WIDTH = 7.0

# Okabe & Ito (2008), distinguishable under the common colour deficiencies; markers repeat the coding.
COLOURS = {
    "single_draw": "#999999",
    "plug_in": "#D55E00",
    "quadratic": "#009E73",
    "cross_fitted": "#0072B2",
    "two_sample": "#CC79A7",
    "exact": "#000000",
}
MARKERS = {"single_draw": "x", "plug_in": "s", "quadratic": "^", "cross_fitted": "o", "two_sample": "v", "exact": "D"}
LABELS = {
    "single_draw": "single draw",
    "plug_in": "plug-in",
    "quadratic": "quadratic",
    "cross_fitted": "cross-fitted",
    "two_sample": "two-sample, Sobol nets",
    "exact": "exact (quadrature)",
}

# The estimators drawn against n; single_draw leaves every scale.
LINES = ("plug_in", "quadratic", "cross_fitted", "exact")

_SETTINGS: dict[Any, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.alpha": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "eeqs",
}


@contextmanager
def style() -> Iterator[None]:
    """Apply the settings of the figures."""
    with mpl.rc_context(_SETTINGS):
        yield


def plain_log_axis(axis: mpl.axis.Axis, ticks: list[float]) -> None:
    """Show the given ticks of a log axis as plain numbers."""
    axis.set_ticks(ticks)
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Write a figure as PDF, SVG and PNG; the same figure gives the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for extension, metadata in (("pdf", {"CreationDate": None}), ("svg", {"Date": None}), ("png", {"Software": None})):
        path = directory / f"{name}.{extension}"
        write_atomically(path, partial(figure.savefig, format=extension, metadata=metadata))
        paths.append(path)
    return paths
