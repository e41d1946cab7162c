"""Noise scale and held-out loss against the capacity of the kernel, in sample and by a split sample."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from paper_figures.bands import geometric_band
from paper_figures.results import Results
from paper_figures.style import WIDTH, plain_log_axis
from simulations.claims.capacity import LABELS
from simulations.studies.capacity import STUDY as CAPACITY_STUDY

__all__ = ["STUDY", "draw"]

STUDY = "capacity"

_LOOK = {
    "plain": ("#999999", "x", ":"),
    "in_sample": ("#D55E00", "s", "--"),
    "in_sample_single": ("#E69F00", "v", "--"),
    "split": ("#0072B2", "o", "-"),
    "split_single": ("#009E73", "D", "-"),
}


def draw(run: Results) -> Figure:
    """Scale on the left, held-out log-loss on the right."""
    n = CAPACITY_STUDY.sizes[run.preset].n
    truth, entropy = (run.rows(parameter=name)["truth"].iloc[0] for name in ("scale", "loss"))
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method, (colour, marker, line) in _LOOK.items():
        rows = run.rows(method=method, n=n)
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, "label": LABELS[method]}
        if method != "plain":
            geometric_band(left, rows[rows["parameter"] == "scale"], "ratio", divisor=truth, **look)
        geometric_band(right, rows[rows["parameter"] == "loss"], "ratio", **look)
    for axis, level, word in ((left, 1.0, "truth"), (right, entropy, "entropy of the truth")):
        axis.axvline(1.0, color="black", linewidth=0.7, linestyle=":")
        axis.axhline(level, color="black", linewidth=0.8)
        axis.annotate(word, (1, level), (-2, 2), axis.get_yaxis_transform(), "offset points", ha="right", fontsize=7)
        axis.set(xscale="log", xlabel="random features m / sample size n")
        plain_log_axis(axis.xaxis, [0.02, 0.1, 1, 5, 20])
        axis.xaxis.set_major_formatter("{x:g}")
    left.set(yscale="log", ylabel="noise scale / truth, 95 % band")
    plain_log_axis(left.yaxis, [0.1, 0.2, 0.5, 1, 2, 4])
    left.yaxis.set_major_formatter("{x:g}")
    right.set_ylabel("held-out log-loss, nats, 95 % band")
    left.set_title(f"Noise scale,  n = {n}")
    right.set_title(f"Held-out loss,  n = {n}")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
