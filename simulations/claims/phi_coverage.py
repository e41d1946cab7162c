"""Claim LM judged on the table of the study ``phi_coverage``.

At the largest number of documents the sandwich clustered by document covers every log-scale and gives the spread of the
estimates. Where documents differ in style, the sandwich that takes tokens for independent is too small and does not
cover; where the model holds, its standard error is nearly right. The plug-in equation is biased downwards, whatever the
covariance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

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

Line: TypeAlias = tuple[str, str, str, pd.DataFrame]
"""Design, parameter, covariance and their rows at the largest n."""

CLAIM = "LM"
# Coverage of a covariance or an equation that is wrong, and the standard error of the former over the spread: at most.
UNDER_COVERS, TOO_SMALL = Bounds(at_most=0.9), Bounds(at_most=0.9)
# Where the model holds, tokens are nearly independent: the naive standard error is right within this.
NEARLY_RIGHT = Bounds(at_least=0.75, at_most=1.25)
FAILURES = Bounds(at_most=0.1)


def judge(table: pd.DataFrame, *, coverage_width: float, ratio_width: float) -> pd.DataFrame:
    """Return rows with columns `simulations.study.VERDICT_COLUMNS`; those of a design only where it is there.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    coverage_width, ratio_width : float
        Widest interval of a coverage, and of a ratio of standard errors, that supports that it is nominal, and one.
    """
    at = table[table["n"] == table["n"].max()]
    named = at.assign(entry=at["parameter"].str.split(":").str[0], kind=at["parameter"].str.split(":").str[1])
    keys = ["design", "entry", "kind"]
    lines = [(str(d), str(e), str(k), part) for (d, e, k), part in named.groupby(keys, sort=False)]
    return frame(
        [
            *_coverage(lines, coverage_width),
            *_ratios([line for line in lines if line[0] != "plug_in"], ratio_width),
            *_bias([line for line in lines if line[2] == "document"]),
            *_failures(at),
        ]
    )


def _coverage(lines: list[Line], width: float) -> Iterator[Row]:
    judged = [line for line in lines if line[2] == "document" or line[0] == "styles"]
    for design, entry, kind, part in judged:
        right = kind == "document" and design != "plug_in"
        quantity = f"coverage of {entry} by {kind}, n = {part['n'].iloc[0]}" + ("" if right else ", at most")
        predicted = 0.95 if right else UNDER_COVERS
        yield coverage_row(CLAIM, design, quantity, part, predicted, max_width=width, family=len(judged))


def _ratios(lines: list[Line], width: float) -> Iterator[Row]:
    """Judge the root mean squared standard error over the standard deviation of the estimates."""
    reach = float(norm.isf(ERROR / (2 * len(lines)))) if lines else 0.0
    for design, entry, kind, part in lines:
        good = part[part["status"] == CONVERGED]
        found = model_se_relative_error((good["estimate"] - good["truth"]).to_numpy(), good["se"].to_numpy())
        ratio, error = 1 + found.value / 100, found.mcse / 100
        interval = Interval(ratio, ratio - reach * error, ratio + reach * error, error)
        quantity = f"{kind} SE of {entry} / spread of the estimates"
        if kind == "document":
            yield point_row(CLAIM, design, quantity, interval, 1.0, width)
        elif design == "styles":
            yield level_row(CLAIM, design, quantity + ", at most", interval, TOO_SMALL)
        else:
            yield level_row(CLAIM, design, f"{quantity}, at least (and at most {NEARLY_RIGHT.at_most})", interval,
                            NEARLY_RIGHT)  # fmt: skip


def _bias(lines: list[Line]) -> Iterator[Row]:
    """Judge the mean error of the plug-in estimate in standard deviations of the estimates."""
    for design, entry, _, part in lines:
        if design == "plug_in":
            good = part[part["status"] == CONVERGED]
            error = (good["estimate"] - good["truth"]) / good["estimate"].std()
            yield mean_row(CLAIM, design, f"bias of {entry} / spread, at most", error, Bounds(at_most=-0.5))


def _failures(table: pd.DataFrame) -> Iterator[Row]:
    first = table.drop_duplicates(["design", "replicate"])
    for design, part in first.groupby("design", sort=False):
        quantity = "share of failures, below"
        failed = part["status"] != CONVERGED
        yield share_row(CLAIM, str(design), quantity, failed, FAILURES, family=first["design"].nunique())
