"""Claim T10 judged on the table of the study ``misspecified``.

At the largest n of a design the covariance whose assumptions hold covers the pseudo-true value and gives the spread of
the estimates; every other covariance is too small and does not cover. With few clusters the clustered one is somewhat
below its level, because its normal quantile ignores that it is estimated from few sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
import pandas as pd
from scipy.stats import norm

from simulations.claims.rows import (
    ERROR,
    Bounds,
    Row,
    coverage_row,
    frame,
    level_row,
    mean_row,
    point_row,
    share_row,
)
from simulations.measures import model_se_relative_error
from simulations.rates import Interval
from simulations.schema import CONVERGED

__all__ = ["judge"]

Line: TypeAlias = tuple[str, str, pd.DataFrame]
"""Design, covariance and their rows at the largest n."""

# Coverage of a wrong covariance, and its standard error over the spread of the estimates: at most.
UNDER_COVERS, TOO_SMALL = Bounds(at_most=0.9), Bounds(at_most=0.9)
FEW_COVER = Bounds(at_least=0.88, at_most=0.95)
FAILURES_FROM = 250


def judge(
    table: pd.DataFrame, *, covering: Mapping[str, str], coverage_width: float, ratio_width: float,
    difference_width: float,
) -> pd.DataFrame:  # fmt: skip
    """Return rows with columns `simulations.study.VERDICT_COLUMNS`; those of a design only where it is there.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    covering : mapping of str to str
        For each design, the covariance that is claimed to cover.
    coverage_width, ratio_width : float
        Widest interval of a coverage, and of a ratio of standard errors, that supports that it is nominal, and one.
    difference_width : float
        Widest interval of the difference of the two pseudo-true values that supports its prediction.
    """
    at = pd.concat([part[part["n"] == part["n"].max()] for _, part in table.groupby("design", sort=False)])
    lines = [(str(key[0]), str(key[1]), part) for key, part in at.groupby(["design", "parameter"], sort=False)]
    return frame(
        [
            *_coverage(lines, covering, coverage_width),
            *_ratios(lines, covering, ratio_width),
            *(_few_clusters(table) if "clustered" in covering else ()),
            *(_targets(at, difference_width) if {"exact", "cross_fitted"} <= set(covering) else ()),
            *_failures(table, covering),
        ]
    )


def _coverage(lines: list[Line], covering: Mapping[str, str], width: float) -> Iterator[Row]:
    for design, kind, part in lines:
        right = covering[design] == kind
        quantity = f"coverage by {kind} at n = {part['n'].iloc[0]}" + ("" if right else ", at most")
        predicted = 0.95 if right else UNDER_COVERS
        yield coverage_row("T10", design, quantity, part, predicted, max_width=width, family=len(lines))


def _ratios(lines: list[Line], covering: Mapping[str, str], width: float) -> Iterator[Row]:
    """Judge the root mean squared standard error over the standard deviation of the estimates."""
    reach = float(norm.isf(ERROR / (2 * len(lines))))
    for design, kind, part in lines:
        good = part[part["status"] == CONVERGED]
        found = model_se_relative_error((good["estimate"] - good["truth"]).to_numpy(), good["se"].to_numpy())
        ratio, error = 1 + found.value / 100, found.mcse / 100
        interval = Interval(ratio, ratio - reach * error, ratio + reach * error, error)
        quantity = f"{kind} SE / spread of the estimates at n = {part['n'].iloc[0]}"
        if covering[design] == kind:
            yield point_row("T10", design, quantity, interval, 1.0, width)
        else:
            yield level_row("T10", design, quantity + ", at most", interval, TOO_SMALL)


def _few_clusters(table: pd.DataFrame) -> Iterator[Row]:
    few = table[(table["design"] == "clustered") & (table["parameter"] == "cluster")]
    few = few[few["n"] == few["n"].min()]
    quantity = f"coverage by cluster at n = {few['n'].min()}, at least (and at most {FEW_COVER.at_most})"
    yield coverage_row("T10", "clustered", quantity, few, FEW_COVER)


def _targets(at: pd.DataFrame, width: float) -> Iterator[Row]:
    """Judge that two estimating functions of one wrong model go to different values, on the same observations."""
    rows = at[at["design"].isin(("exact", "cross_fitted")) & (at["parameter"] == "sandwich")]
    rows = rows[rows["status"] == CONVERGED]
    pairs = rows.pivot_table("estimate", "replicate", "design").dropna()
    targets = rows.groupby("design")["truth"].first()
    difference = pairs["cross_fitted"] - pairs["exact"]
    predicted = float(targets["cross_fitted"] - targets["exact"])
    where = f"at n = {rows['n'].iloc[0]}"
    quantity = f"mean of cross_fitted minus exact {where}"
    yield mean_row("T10", "both", quantity, difference, predicted, max_width=width, family=2)
    sign = np.sign(predicted)
    yield mean_row("T10", "both", f"its sign {where}, above", sign * difference, Bounds(at_least=0.0), family=2)


def _failures(table: pd.DataFrame, covering: Mapping[str, str]) -> Iterator[Row]:
    for design, kind in covering.items():
        part = table[(table["design"] == design) & (table["parameter"] == kind) & (table["n"] >= FAILURES_FROM)]
        quantity = f"share of failures, n >= {FAILURES_FROM}, below"
        failed = part["status"] != CONVERGED
        yield share_row("T10", design, quantity, failed, Bounds(at_most=0.05), family=len(covering))
