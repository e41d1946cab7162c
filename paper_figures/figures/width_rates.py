"""Error of regularised fits against the sample size, with fitted slopes and the slowest predicted one."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.style import WIDTH, plain_log_axis
from simulations.claims.width import LABELS, LAZY_EXPONENT, REGULARISED
from simulations.rates import mean, slope
from simulations.studies.width import STUDY as WIDTH_STUDY

__all__ = ["STUDY", "draw"]

STUDY = "width"

_LOOK = (("#56B4E9", "^", 0.97), ("#0072B2", "o", 1.0), ("#009E73", "D", 1.03))


def draw(run: Results) -> Figure:
    """One line a learner and ratio of width to n."""
    size = WIDTH_STUDY.sizes[run.preset]
    lines = [(learner, ratio) for learner, ratios in WIDTH_STUDY.rate_ratios.items() for ratio in ratios]
    figure = Figure(figsize=(0.62 * WIDTH, 3.2), layout="constrained")
    axis = figure.subplots()
    highest = 0.0
    for (learner, ratio), (colour, marker, shift) in zip(lines, _LOOK, strict=True):
        rows = run.rows(learner=learner, ratio=ratio, parameter="regularised")
        values = rows.groupby("n")["estimate"].agg(["mean", "sem"])
        n, centre, half = values.index.to_numpy(dtype=float), values["mean"].to_numpy(), 1.96 * values["sem"].to_numpy()
        found = slope(rows, measure=mean, burn_in=size.burn_in)
        label = f"{LABELS[learner]}, m = {ratio:g} n, {REGULARISED[learner]}: slope \N{MINUS SIGN}{-found.estimate:.2f}"
        axis.errorbar(n * shift, centre, yerr=half, color=colour, marker=marker, capsize=2, elinewidth=0.8, label=label)
        highest = max(highest, float(centre[n >= size.burn_in][0]))
    far = np.array([size.burn_in, max(size.sizes)], dtype=float)
    guide = 1.3 * highest * (far / far[0]) ** LAZY_EXPONENT
    axis.plot(
        far, guide, color="black", linewidth=0.8, linestyle="--", label="slope \N{MINUS SIGN}3/8, the slowest predicted"
    )
    axis.axvline(size.burn_in, color="black", linewidth=0.7, linestyle=":")
    axis.set(xscale="log", yscale="log", xlabel="training size n")
    axis.set_ylabel("squared error to the teacher,\nmean, 95 % interval")
    axis.set_title("Slopes right of the dotted line")
    plain_log_axis(axis.xaxis, [float(n) for n in size.sizes])
    plain_log_axis(axis.yaxis, [0.02, 0.05, 0.1, 0.2])
    figure.legend(loc="outside lower center")
    return figure
