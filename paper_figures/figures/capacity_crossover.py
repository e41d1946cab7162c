"""In-sample noise scale against capacity over n at two sample sizes, and where it has fallen to half the truth."""

from __future__ import annotations

from matplotlib.figure import Figure

from paper_figures.bands import geometric_band
from paper_figures.results import Results
from paper_figures.style import WIDTH, plain_log_axis
from simulations.claims.capacity import KEPT
from simulations.claims.crossover import crossover
from simulations.claims.paired import log_estimates
from simulations.studies.capacity import STUDY as CAPACITY_STUDY

__all__ = ["STUDY", "draw"]

STUDY = "capacity"

_LOOK = (("#0072B2", "o", 0.97), ("#D55E00", "s", 1.03))


def draw(run: Results) -> Figure:
    """One line a sample size, with its crossover and interval on the level."""
    figure = Figure(figsize=(0.62 * WIDTH, 2.9), layout="constrained")
    axis = figure.subplots()
    for n, (colour, marker, shift) in zip(CAPACITY_STUDY.sizes[run.preset].crossover_sizes, _LOOK, strict=True):
        rows = run.rows(method="in_sample", parameter="scale", n=n)
        truth = float(rows["truth"].iloc[0])
        found = crossover(log_estimates(rows, "ratio"), KEPT * truth)
        label = f"n = {n}: half at m / n = {found.estimate:.2f} ({found.low:.2f} to {found.high:.2f})"
        geometric_band(axis, rows, "ratio", divisor=truth, color=colour, marker=marker, label=label)
        ends = [[found.estimate - found.low], [found.high - found.estimate]]
        axis.errorbar(found.estimate, KEPT * shift, xerr=ends, color=colour, marker="|", capsize=3, elinewidth=2)
    axis.axhline(KEPT, color="black", linewidth=0.8, linestyle="--")
    axis.set(xscale="log", yscale="log", xlabel="random features m / sample size n")
    axis.set_ylabel("in-sample noise scale / truth, 95 % band")
    axis.set_title("Crossover of in-sample estimation")
    plain_log_axis(axis.xaxis, [0.02, 0.05, 0.1, 0.2, 0.5])
    plain_log_axis(axis.yaxis, [0.1, 0.2, 0.5, 1])
    axis.legend(loc="lower left")
    return figure
