"""Bits a byte against the number of draws at inference, by method and test set."""

from __future__ import annotations

from matplotlib.figure import Figure

from eeqs.llm.evaluation import evaluate_over_seeds
from eeqs.llm.evaluation.ratio_measures import bits_per_byte
from paper_figures.ood_results import LABELS, methods
from paper_figures.results import Results
from paper_figures.style import WIDTH
from simulations.designs.ood_rows import scores_of, single_documents
from simulations.designs.ood_text import DOMAINS

__all__ = ["STUDY", "draw"]

STUDY = "ood_draws"
_LOOKS = {
    "fixed_gaussian": ("#D55E00", "s"),
    "semantic_neighbour": ("#999999", "D"),
    "split_isotropic": ("#0072B2", "o"),
    "split_hull": ("#009E73", "^"),
}


def draw(run: Results) -> Figure:
    """One panel a test set, one line a method; bars are standard errors for new documents and seeds."""
    single = run.table[single_documents(run.table)]
    numbers = sorted(single["parameter"].str.split("|").str[0].astype(int).unique().tolist())
    found = {number: scores_of(single, str(number)) for number in numbers}
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True).ravel()
    for axis, domain in zip(axes, DOMAINS, strict=True):
        for name in methods(run.table):
            colour, marker = _LOOKS[name]
            runs = {str(m): found[m][name][domain.name] for m in numbers}
            points = evaluate_over_seeds(runs, (bits_per_byte,)).set_index("domain").loc[[str(m) for m in numbers]]
            axis.errorbar(
                numbers,
                points["estimate"],
                points["se"],
                color=colour,
                marker=marker,
                markersize=3,
                elinewidth=0.5,
                label=LABELS[name],
            )
        axis.set(title=domain.name, xscale="log")
        axis.set_xticks(numbers, [str(number) for number in numbers])
        axis.minorticks_off()
    for axis in axes[::3]:
        axis.set_ylabel("bits a byte")
    figure.supxlabel("draws at inference", fontsize=8)
    figure.legend(handles=axes[0].get_legend_handles_labels()[0], loc="outside upper center", ncol=4)
    return figure
