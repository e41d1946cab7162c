"""Zip plot: every interval of a cell, ranked by how far its centre lies from the truth in standard errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from simulations.schema import CONVERGED

__all__ = ["COVERING", "MISSING", "zip_plot"]

# Okabe & Ito (2008): sky blue and vermilion, far apart in lightness too.
COVERING, MISSING = "#56B4E9", "#D55E00"


def zip_plot(axis: Axes, rows: pd.DataFrame, *, level: float = 0.95) -> None:
    r"""Draw the intervals :math:`\hat\theta - \theta \pm z \cdot se` of one cell, the closest at the bottom.

    The height is the centile of :math:`|\hat\theta - \theta| / se`, so that intervals which cover lie below those which
    miss and the border between them is the coverage. A horizontal line marks the nominal level, the text gives the
    coverage with its 95 % Wilson interval. The horizontal axis holds 99 % of the ends. Intervals are drawn as pixels:
    a file does not grow with their number.

    Parameters
    ----------
    axis : matplotlib Axes
    rows : pandas.DataFrame
        Rows of one cell and parameter, see `simulations`; those that did not converge are counted in the text.
    level : float
        Nominal coverage of the intervals.

    Raises
    ------
    ValueError
        No row converged with a standard error.

    References
    ----------
    Morris, White & Crowther (2019), *Statistics in Medicine* 38, Figure 6.
    """
    good = rows[(rows["status"] == CONVERGED) & rows["se"].notna()]
    if good.empty:
        raise ValueError("a zip plot needs a converged replicate with a standard error")
    quantile = float(norm.ppf((1 + level) / 2))
    error, se = (good["estimate"] - good["truth"]).to_numpy(), good["se"].to_numpy()
    order = np.argsort(np.abs(error) / se, kind="stable")
    error, half = error[order], quantile * se[order]
    centile = 100 * (np.arange(len(error)) + 0.5) / len(error)
    covers = np.abs(error) <= half
    for which, colour, label in ((covers, COVERING, "covers"), (~covers, MISSING, "misses")):
        ends = np.stack([error - half, error + half], axis=1)[which]
        heights = np.repeat(centile[which, None], 2, axis=1)
        segments = list(np.stack([ends, heights], axis=-1))
        axis.add_collection(LineCollection(segments, colors=colour, linewidths=0.6, label=label, rasterized=True))
    axis.axvline(0, color="black", linewidth=0.8)
    axis.axhline(100 * level, color="0.3", linewidth=0.8, linestyle="--")
    reach = float(np.quantile(np.abs(error) + half, 0.99))
    axis.set(xlim=(-1.1 * reach, 1.1 * reach), ylim=(0, 100), yticks=[0, 25, 50, 75, 100 * level])
    axis.grid(visible=False)
    axis.text(0.03, 0.03, _summary(covers, len(rows) - len(good)), transform=axis.transAxes, fontsize=6.5, bbox=_BOX)


_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}


def _summary(covers: np.ndarray, failed: int) -> str:
    low, high = proportion_confint(int(covers.sum()), len(covers), method="wilson")
    text = f"{100 * covers.mean():.1f} %  [{100 * low:.1f}, {100 * high:.1f}]"
    return text if not failed else f"{text}\n{failed} failed"
