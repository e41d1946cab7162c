"""Claim T9 judged on the table of the study ``stochastic``.

Families of intervals are simultaneous: the slopes of averaged iterates, those of last iterates, the coverages and the
shares of failures, each family over all regimes and coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from simulations.claims.rows import (
    Bounds,
    Row,
    coverage_row,
    frame,
    ratio_row,
    share_row,
    slope_row,
)
from simulations.schema import CONVERGED

__all__ = ["judge"]

# The interval methods that are claimed to reach their level.
NOMINAL = ("random_scaling", "plug_in")
# Smallest claimed ratio of the RMSE of last and averaged iterates at the largest T: predicted T^((1 - alpha) / 2) times
# a constant, about 5 for 1,000 steps.
ADVANTAGE = 2.0
MOST_FAILURES = 0.01


def judge(
    table: pd.DataFrame,
    *,
    burn_in: Mapping[str, int],
    exponents: Mapping[str, float],
    slope_width: float,
    coverage_width: float,
) -> pd.DataFrame:
    """Return one row a claim, regime and coordinate, with columns `simulations.study.VERDICT_COLUMNS`.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    burn_in : mapping of str to int
        Smallest T of the fitted slopes, by regime.
    exponents : mapping of str to float
        Exponent alpha of the step sizes, by regime; the last iterate is predicted to have slope -alpha / 2.
    slope_width, coverage_width : float
        Widest interval that supports a claim.
    """
    rows = table[table["role"] == "rate"]
    rows = rows.assign(**rows["parameter"].str.extract(r"^(?P<output>[^.]+)\.(?P<coordinate>.+)$"))
    lines = [(name, coordinate) for name in burn_in for coordinate in _coordinates(rows, name)]
    found: list[Row] = []
    for name, coordinate in lines:
        line = rows[(rows["regime"] == name) & (rows["coordinate"] == coordinate)]
        found += _slopes(line, name, coordinate, burn_in[name], exponents[name], slope_width, len(lines))
        found += _coverages(line, name, coordinate, coverage_width, len(lines))
    found += [_failures(rows[rows["regime"] == name], name, burn_in[name], len(burn_in)) for name in burn_in]
    return frame(found)


def _coordinates(rows: pd.DataFrame, regime: str) -> list[str]:
    return list(dict.fromkeys(rows.loc[rows["regime"] == regime, "coordinate"]))


def _slopes(
    line: pd.DataFrame, regime: str, coordinate: str, burn_in: int, exponent: float, width: float, family: int
) -> Iterator[Row]:
    outputs = {"averaged": (NOMINAL[0], -0.5), "last": ("last", -exponent / 2)}
    for label, (output, predicted) in outputs.items():
        yield slope_row(
            "T9",
            regime,
            f"slope of RMSE({coordinate}), {label} iterate, in T >= {burn_in}",
            line[line["output"] == output],
            predicted,
            max_width=width,
            family=family,
            x="steps",
            burn_in=burn_in,
        )
    largest = line["steps"].max()
    at = line[line["steps"] == largest]
    yield ratio_row(
        "T9",
        regime,
        f"RMSE({coordinate}) last / averaged at T = {largest}, at least",
        at[at["output"] == "last"],
        at[at["output"] == NOMINAL[0]],
        Bounds(at_least=ADVANTAGE),
        family=family,
    )


def _coverages(line: pd.DataFrame, regime: str, coordinate: str, width: float, family: int) -> Iterator[Row]:
    """Coverage at the largest T: nominal, and for batch means below nominal, as their slow variance predicts."""
    largest = line["steps"].max()
    at = line[line["steps"] == largest]
    for output in NOMINAL:
        yield coverage_row(
            "T9",
            regime,
            f"coverage({coordinate}) at T = {largest}, {output}",
            at[at["output"] == output],
            max_width=width,
            family=family * len(NOMINAL),
        )
    yield coverage_row(
        "T9",
        regime,
        f"coverage({coordinate}) at T = {largest}, batch_means, below",
        at[at["output"] == "batch_means"],
        Bounds(at_most=0.95),
        family=family,
    )


def _failures(rows: pd.DataFrame, regime: str, burn_in: int, family: int) -> Row:
    """Share of runs past the burn-in that diverged or did not settle."""
    one = rows[(rows["steps"] >= burn_in) & (rows["parameter"] == rows["parameter"].iloc[0])]
    quantity = f"share of failures, T >= {burn_in}, below"
    failed = one["status"] != CONVERGED
    return share_row("T9", regime, quantity, failed, Bounds(at_most=MOST_FAILURES), family=family)
