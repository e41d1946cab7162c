"""One path of stochastic approximation: last iterates, their average, and its random-scaling band."""

from __future__ import annotations

from matplotlib.figure import Figure
from scipy.stats import norm

from paper_figures.results import Results
from paper_figures.stochastic_results import COLOURS, LABELS, SYMBOLS
from paper_figures.style import WIDTH, plain_log_axis

__all__ = ["STUDY", "draw"]

STUDY = "stochastic"


def draw(results: Results) -> Figure:
    """One panel a coordinate of the regime that has paths; replicate 0."""
    path = results.rows(role="path", replicate=0)
    path = path.assign(output=path["parameter"].str.partition(".")[0], name=path["parameter"].str.partition(".")[2])
    names = list(dict.fromkeys(path["name"]))
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        rows = path[path["name"] == name].sort_values("steps")
        mean, last = (rows[rows["output"] == output] for output in ("random_scaling", "last"))
        half = norm.ppf(0.975) * mean["se"]
        truth = rows["truth"].iloc[0]
        axis.fill_between(
            mean["steps"],
            mean["estimate"] - truth - half,
            mean["estimate"] - truth + half,
            color=COLOURS["averaged"],
            alpha=0.2,
            linewidth=0,
            label="95 % random-scaling band",
        )
        axis.axhline(0, color="black", linewidth=0.8, linestyle="--", label="truth")
        axis.plot(last["steps"], last["estimate"] - truth, color=COLOURS["last"], linewidth=0.8, label=LABELS["last"])
        axis.plot(mean["steps"], mean["estimate"] - truth, color=COLOURS["averaged"], label=LABELS["averaged"])
        axis.set(xscale="log", xlabel="steps T", title=SYMBOLS[name])
        plain_log_axis(axis.xaxis, _ticks(int(rows["steps"].min()), int(rows["steps"].max())))
    axes[0].set_ylabel("iterate minus truth")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _ticks(low: int, high: int) -> list[float]:
    """Powers of four in a range."""
    return [4.0**k for k in range(12) if low <= 4.0**k <= high]
