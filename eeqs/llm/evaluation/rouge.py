"""ROUGE-1: unigrams that a candidate text shares with a reference."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from eeqs.engine.covariance import Cluster
from eeqs.engine.errors import DataError
from eeqs.engine.inference import estimate
from eeqs.engine.moments import mean
from eeqs.llm.evaluation.measures import COLUMNS

__all__ = ["rouge_1", "rouge_1_mean", "unigrams"]

_WORD = re.compile("[a-z0-9]+")
_SCORES = ("precision", "recall", "f1")


def unigrams(text: str) -> Counter[str]:
    """Count the words of a text: runs of a-z and 0-9 after lowering case, without stemming; others separate words."""
    return Counter(_WORD.findall(text.lower()))


def rouge_1(candidates: Sequence[str], references: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    r"""ROUGE-1 of every text.

    With :math:`m = \sum_w \min(c_w, r_w)`, the words that candidate and reference have in common, each counted as often
    as it is in both,

    .. math:: P = m / \textstyle\sum_w c_w, \qquad R = m / \sum_w r_w, \qquad F_1 = 2 P R / (P + R),

    each 0 where it would be 0 / 0.

    Parameters
    ----------
    candidates, references : sequence of str
        Generated texts, and one reference for each.
    names : sequence of str
        Document of each; several texts of one document are one cluster.

    Returns
    -------
    DataFrame
        Columns ``document``, ``precision``, ``recall``, ``f1``, one row a text.

    Raises
    ------
    DataError
        Lengths differ, or there is no text.

    References
    ----------
    Lin (2004) ROUGE: a package for automatic evaluation of summaries, in Text Summarization Branches Out.
    """
    if not len(candidates) == len(references) == len(names) or not names:
        raise DataError(
            f"there are {len(candidates)} candidates, {len(references)} references and {len(names)} names; pass one of "
            "each for every text."
        )
    rows = [
        (name, *_scores(unigrams(candidate), unigrams(reference)))
        for name, candidate, reference in zip(names, candidates, references, strict=True)
    ]
    return pd.DataFrame(rows, columns=["document", *_SCORES])


def rouge_1_mean(table: pd.DataFrame, *, alpha: float = 0.05) -> pd.DataFrame:
    """Means over texts, with documents as clusters (CR2, t with documents minus one degrees of freedom).

    Parameters
    ----------
    table : DataFrame
        From `rouge_1`.
    alpha : float

    Returns
    -------
    DataFrame
        Columns ``measure``, ``estimate``, ``se``, ``low``, ``high``, ``n_documents``.

    Raises
    ------
    DataError
        There are fewer than two documents.
    """
    fit = estimate(mean(*_SCORES), table, cov=Cluster("document", "CR2"))
    fit = fit.with_df(fit.df_clusters)
    rows = zip(_SCORES, fit.params, fit.bse, *fit.conf_int(alpha).to_numpy().T, strict=True)
    count = table["document"].nunique()
    return pd.DataFrame([(f"rouge_1_{name}", *numbers, count) for name, *numbers in rows], columns=COLUMNS)


def _scores(candidate: Counter[str], reference: Counter[str]) -> tuple[float, float, float]:
    common = (candidate & reference).total()
    precision, recall = common / max(candidate.total(), 1), common / max(reference.total(), 1)
    return precision, recall, 2 * precision * recall / (precision + recall) if common else 0.0
