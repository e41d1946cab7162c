"""Error against the width: a peak near interpolation without regularisation, none with it."""

from __future__ import annotations

from matplotlib.figure import Figure

from paper_figures.bands import geometric_band
from paper_figures.results import Results
from paper_figures.style import WIDTH, plain_log_axis
from simulations.studies.width import STUDY as WIDTH_STUDY

__all__ = ["STUDY", "draw"]

STUDY = "width"

_PANELS = {
    "network": ("both layers trained", {"regularised": "early stopping", "unregularised": "all updates"}),
    "random_features": ("last layer on random features", {"regularised": "ridge", "unregularised": "minimum norm"}),
}
_LOOK = {"regularised": ("#0072B2", "o", "-"), "unregularised": ("#D55E00", "s", "--")}
# Above it the frame would be one peak.
_TOP = 30.0


def draw(run: Results) -> Figure:
    """One panel a learner."""
    n = WIDTH_STUDY.sizes[run.preset].sweep_size
    dim = WIDTH_STUDY.design.dim
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots(1, len(_PANELS), sharey=True)
    for axis, (learner, (title, names)) in zip(axes, _PANELS.items(), strict=True):
        for parameter, label in names.items():
            colour, marker, line = _LOOK[parameter]
            rows = run.rows(learner=learner, n=n, parameter=parameter)
            curve = geometric_band(axis, rows, "ratio", color=colour, marker=marker, linestyle=line, label=label)
            high = curve[curve["estimate"] > _TOP]
            for ratio, value in zip(high.index.astype(float), high["estimate"], strict=True):
                text = f"\N{UPWARDS ARROW} {value:,.0f}"
                axis.text(1.15 * ratio, _TOP, text, color=colour, va="top", fontsize=7)
        axis.set(xscale="log", yscale="log", xlabel="width m / training size n")
        axis.set_title(f"{title},  n = {n:,}")
        plain_log_axis(axis.xaxis, [0.1, 1, 10, 50])
        axis.xaxis.set_major_formatter("{x:g}")
        interpolation = 1 / (dim + 2) if learner == "network" else 1.0
        axis.axvline(interpolation, color="black", linewidth=0.7, linestyle=":", label="as many weights as data")
        axis.legend(loc="upper right")
    axes[0].set_ylabel("squared error to the teacher,\ngeometric mean, 95 % band")
    axes[0].set_ylim(top=_TOP)
    plain_log_axis(axes[0].yaxis, [0.1, 1, 10])
    axes[0].yaxis.set_major_formatter("{x:g}")
    return figure
