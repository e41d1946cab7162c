"""Exact matches on SCAN: commands like those of training, and commands that are longer or have a new verb."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.ood_results import KINDS, LABELS, REGIMES, exact, kind, methods, present
from paper_figures.results import Results
from paper_figures.style import WIDTH

__all__ = ["STUDY", "draw"]

STUDY = "ood"


def draw(run: Results) -> Figure:
    """One row a split; left the held-out commands, right the test."""
    regimes = present(run, scan=True)
    figure = Figure(figsize=(WIDTH, 0.3 + 1.2 * len(regimes)), layout="constrained")
    if not regimes:
        figure.set_size_inches(WIDTH, 0.5)
        figure.text(0.5, 0.5, "this run has no regime of SCAN: no share of answers that are exactly right", ha="center")
        return figure
    axes = figure.subplots(len(regimes), 2, sharex=True, sharey="row", squeeze=False)
    for row, regime in zip(axes, regimes, strict=True):
        _row(row, run, regime)
    for axis in axes[-1]:
        axis.set_xlabel("share of answers that are exactly right")
    return figure


def _row(axes: list[Axes], run: Results, regime: str) -> None:
    rows = exact(run, regime, "compute")
    names = methods(rows)
    inside = rows["domain"].str.startswith("held-out")
    domains = [*rows[inside]["domain"].unique(), *rows[~inside]["domain"].unique()]
    for axis, domain in zip(axes, domains, strict=True):
        for place, method in enumerate(names):
            colour, marker, _ = KINDS[kind(method)]
            found = rows[(rows["method"] == method) & (rows["domain"] == domain)]["estimate"]
            axis.plot(found, [place] * len(found), marker=marker, color=colour, linestyle="", alpha=0.4)
            axis.plot(found.mean(), place, marker="|", color=colour, markersize=12)
        axis.set(title=f"{REGIMES.get(regime, regime)}: {domain}", xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.5))
        axis.set_yticks(range(len(names)), [LABELS[name] for name in names])
