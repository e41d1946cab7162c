"""Verdicts of the study ``ood``: learned perturbations against plain training and against noise of a tuned scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from eeqs.llm.evaluation import compare_over_seeds
from eeqs.llm.evaluation.ratio_measures import accuracy, bits_per_byte
from simulations.designs.ood_methods import LEARNED
from simulations.designs.ood_rows import EXACT, scores_of
from simulations.designs.ood_training import BUDGETS
from simulations.study import VERDICT_COLUMNS
from simulations.verdicts import COULD_NOT_TELL, within

__all__ = ["RIVALS", "differences", "judge"]

RIVALS = ("plain", "fixed_gaussian")
"""What learned perturbations are compared with: no noise, and noise whose scale was tuned."""
TOLERATED = 0.02
"""Loss in bits a byte that counts as none inside the domain of the training text."""


def differences(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Differences to a method in every regime and domain, under every budget.

    Returns
    -------
    DataFrame
        `eeqs.llm.evaluation.compare_over_seeds` with ``regime`` and ``budget``; bits a byte, or for exact matches the
        share of them.
    """
    parts = []
    for regime, rows in table.groupby("regime", sort=False):
        for budget in BUDGETS:
            scores = scores_of(rows, budget)
            for measure in (bits_per_byte, accuracy):
                chosen = {
                    method: {d: s for d, s in found.items() if d.endswith(EXACT) == (measure is accuracy)}
                    for method, found in scores.items()
                }
                if chosen[reference]:
                    found = compare_over_seeds(chosen, reference, measure)
                    parts.append(found.assign(regime=regime, budget=budget))
    return pd.concat(parts, ignore_index=True)


def judge(table: pd.DataFrame, domains: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Judge that learned perturbations gain outside the domain and lose nothing inside.

    Parameters
    ----------
    table : DataFrame
        Rows of single documents are what it reads.
    domains : mapping of str to sequence of str
        Test sets of every regime, the first from inside.
    """
    rows = []
    for rival in RIVALS:
        found = differences(table, rival)
        for _, row in found[found["method"].isin(LEARNED)].iterrows():
            inside = row["domain"].split(",")[0] == domains[row["regime"]][0]
            rows.append(_verdict(row, rival, inside))
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))


def _verdict(row: pd.Series, rival: str, inside: bool) -> tuple[object, ...]:
    more_is_better = row["measure"] == accuracy.name
    bound = 0.0 if not inside else (-TOLERATED if more_is_better else TOLERATED)
    low, high = float(row["simultaneous_low"]), float(row["simultaneous_high"])
    if row["estimate"] == row["se"] == 0:  # both get no answer right, or every one: nothing was compared
        verdict = COULD_NOT_TELL
    else:
        verdict = within(low, high, at_least=bound) if more_is_better else within(low, high, at_most=bound)
    kind = "exact matches" if more_is_better else "bits a byte"
    where = "inside" if inside else "outside"
    quantity = (
        f"{kind}, {row['domain']} ({where}), {row['method']} - {rival}, equal {row['budget']}, "
        f"{'at least' if more_is_better else 'at most'}"
    )
    return ("LM", row["regime"], quantity, bound, float(row["estimate"]), low, high, float(row["se"]), verdict)
