"""Bits a byte on in-domain validation text of every candidate setting of the methods of ``ood``."""

from __future__ import annotations

from matplotlib.figure import Figure

from paper_figures.ood_results import LABELS, methods
from paper_figures.results import Results
from paper_figures.style import WIDTH
from simulations.designs.ood_methods import METHODS

__all__ = ["STUDY", "draw"]

STUDY = "ood_tuning"


def draw(run: Results) -> Figure:
    """One panel a method; the setting that ``ood`` uses is filled."""
    names = methods(run.table)
    columns = 4
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH, 1.7 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        found = run.rows(method=name).sort_values("candidate")
        axis.plot(found["candidate"], found["estimate"], color="#0072B2", marker="o", markerfacecolor="white")
        chosen = found[found["candidate"] == METHODS[name].chosen]
        axis.plot(chosen["candidate"], chosen["estimate"], color="#0072B2", marker="o", linestyle="")
        axis.set(title=LABELS[name], xlabel=METHODS[name].setting, xscale="log")
        axis.set_xticks(found["candidate"], [f"{value:g}" for value in found["candidate"]], minor=False)
        axis.minorticks_off()
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for axis in axes[::columns]:
        axis.set_ylabel("validation bits a byte")
    return figure
