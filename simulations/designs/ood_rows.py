"""Scores of documents as rows of a study's table, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from eeqs.llm.evaluation import DocumentScores, evaluate
from eeqs.llm.evaluation.ratio_measures import accuracy

__all__ = ["EXACT", "of_scores", "scores_of", "single_documents"]

_SUMS = {"nats": "log_probability", "tokens": "n_tokens", "bytes": "n_bytes", "correct": "n_correct"}
EXACT = "exact match"
"""End of the name of a test set whose tokens are whole answers."""
_DOCUMENT = r"\|\d{4}\|"


def of_scores(budget: str, scores: Mapping[str, DocumentScores]) -> list[tuple[str, float, float]]:
    """Rows (parameter, estimate, se) of the test sets of a model: measures, then sums of every document.

    Parameters are ``budget|domain|measure`` and ``budget|domain|document|sum``.
    """
    rows = []
    for domain, found in scores.items():
        measures = evaluate(found)
        if domain.endswith(EXACT):  # its tokens are answers
            measures = measures[measures["measure"] == accuracy.name]
        ends = zip(measures["measure"], measures["estimate"], measures["se"], strict=True)
        rows += [(f"{budget}|{domain}|{name}", float(value), float(se)) for name, value, se in ends]
        for name, field in _SUMS.items():
            for index, value in enumerate(getattr(found, field)):
                rows.append((f"{budget}|{domain}|{index:04d}|{name}", float(value), np.nan))
    return rows


def single_documents(table: pd.DataFrame) -> pd.Series:
    """Whether a row is of a single document."""
    return table["parameter"].str.contains(_DOCUMENT)


def scores_of(table: pd.DataFrame, budget: str) -> dict[str, dict[str, list[DocumentScores]]]:
    """Scores by method, domain and replicate, from the rows of one regime of a table."""
    rows = table[single_documents(table) & table["parameter"].str.startswith(f"{budget}|")]
    parts = rows["parameter"].str.split("|", expand=True)
    rows = rows.assign(domain=parts[1], document=parts[2], sum=parts[3])
    found: dict[str, dict[str, list[DocumentScores]]] = {}
    for (method, domain, _), one in rows.groupby(["method", "domain", "replicate"], sort=False):
        sums = one.pivot_table("estimate", "document", "sum").sort_index()
        found.setdefault(str(method), {}).setdefault(str(domain), []).append(_scores(sums))
    return found


def _scores(sums: pd.DataFrame) -> DocumentScores:
    arrays = {field: sums[name].to_numpy(dtype=float) for name, field in _SUMS.items()}
    empty = np.zeros((len(sums), 0))
    return DocumentScores(tuple(sums.index), **arrays, bin_tokens=empty, bin_correct=empty, bin_confidence=empty)
