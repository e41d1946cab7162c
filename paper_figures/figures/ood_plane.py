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
_FAR = 5.0
"""A method that is so many times as far from the median inside as the others is not drawn but said."""


def draw(run: Results) -> Figure:
    """One panel a regime, under equal updates."""
    regimes = present(run, scan=False)
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
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
    means = points.groupby("method").mean()
    distance = (means["inside"] - means["inside"].median()).abs()
    far = distance > _FAR * max(distance.sort_values().iloc[:-1].max(), 1e-9)
    for method in methods(rows):
        if far[method]:
            continue
        colour, marker, _ = KINDS[kind(method)]
        seeds = points.loc[method]
        axis.plot(seeds["inside"], seeds["outside"], marker, color=colour, alpha=0.35, markersize=2)
        axis.plot(*means.loc[method], marker, color=colour, markersize=5)
    _name(axis, means[~far].sort_values("outside"))
    for method, (across, outside) in means[far].iterrows():
        text = f"{LABELS[str(method)]} is at ({across:.2f}, {outside:.2f})"
        axis.text(0.02, 0.02, text, transform=axis.transAxes, fontsize=6.5)


def _name(axis: Axes, means: pd.DataFrame) -> None:
    """Write names beside the panel, in the order of their points and apart from each other."""
    heights = [(rank + 0.5) / len(means) for rank in range(len(means))]
    for (method, at), height in zip(means.iterrows(), heights, strict=True):
        axis.annotate(
            LABELS[str(method)],
            (float(at["inside"]), float(at["outside"])),
            xytext=(1.03, height),
            textcoords="axes fraction",
            fontsize=6.5,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.4, "shrinkB": 3},
        )
