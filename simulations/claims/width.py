"""Claim T8 judged on the table of the study ``width``: error falls with n, and does not grow with the width."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from simulations.claims.paired import log_estimates, ratio_row, slopes
from simulations.claims.rows import Bounds, Row, frame, mean_row, share_row, slope_row
from simulations.rates import mean
from simulations.schema import CONVERGED

__all__ = ["judge"]

CLAIM = "T8"
LABELS = {"network": "network", "random_features": "random features"}
REGULARISED = {"network": "early stopping", "random_features": "ridge"}
UNREGULARISED = {"network": "all updates", "random_features": "minimum norm"}

# The error of a rectified teacher falls as n^{-3/(3 + d)} where the first layer stays put, here d = 5, and faster
# where it learns.
LAZY_EXPONENT = -3 / 8
# Growth allowed over the widths past interpolation, and the slope that adds up to it.
GROWTH, SAFE, WIDEST = 1.1, 2.0, 50.0
# m / n where the unregularised error peaks, what it is compared with, and its least rise: a network interpolates once
# its (d + 2) m weights pass n.
PEAKS = {"network": (0.2, WIDEST, GROWTH), "random_features": (1.0, 0.5, 2.0)}


def judge(table: pd.DataFrame, *, burn_in: int, sweep_size: int) -> pd.DataFrame:
    """Return one row a claim and line, with columns `simulations.study.VERDICT_COLUMNS`.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    burn_in : int
        Smallest n of the fitted slopes.
    sweep_size : int
        Training size of the sweeps over the width.
    """
    chosen, ends = (table[table["parameter"] == name] for name in ("regularised", "unregularised"))
    sweep, unregularised = (rows[rows["n"] == sweep_size] for rows in (chosen, ends))
    return frame(
        [
            *_exponents(chosen, burn_in),
            *_growth(sweep, sweep_size),
            *_peaks(sweep, REGULARISED, sweep_size),
            *_peaks(unregularised, UNREGULARISED, sweep_size),
            share_row(CLAIM, "all fits", "share diverged, below", table["status"] != CONVERGED, Bounds(at_most=0.02)),
        ]
    )


def _exponents(chosen: pd.DataFrame, burn_in: int) -> Iterator[Row]:
    lines = [rows for _, rows in chosen.groupby(["learner", "ratio"]) if len(set(rows["n"])) > 1]
    for rows in lines:
        learner, ratio = rows["learner"].iloc[0], rows["ratio"].iloc[0]
        regime = f"{LABELS[learner]}, m = {ratio:g} n, {REGULARISED[learner]}"
        quantity = f"exponent of squared error in n >= {burn_in}, at most"
        bounds = Bounds(at_most=LAZY_EXPONENT)
        yield slope_row(
            CLAIM, regime, quantity, rows, bounds, max_width=np.inf, measure=mean, burn_in=burn_in, family=len(lines)
        )


def _growth(sweep: pd.DataFrame, n: int) -> Iterator[Row]:
    for learner, label in LABELS.items():
        regime = f"{label}, {REGULARISED[learner]}, n = {n}"
        logs = log_estimates(sweep[sweep["learner"] == learner], "ratio")
        quantity = f"squared error at m = {WIDEST:g} n over m = {SAFE:g} n, at most"
        growth = logs[WIDEST] - logs[SAFE]
        yield ratio_row(CLAIM, regime, quantity, growth, Bounds(at_most=GROWTH), family=len(LABELS))
        steepest = np.log(GROWTH) / np.log(WIDEST / SAFE)
        past = slopes(logs[[ratio for ratio in logs.columns if float(ratio) >= SAFE]])
        quantity = f"exponent of squared error in m >= {SAFE:g} n, at most"
        yield mean_row(CLAIM, regime, quantity, past, Bounds(at_most=steepest), family=len(LABELS))


def _peaks(rows: pd.DataFrame, names: dict[str, str], n: int) -> Iterator[Row]:
    """Judge that the error peaks near interpolation where nothing regularises, and not where something does."""
    for learner, (peak, other, least) in PEAKS.items():
        logs = log_estimates(rows[rows["learner"] == learner], "ratio")
        bounds, word = (Bounds(at_least=least), "least") if names is UNREGULARISED else (Bounds(at_most=GROWTH), "most")
        regime = f"{LABELS[learner]}, {names[learner]}, n = {n}"
        quantity = f"squared error at m = {peak:g} n over m = {other:g} n, at {word}"
        yield ratio_row(CLAIM, regime, quantity, logs[peak] - logs[other], bounds, family=len(PEAKS))
