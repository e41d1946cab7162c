"""Claim T7 judged on the table of the study ``ridge``.

The slopes of all lines are one family of intervals, the ratios to the deterministic equivalent another.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from simulations.claims.rows import Bounds, Row, frame, mean_row, share_row, slope_row
from simulations.designs.ridge_lines import Line
from simulations.rates import mean
from simulations.schema import CONVERGED

__all__ = ["judge", "label", "rows_of"]

# How far the mean excess risk may lie from its deterministic equivalent, relatively, and how often a fit may fail.
NEAR, MOST_FAILURES = Bounds(0.9, 1.1), Bounds(at_most=0.02)
# Whose excess risk the equivalent claims to predict; for the other models it does so in the limit only.
LINEAR = "least_squares"


def judge(table: pd.DataFrame, lines: Sequence[Line], *, max_width: float) -> pd.DataFrame:
    """Return one row a line and claim, with columns `simulations.study.VERDICT_COLUMNS`.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    lines : sequence of Line
        The lines it holds, with their predictions.
    max_width : float
        Widest interval of a slope that supports its claim.
    """
    linear = [line for line in lines if line.estimator == LINEAR]
    slopes = [_slope(table, line, max_width, len(lines)) for line in lines]
    return frame([*slopes, *(_ratio(table, line, len(linear)) for line in linear), _failures(table)])


def label(line: Line) -> str:
    """Name of a line in verdicts and figures."""
    return f"{line.estimator.replace('_', ' ')} a={line.design.decay:g}, r={line.design.source:g}"


def rows_of(table: pd.DataFrame, line: Line) -> pd.DataFrame:
    """Rows of the table that belong to a line."""
    return table[(table[list(line.levels)] == pd.Series(line.levels)).all(axis=1)]


def _slope(table: pd.DataFrame, line: Line, max_width: float, family: int) -> Row:
    return slope_row(
        "T7",
        label(line),
        f"slope of mean excess risk in n >= {line.burn_in}",
        rows_of(table, line),
        -line.design.exponent,
        max_width=max_width,
        family=family,
        measure=mean,
        burn_in=line.burn_in,
    )


def _ratio(table: pd.DataFrame, line: Line, family: int) -> Row:
    """Judge the level too: a slope of a minimum over the penalty is forgiving, its level is not."""
    rows = rows_of(table, line)
    rows = rows[rows["status"] == CONVERGED]
    equivalents = rows["n"].map({n: line.equivalent(n) for n in rows["n"].unique().tolist()})
    quantity = f"excess risk / deterministic equivalent, {NEAR.at_least:g} to {NEAR.at_most:g}"
    return mean_row("T7", label(line), quantity, rows["estimate"] / equivalents, NEAR, family=family)


def _failures(table: pd.DataFrame) -> Row:
    failed = table["status"] != CONVERGED
    return share_row("T7", "all lines", f"share of failures, below {MOST_FAILURES.at_most:g}", failed, MOST_FAILURES)
