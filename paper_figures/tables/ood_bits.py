"""Bits a byte of every method on every test set, with standard errors for new documents and new training seeds."""

from __future__ import annotations

import pandas as pd

from eeqs.llm.evaluation import evaluate_over_seeds
from eeqs.llm.evaluation.ratio_measures import bits_per_byte
from paper_figures.ood_results import LABELS, REGIMES, methods, present
from paper_figures.results import Results
from simulations.designs.ood_rows import scores_of
from simulations.designs.ood_text import DOMAINS
from simulations.designs.ood_training import BUDGETS

__all__ = ["STUDY", "make"]

STUDY = "ood"
_COURSE = ("noise", "update", "passes")


def make(run: Results) -> pd.DataFrame:
    """One row a regime, budget and method; one column a test set, as "estimate (standard error)"."""
    rows = []
    for regime in present(run, scan=False):
        table = run.rows(regime=regime)
        course = table.pivot_table("estimate", "method", "parameter")
        for budget in BUDGETS:
            scores = scores_of(table, budget)
            for method in methods(table):
                found = evaluate_over_seeds(scores[method], (bits_per_byte,))
                found = found.set_index("domain", drop=False).loc[[domain.name for domain in DOMAINS]]
                cells = {row["domain"]: f"{row['estimate']:.3f} ({row['se']:.3f})" for _, row in found.iterrows()}
                head = {"regime": REGIMES.get(regime, regime), "equal": budget, "method": LABELS[method]}
                last = course.loc[method, [f"{budget}|{name}" for name in _COURSE]].to_numpy(dtype=float).round(2)
                rows.append(head | cells | dict(zip(_COURSE, last.tolist(), strict=True)))
    return pd.DataFrame(rows)
