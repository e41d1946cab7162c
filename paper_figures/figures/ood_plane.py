"""In-domain against out-of-domain bits a byte, one point a method, and where each training seed lies."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures.ood_results import KINDS, LABELS, REGIMES, kind, methods, present
from paper_figures.results import Results
from paper_figures.style import WIDTH
from simulations.designs.ood_text import IN_DOMAIN

__all__ = ["STUDY", "draw"]

STUDY = "ood"
_NAMED = ("plain", "fixed_gaussian", "in_sample_cross_fitted", "split_isotropic")


def draw(run: Results) -> Figure:
    """One panel a regime, under equal updates."""
    regimes = present(run, scan=False)
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    axes = figure.subplots(1, len(regimes), squeeze=False)[0]
    for axis, regime in zip(axes, regimes, strict=True):
        _panel(axis, run.rows(regime=regime))
        axis.set(title=REGIMES.get(regime, regime), xlabel="bits a byte in the domain of training")
    axes[0].set_ylabel("bits a byte outside, mean over test sets")
    looks = [Line2D([], [], color=c, marker=m, linestyle="", label=label) for c, m, label in KINDS.values()]
    figure.legend(handles=looks, loc="outside lower center", ncol=3)
    return figure


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    parts = rows["parameter"].str.split("|", expand=True)
    chosen = rows[(parts[0] == "updates") & (parts[2] == "bits_per_byte")].assign(domain=parts[1])
    inside = IN_DOMAIN.name
    wide = chosen.pivot_table("estimate", ["method", "replicate"], "domain")
    points = pd.DataFrame({"inside": wide[inside], "outside": wide.drop(columns=inside).mean(axis=1)})
    for method in methods(rows):
        colour, marker, _ = KINDS[kind(method)]
        seeds = points.loc[method]
        across, outside = seeds["inside"].to_numpy(), seeds["outside"].to_numpy()
        axis.plot(across, outside, marker=marker, color=colour, linestyle="", alpha=0.35, markersize=2)
        at = (float(across.mean()), float(outside.mean()))
        axis.plot(*at, marker=marker, color=colour, markersize=5)
        if method in _NAMED:
            axis.annotate(LABELS[method], at, xytext=(4, 3), textcoords="offset points", fontsize=6.5)
