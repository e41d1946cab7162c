"""Claim T13 judged on the table of the study ``capacity``: in sample the noise scale is lost, by a split it is kept.

Every row but those of the crossover compares fits of the same replicates, as geometric means of ratios.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from simulations.claims.crossover import crossover, ratio_of_crossovers
from simulations.claims.paired import log_estimates, ratio_row
from simulations.claims.rows import ERROR, Bounds, Row, frame, level_row, share_row
from simulations.schema import CONVERGED

__all__ = ["INTERPOLATION", "LABELS", "judge"]

CLAIM = "T13"
LABELS = {
    "plain": "no noise",
    "in_sample": "in sample, theta cross-fitted",
    "in_sample_single": "in sample, theta single-draw",
    "split": "split sample, theta cross-fitted",
    "split_single": "split sample, theta single-draw",
}
# Estimation in sample and its counterpart with a split.
PAIRS = (("in_sample", "split"), ("in_sample_single", "split_single"))

INTERPOLATION = 1.0
"""m / n from which "capacity past n" counts."""

# A scale is lost below the first share of the truth and kept above the second; the crossover is at the second.
LOST, KEPT = 0.2, 0.5
# Change of a scale, and of a loss, over capacities past n that counts as bounded.
STEADY = Bounds(0.5, 2.0)
GROWTH = 1.1
# Least rise of a loss that counts as one.
RISE = 1.02
# Least loss in sample at the largest capacity over that without noise: the noise that is left protects little.
NO_GAIN = 0.9


def judge(table: pd.DataFrame, *, n: int, crossover_sizes: tuple[int, int]) -> pd.DataFrame:
    """Return one row a claim and line, with columns `simulations.study.VERDICT_COLUMNS`.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    n : int
        Sample size at which the methods are compared.
    crossover_sizes : tuple of int
        Two sample sizes at which the crossover of in-sample estimation is located.
    """
    at = table[table["n"] == n]
    relative = at.assign(estimate=at["estimate"] / at["truth"]).where(at["parameter"] == "scale", at)
    lines = {
        (str(name), str(method)): log_estimates(rows, "ratio")
        for (name, method), rows in relative.groupby(["parameter", "method"])
        if (name, method) != ("scale", "plain")
    }
    scales, losses = ({m: logs for (name, m), logs in lines.items() if name == kind} for kind in ("scale", "loss"))
    return frame(
        [
            *_scales(scales, n),
            *_losses(losses, n),
            *_crossovers(table, crossover_sizes),
            share_row(CLAIM, "all fits", "share diverged, below", table["status"] != CONVERGED, Bounds(at_most=0.02)),
        ]
    )


def _scales(lines: dict[str, pd.DataFrame], n: int) -> Iterator[Row]:
    for inside, split in PAIRS:
        lost, kept = lines[inside], lines[split]
        top = lost.columns.max()
        place = f"at m = {top:g} n"
        yield _row(inside, n, f"scale over the truth {place}, at most", lost[top], Bounds(at_most=LOST))
        yield _row(split, n, f"scale over the truth {place}, at least", kept[top], Bounds(at_least=KEPT))
        yield _row(split, n, f"scale {place} over m = n, from 0.5 to 2", kept[top] - kept[INTERPOLATION], STEADY)
        gap = lost[top] - kept[top]
        yield _row(inside, n, f"scale over that of the split {place}, at most", gap, Bounds(at_most=LOST))


def _losses(lines: dict[str, pd.DataFrame], n: int) -> Iterator[Row]:
    for inside, split in PAIRS:
        over, held, plain = lines[inside], lines[split], lines["plain"]
        low, top = over.columns.min(), over.columns.max()
        place = f"at m = {top:g} n"
        yield _row(
            inside, n, f"loss {place} over m = {low:g} n, at least", over[top] - over[low], Bounds(at_least=RISE)
        )
        gap = over[top] - plain[top]
        yield _row(inside, n, f"loss over that without noise {place}, at least", gap, Bounds(at_least=NO_GAIN))
        growth = held[top] - held[INTERPOLATION]
        yield _row(split, n, f"loss {place} over m = n, at most", growth, Bounds(at_most=GROWTH))
        gap = over[top] - held[top]
        yield _row(inside, n, f"loss over that of the split {place}, at least", gap, Bounds(at_least=RISE))


def _row(method: str, n: int, quantity: str, log_ratios: pd.Series, bounds: Bounds) -> Row:
    """Judge a paired ratio."""
    return ratio_row(CLAIM, f"{LABELS[method]}, n = {n}", quantity, log_ratios, bounds, family=len(PAIRS))


def _crossovers(table: pd.DataFrame, sizes: tuple[int, int]) -> Iterator[Row]:
    rows = table[(table["method"] == "in_sample") & (table["parameter"] == "scale")]
    level = KEPT * rows["truth"].iloc[0]
    curves = {size: log_estimates(rows[rows["n"] == size], "ratio") for size in sizes}
    regime, quantity = LABELS["in_sample"], "m / n at which the scale is half the truth, at most"
    for size, logs in curves.items():
        found = crossover(logs, level, error=ERROR / 3)
        yield level_row(CLAIM, f"{regime}, n = {size}", quantity, found, Bounds(at_most=INTERPOLATION))
    found = ratio_of_crossovers(curves[sizes[1]], curves[sizes[0]], level, error=ERROR / 3)
    quantity = f"that m / n at n = {sizes[1]} over n = {sizes[0]}, from 0.5 to 2"
    yield level_row(CLAIM, regime, quantity, found, STEADY)
