"""Zip plots of intervals by token above those by document, at the largest number of documents."""

from __future__ import annotations

from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.style import WIDTH
from paper_figures.zip_plot import zip_plot

__all__ = ["STUDY", "draw"]

STUDY = "phi_coverage"

DESIGNS = {"one_scale": "one scale", "styles": "styles", "plug_in": "plug-in"}


def draw(results: Results) -> Figure:
    """One column a design; intervals that take tokens for independent in the first row, by document in the second."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots(2, len(DESIGNS), sharex="col", sharey=True)
    for column, (design, label) in zip(axes.T, DESIGNS.items(), strict=True):
        rows = results.rows(design=design)
        rows = rows[rows["n"] == rows["n"].max()]
        for axis, kind in zip(column, ("token", "document"), strict=True):
            zip_plot(axis, rows[rows["parameter"] == f"log_scale:{kind}"])
            axis.set_title(f"by {kind}")
        column[0].set_title(f"{label}\nn = {rows['n'].iloc[0]:,}\n\nby token")
        column[1].set_xlabel("estimate \N{MINUS SIGN} truth")
    for row in axes:
        row[0].set_ylabel("centile of |z|")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
