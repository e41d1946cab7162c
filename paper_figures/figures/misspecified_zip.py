"""Zip plots of model-based intervals above those of the covariance that is right, at the largest sample size."""

from __future__ import annotations

from matplotlib.figure import Figure

from paper_figures.misspecified_labels import DESIGNS, LABELS
from paper_figures.results import Results
from paper_figures.style import WIDTH
from paper_figures.zip_plot import zip_plot
from simulations.studies.misspecified import STUDY as DEFINITION

__all__ = ["STUDY", "draw"]

STUDY = "misspecified"

SHOWN = ("least_squares", "cross_fitted", "clustered", "crossed")


def draw(results: Results) -> Figure:
    """One column a design; model-based intervals in the first row, the right ones in the second."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots(2, len(SHOWN), sharex="col", sharey=True)
    for column, design in zip(axes.T, SHOWN, strict=True):
        rows = results.rows(design=design)
        rows = rows[rows["n"] == rows["n"].max()]
        covariances = DEFINITION.covariances[design]
        for axis, kind in zip(column, (covariances[0], covariances[-1]), strict=True):
            zip_plot(axis, rows[rows["parameter"] == kind])
            axis.set_title(LABELS[kind])
        column[0].set_title(f"{DESIGNS[design]}\nn = {rows['n'].iloc[0]:,}\n\n{LABELS[covariances[0]]}")
        column[1].set_xlabel("estimate \N{MINUS SIGN} pseudo-true")
    for row in axes:
        row[0].set_ylabel("centile of |z|")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
