"""Bits a byte of every method less those of plain training, by test set and regime."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures.ood_results import KINDS, LABELS, REGIMES, kind, methods, present, text_differences
from paper_figures.results import Results
from paper_figures.style import WIDTH
from simulations.designs.ood_text import DOMAINS

__all__ = ["STUDY", "draw"]

STUDY = "ood"
_FILL = {"updates": True, "compute": False}


def draw(run: Results) -> Figure:
    """One row of panels a regime, one column a test set."""
    regimes = present(run, scan=False)
    found = text_differences(run)
    domains = [domain.name for domain in DOMAINS if domain.name in set(found["domain"])]
    names = {regime: [m for m in methods(run.rows(regime=regime)) if m != "plain"] for regime in regimes}
    heights = [0.5 + 0.17 * len(names[regime]) for regime in regimes]
    figure = Figure(figsize=(WIDTH, 0.7 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(regimes), len(domains), sharex="col", sharey="row", squeeze=False, height_ratios=heights)
    for row, regime in zip(axes, regimes, strict=True):
        for axis, domain in zip(row, domains, strict=True):
            at = found["domain"] == domain
            _panel(axis, found[at & (found["regime"] == regime)], names[regime], _spread(found[at]["estimate"]))
        row[0].set_ylabel(REGIMES.get(regime, regime))
        row[0].set_yticks(range(len(names[regime])), [LABELS[name] for name in names[regime]])
        row[0].invert_yaxis()
    for axis, domain in zip(axes[0], domains, strict=True):
        axis.set_title(domain.replace(" ", "\n", 1))
    figure.supxlabel("bits a byte less those of plain training", fontsize=8)
    kinds = {kind(name) for regime in regimes for name in names[regime]}
    figure.legend(handles=_handles(kinds), loc="outside upper center", ncol=3)
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, names: list[str], spread: float) -> None:
    axis.set_xlim(-spread, spread)
    tick = float(f"{0.6 * spread:.0e}")  # one digit, for narrow panels
    axis.set_xticks([-tick, 0, tick], [f"{-tick:g}", "0", f"{tick:g}"])
    axis.axvline(0, color="black", linewidth=0.6)
    for _, row in rows.iterrows():
        filled = _FILL[row["budget"]]
        colour, marker, _ = KINDS[kind(row["method"])]
        place = names.index(row["method"]) + (-0.16 if filled else 0.16)
        axis.plot([row["simultaneous_low"], row["simultaneous_high"]], [place, place], color=colour, linewidth=0.8)
        face = colour if filled else "white"
        if abs(row["estimate"]) > spread:  # an arrow at the edge
            marker = ">" if row["estimate"] > 0 else "<"
        at = min(max(row["estimate"], -0.97 * spread), 0.97 * spread)
        axis.plot(at, place, marker=marker, color=colour, markerfacecolor=face, markersize=2.8)


def _spread(estimates: pd.Series) -> float:
    """Limit of a column, which methods that went astray do not set for the others."""
    return float(estimates.abs().quantile(0.9)) * 1.6


def _handles(kinds: set[str]) -> list[Line2D]:
    shown = [look for name, look in KINDS.items() if name in kinds]
    looks = [Line2D([], [], color=c, marker=m, linestyle="", label=label) for c, m, label in shown]
    budgets = {"equal updates": "black", "equal compute": "white"}
    return looks + [
        Line2D([], [], color="black", marker="o", markerfacecolor=face, linestyle="", label=label)
        for label, face in budgets.items()
    ]
