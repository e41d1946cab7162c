"""A line of geometric means with its pointwise Student band."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from simulations.claims.paired import geometric_interval
from simulations.schema import CONVERGED

__all__ = ["geometric_band"]


def geometric_band(axis: Axes, rows: pd.DataFrame, x: str, *, divisor: float = 1.0, **options: Any) -> pd.DataFrame:
    """Draw the geometric means of the converged estimates against a column, with 95 % intervals as a band.

    Parameters
    ----------
    axis : Axes
    rows : DataFrame
        Rows of one line.
    x : str
        Column of the places.
    divisor : float
        What the estimates are divided by.
    **options
        Passed to ``Axes.plot``; ``color`` also colours the band.

    Returns
    -------
    DataFrame
        Columns ``estimate``, ``low`` and ``high`` by place.
    """
    good = rows[rows["status"] == CONVERGED]
    places = {place: geometric_interval(np.log(part["estimate"] / divisor)) for place, part in good.groupby(x)}
    curve = pd.DataFrame({place: (v.estimate, v.low, v.high) for place, v in places.items()}).T.sort_index()
    curve.columns = pd.Index(["estimate", "low", "high"])
    axis.plot(curve.index, curve["estimate"], **options)
    axis.fill_between(curve.index, curve["low"], curve["high"], color=options.get("color"), alpha=0.13, linewidth=0)
    return curve
