"""Coverage of pseudo-true values against sample size, by covariance."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.misspecified_labels import COLOURS, DESIGNS, LABELS, MARKERS
from paper_figures.results import Results
from paper_figures.style import WIDTH, plain_log_axis

__all__ = ["STUDY", "draw"]

STUDY = "misspecified"

# Covariances of one size are set apart so that their error bars do not hide each other.
_SHIFTS = {"model_based": 0.95, "sandwich": 1.0, "cluster": 1.05, "two_way": 1.1}


def draw(results: Results) -> Figure:
    """One panel a design."""
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.subplots(2, 4, sharey=True).ravel()
    for axis, (design, title) in zip(axes, DESIGNS.items(), strict=False):
        _panel(axis, results, design)
        axis.set_title(title)
    axes[-1].set_axis_off()
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[-1].legend(handles.values(), handles.keys(), loc="center", title="standard errors")
    for axis in axes[[0, 4]]:
        axis.set_ylabel("coverage (%)")
    for axis in axes[3:7]:
        axis.set_xlabel("sample size n")
    return figure


def _panel(axis: Axes, results: Results, design: str) -> None:
    axis.axhspan(92.5, 97.5, color="0.9", linewidth=0)
    axis.axhline(95, color="0.4", linewidth=0.8)
    for kind, label in LABELS.items():
        line = results.measure("coverage", design=design, parameter=kind).sort_values("n")
        if line.empty:
            continue
        share, half = 100 * line["value"], 196 * line["mcse"]
        axis.errorbar(
            line["n"] * _SHIFTS[kind],
            share,
            yerr=[half.clip(upper=share), half.clip(upper=100 - share)],
            color=COLOURS[kind],
            marker=MARKERS[kind],
            label=label,
            capsize=1.5,
            elinewidth=0.7,
        )
    axis.set(xscale="log", ylim=(35, 100), yticks=[40, 60, 80, 95])
    plain_log_axis(axis.xaxis, sorted(results.rows(design=design)["n"].unique()))
    axis.tick_params(axis="x", rotation=45)
