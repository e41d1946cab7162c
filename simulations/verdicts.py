"""Verdicts on claims: holds, fails, or could not tell."""

from math import inf, isfinite

import pandas as pd

from simulations.study import VERDICT_COLUMNS

HOLDS, FAILS, COULD_NOT_TELL = "holds", "fails", "could not tell"


def point(predicted: float, low: float, high: float, max_width: float) -> str:
    """Judge the claim that a quantity equals `predicted`.

    Parameters
    ----------
    predicted : float
        The claim.
    low, high : float
        Interval for the quantity.
    max_width : float
        Width up to which an interval that contains the prediction supports it.

    Returns
    -------
    str
        ``holds`` where the interval contains the prediction and is narrow enough, ``fails`` where it excludes
        the prediction, ``could not tell`` where it is wider or not finite.
    """
    if not (isfinite(low) and isfinite(high)):
        return COULD_NOT_TELL
    # An interval may end at the prediction, up to rounding: a fitted exponent of a constant is not exactly zero.
    rounding = 1e-12 * max(1.0, abs(predicted))
    if not low - rounding <= predicted <= high + rounding:
        return FAILS
    return HOLDS if high - low <= max_width else COULD_NOT_TELL


def within(low: float, high: float, *, at_least: float = -inf, at_most: float = inf) -> str:
    """Judge the claim that a quantity lies in [at_least, at_most].

    Returns
    -------
    str
        ``holds`` where the whole interval [low, high] lies there, ``fails`` where none of it does, otherwise,
        or where it is not finite, ``could not tell``.
    """
    if not (isfinite(low) and isfinite(high)):
        return COULD_NOT_TELL
    if at_least <= low and high <= at_most:
        return HOLDS
    return FAILS if high < at_least or low > at_most else COULD_NOT_TELL


def check_verdicts(verdicts: pd.DataFrame) -> None:
    """Refuse a verdict table that lacks a column or holds an unknown verdict.

    Raises
    ------
    ValueError
        Columns other than `simulations.study.VERDICT_COLUMNS`, no rows, or an unknown verdict.
    """
    if list(verdicts.columns) != list(VERDICT_COLUMNS) or verdicts.empty:
        raise ValueError(f"a verdict table has rows and columns {VERDICT_COLUMNS}, not {tuple(verdicts.columns)}")
    unknown = set(verdicts["verdict"]) - {HOLDS, FAILS, COULD_NOT_TELL}
    if unknown:
        raise ValueError(f"verdicts are {HOLDS!r}, {FAILS!r} or {COULD_NOT_TELL!r}, not {sorted(unknown)}")
