"""Claim T11 judged on the table of the study ``extrapolation``.

Comparisons are paired: methods of a regime saw the same samples, initial networks, batches and latents, and a row
judges the geometric mean over replicates of the ratio of their errors. Each kind of comparison is a family of intervals
that hold together at 95 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from simulations.claims.paired import log_estimates, ratio_row
from simulations.claims.rows import Bounds, Row, frame, mean_row, share_row
from simulations.designs.distances import CLAIMED, INSIDE, OUTSIDE
from simulations.designs.pre_additive import PreAdditive
from simulations.schema import CONVERGED

__all__ = ["judge"]

TOKENS = "tokens"
# A ratio of errors that counts as less, short of one so that equal methods fail, and one that counts as no loss.
LESS, NO_LOSS = 0.99, 1.1
MOST_FAILURES = 0.2


class Comparison(NamedTuple):
    """Two methods by one measure of error: the first is claimed to have no more than ``most`` times the other's."""

    measure: str
    one: str
    other: str
    where: str = OUTSIDE
    most: float = LESS


ERRORS = {
    "mean": "error of the mean",
    "median": "error of the median",
    "energy": "excess energy score",
    "divergence": "excess log score",
}
# Without noise, least squares is the plain regression for the mean, and least absolute deviations for the median.
SCALAR = (
    *(Comparison("mean", "learned", other) for other in ("fixed", "additive", "least_squares")),
    *(Comparison("median", "learned", other) for other in ("fixed", "additive", "least_absolute")),
    *(Comparison("energy", "learned", other) for other in ("fixed", "additive", "least_absolute")),
)
# The fixed level that is chosen from a grid by a validation sample from inside the support.
CHOSEN = (Comparison("mean", "learned", "tuned"), Comparison("median", "learned", "tuned"))
INSIDE_SCALAR = (
    Comparison("mean", "learned", "least_squares", INSIDE, NO_LOSS),
    Comparison("median", "learned", "least_absolute", INSIDE, NO_LOSS),
)
TOKEN = (
    Comparison("divergence", "learned", "fixed"),
    Comparison("divergence", "fixed", "none"),
    Comparison("divergence", "learned", "none"),
    Comparison("divergence", "learned", "none", INSIDE, NO_LOSS),
)


def judge(table: pd.DataFrame, truths: Mapping[str, PreAdditive], *, n: int) -> pd.DataFrame:
    """Return one row a claim and regime, with columns `simulations.study.VERDICT_COLUMNS`.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    truths : mapping of str to PreAdditive
        Scalar truths by regime.
    n : int
        Training observations, which bound how far the noise reaches.
    """
    present = list(dict.fromkeys(table["regime"]))
    scalar = [name for name in present if name in truths]
    rows: list[Row] = []
    for family in (SCALAR[:3], SCALAR[3:6], SCALAR[6:], CHOSEN, INSIDE_SCALAR):
        rows += [_compare(table, name, pair, len(family) * len(scalar)) for name in scalar for pair in family]
    curved = [name for name in scalar if truths[name].curved]
    for name in curved:
        rows += _reach(table[table["regime"] == name], truths[name], n, len(curved))
    if TOKENS in present:
        rows += [_compare(table, TOKENS, pair, len(TOKEN)) for pair in TOKEN]
    return frame([*rows, _failures(table)])


def _compare(table: pd.DataFrame, regime: str, pair: Comparison, family: int) -> Row:
    part = table[(table["regime"] == regime) & (table["parameter"] == f"{pair.measure} {pair.where}")]
    logs = log_estimates(part, "estimator").reindex(columns=[pair.one, pair.other])
    place = f"up to {CLAIMED:g} sd outside" if pair.where == OUTSIDE else "inside"
    quantity = f"{ERRORS[pair.measure]} {place}, {pair.one} / {pair.other}, at most"
    return ratio_row(
        "T11", regime, quantity, logs[pair.one] - logs[pair.other], Bounds(at_most=pair.most), family=family
    )


def _reach(rows: pd.DataFrame, truth: PreAdditive, n: int, family: int) -> Iterator[Row]:
    """Judge how far the median is followed: further than by a plain regression, and not past the last observations."""
    good = rows[(rows["parameter"] == "reach") & (rows["status"] == CONVERGED)]
    found = good.pivot_table("estimate", "replicate", "estimator").dropna()
    gain = found["learned"] - found["least_absolute"]
    quantity = "reach of the median in sd, learned - least_absolute, above"
    yield mean_row("T11", truth.name, quantity, gain, Bounds(at_least=0.0), family=family)
    end = truth.end(n)
    quantity = f"reach of the median in sd, learned; it ends before {end:g}"
    yield mean_row("T11", truth.name, quantity, found["learned"], Bounds(at_most=end), family=family)


def _failures(table: pd.DataFrame) -> Row:
    fits = table.drop_duplicates(["regime", "estimator", "replicate"])
    failed = fits["status"] != CONVERGED
    return share_row("T11", "all", "share of fits that diverged, below", failed, Bounds(at_most=MOST_FAILURES))
