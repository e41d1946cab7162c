"""Law of the estimated variance where it is zero, and what intervals do there."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from paper_figures.results import Results
from paper_figures.style import COLOURS, WIDTH
from simulations.claims.boundary import LEVEL, SCALE_COVERAGE, VARIANCE_COVERAGE
from simulations.schema import CONVERGED
from simulations.studies.boundary import STUDY as DESIGN

__all__ = ["STUDY", "draw"]

STUDY = "boundary"

_BINS = np.linspace(0, 3.5, 15)


def draw(results: Results) -> Figure:
    """Estimates by quadrature on the left, coverage on the right."""
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    rows = results.rows(quantity="root", estimator="exact", status=CONVERGED)
    rows = rows[rows["n"] >= DESIGN.sizes[results.preset].burn_in]
    _law(left, rows[rows["parameter"] == "variance"])
    _coverage(right, rows, results)
    return figure


def _law(axis: Axes, rows: pd.DataFrame) -> None:
    """Histogram of the positive estimates in standard errors, and the atom at zero as a bar."""
    value = rows["estimate"] * np.sqrt(rows["n"] * DESIGN.design.information)
    height, _ = np.histogram(value[value > 0], _BINS)
    width = _BINS[1] - _BINS[0]
    axis.bar(
        _BINS[:-1], height / len(value) / width, width, align="edge", color=COLOURS["cross_fitted"], alpha=0.45,
        edgecolor="white", linewidth=0.5, label="positive estimates",
    )  # fmt: skip
    grid = np.linspace(0, _BINS[-1], 200)
    axis.plot(grid, norm.pdf(grid), color="black", label="half of a half-normal law")
    share = float((value == 0).mean())
    axis.plot(
        [0, 0], [0, share], color=COLOURS["plug_in"], linewidth=4, solid_capstyle="butt", label="estimates of zero"
    )
    axis.plot([0], [0.5], color="black", marker="_", markersize=10, linestyle="none", label="one half")
    axis.set(
        xlabel=r"$\sqrt{n I_0}\,\hat\sigma^2$ (standard errors)", ylabel="density, or share at zero", ylim=(0, 0.62)
    )
    axis.set_title("law of the variance estimate")
    axis.legend(loc="upper right", fontsize=7)


def _coverage(axis: Axes, rows: pd.DataFrame, results: Results) -> None:
    """Share of intervals that hold the truth, with its prediction."""
    scale, variance = (rows[rows["parameter"] == name] for name in ("scale", "variance"))
    accepted = results.rows(quantity="test", parameter="accepted")
    bars = [
        (
            r"normal, for $\sigma$" + "\n" + r"(where $\hat\sigma > 0$)",
            _hits(scale[scale["estimate"] > 0]),
            SCALE_COVERAGE,
        ),
        (r"normal, for $\sigma^2$", _hits(variance), VARIANCE_COVERAGE),
    ]
    for distance, part in accepted.groupby("distance"):
        where = r"at $\sigma = 0$" if distance == 0 else rf"at $\sigma^2$ = {distance:g} s.e."
        bars.append((f"scale_interval\n{where}", part["estimate"] == 1, LEVEL))
    axis.axvline(100 * LEVEL, color="0.4", linewidth=0.8)
    for row, (_, hits, predicted) in enumerate(bars):
        low, high = (100 * end for end in proportion_confint(int(hits.sum()), len(hits), method="wilson"))
        colour = COLOURS["plug_in"] if row < 2 else COLOURS["cross_fitted"]
        axis.plot([low, high], [row, row], color=colour, linewidth=2)
        axis.plot(100 * hits.mean(), row, color=colour, marker="o", markersize=5)
        axis.plot(100 * predicted, row, color="black", marker="|", markersize=12, linestyle="none")
    axis.set_yticks(range(len(bars)), [label for label, *_ in bars])
    axis.set(xlabel="coverage (%), with 95 % interval; black: predicted", xlim=(55, 101), ylim=(len(bars) - 0.5, -0.5))
    axis.set_title("intervals of nominal level 95 %")


def _hits(rows: pd.DataFrame) -> pd.Series:
    return (rows["estimate"] - rows["truth"]).abs() <= norm.ppf((1 + LEVEL) / 2) * rows["se"]
