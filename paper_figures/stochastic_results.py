"""The study ``stochastic`` as its figures see it: outputs and coordinates apart, with their colours and names."""

from __future__ import annotations

import pandas as pd

from paper_figures.results import Results

__all__ = ["COLOURS", "LABELS", "MARKERS", "SYMBOLS", "line", "panels"]

# Okabe & Ito (2008), as in `paper_figures.style`.
COLOURS = {"averaged": "#0072B2", "last": "#D55E00"} | {
    "random_scaling": "#0072B2",
    "plug_in": "#009E73",
    "batch_means": "#E69F00",
}
MARKERS = {"averaged": "o", "last": "s", "random_scaling": "o", "plug_in": "^", "batch_means": "D"}
LABELS = {
    "averaged": "averaged iterate",
    "last": "last iterate",
    "random_scaling": "random scaling",
    "plug_in": "plug-in",
    "batch_means": "batch means",
}
SYMBOLS = {
    "intercept": r"intercept $\beta_0$",
    "x1": r"slope $\beta_1$",
    "x2": r"slope $\beta_2$",
    "variance": r"variance $\sigma^2$",
}


def panels(results: Results) -> list[tuple[str, str]]:
    """Regime and coordinate of every panel, in the order of the table."""
    rows = results.rows(role="rate")
    pairs = rows["regime"] + "." + rows["parameter"].str.partition(".")[2]
    return [(regime, name) for regime, _, name in (pair.partition(".") for pair in dict.fromkeys(pairs))]


def line(results: Results, measure: str, regime: str, parameter: str) -> pd.DataFrame:
    """Values of a measure of one output over the numbers of steps."""
    found = results.measure(measure, role="rate", regime=regime, parameter=parameter)
    return found.sort_values("steps")
