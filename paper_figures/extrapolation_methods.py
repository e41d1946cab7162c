"""How the figures of the study ``extrapolation`` show its methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import t

__all__ = ["LOOKS", "Look", "geometric", "line"]


@dataclass(frozen=True)
class Look:
    """Colour (Okabe & Ito 2008), line and marker of a method, and its name in a legend."""

    label: str
    colour: str
    style: Any
    marker: str


LOOKS = {
    "learned": Look("learned scale", "#0072B2", "-", "o"),
    "tuned": Look("fixed scale, chosen inside", "#009E73", "-.", "^"),
    "fixed": Look("fixed scale 0.3", "#D55E00", "--", "s"),
    "additive": Look("noise on the response only", "#CC79A7", ":", "D"),
    "least_squares": Look("no noise (least squares)", "#777777", (0, (5, 1)), "x"),
    "least_absolute": Look("no noise (least absolute)", "#777777", (0, (5, 1)), "x"),
    "none": Look("no noise (cross-entropy)", "#777777", (0, (5, 1)), "x"),
}


def geometric(rows: pd.DataFrame, parameters: list[str]) -> pd.DataFrame:
    """Geometric mean of the estimates of each parameter, with the ends of its 95 % Student interval."""
    good = rows[rows["parameter"].isin(parameters)].dropna(subset=["estimate"])
    logs = good.assign(log=np.log(good["estimate"])).groupby("parameter")["log"]
    found = logs.agg(["mean", "sem", "count"])
    reach = found["sem"] * t.ppf(0.975, (found["count"] - 1).clip(lower=1))
    ends = {"value": found["mean"], "low": found["mean"] - reach, "high": found["mean"] + reach}
    return pd.DataFrame({name: np.exp(values) for name, values in ends.items()}).loc[parameters]


def line(axis: Axes, method: str, x: np.ndarray, points: pd.DataFrame, *, marker: bool) -> None:
    """Draw ``value`` against x with a band from ``low`` to ``high``."""
    look = LOOKS[method]
    axis.plot(x, points["value"], color=look.colour, linestyle=look.style, marker=look.marker if marker else None)
    axis.fill_between(x, points["low"], points["high"], color=look.colour, alpha=0.15, linewidth=0)
