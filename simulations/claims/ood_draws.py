"""Verdicts of the study ``ood_draws``: the log-score of an average over draws does not get worse with more of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from eeqs.llm.evaluation import DocumentScores, compare_over_seeds
from simulations.claims.rows import Row, frame
from simulations.designs.ood_rows import scores_of
from simulations.verdicts import within

__all__ = ["judge"]


def judge(table: pd.DataFrame, draws: Sequence[int]) -> pd.DataFrame:
    r"""Compare every number of draws with the next smaller one, by method and test set.

    By Jensen's inequality :math:`E \log \hat q_M` rises with M (Burda et al. 2016), so bits a byte fall.

    Parameters
    ----------
    table : DataFrame
        Rows of single documents are what it reads.
    draws : sequence of int
        Ascending.
    """
    rows = []
    for (regime, method), found in table.groupby(["regime", "method"], sort=False):
        for few, many in pairwise(draws):
            runs: dict[str, dict[str, list[DocumentScores]]] = {
                str(number): scores_of(found, str(number))[str(method)] for number in (few, many)
            }
            for _, row in compare_over_seeds(runs, str(few)).iterrows():
                low, high = float(row["simultaneous_low"]), float(row["simultaneous_high"])
                quantity = f"bits a byte, {row['domain']}, {method}: {many} draws - {few}, at most"
                numbers = (0.0, float(row["estimate"]), low, high, float(row["se"]))
                rows.append(Row("LM", str(regime), quantity, *numbers, within(low, high, at_most=0.0)))
    return frame(rows)
