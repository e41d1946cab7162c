"""Claims T1, T2 and T3 judged on the table of the study ``rates``.

Families of intervals are simultaneous: each of m intervals of one claim has level 1 - 0.05 / m (Bonferroni), so that
all of them hold together with probability 0.95 when the theory is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from simulations.claims.rows import ERROR, Bounds, Row, coverage_row, frame, ratio_row, share_row, slope_row
from simulations.rates import absolute_bias
from simulations.schema import CONVERGED
from simulations.verdicts import COULD_NOT_TELL, FAILS, HOLDS

__all__ = ["judge"]

# The lines whose RMSE falls at the parametric rate. cross_fitted with two draws is left out: its instrument is a single
# log-probability, which says almost nothing about a scale.
RATE_LINES = (
    ("quadratic", 2),
    ("quadratic", 4),
    ("quadratic", 8),
    ("cross_fitted", 4),
    ("cross_fitted", 8),
    ("exact", 0),
)
PAIRED_DRAWS = (4, 8)
BIASED = ("single_draw", "plug_in")
ASYMPTOTIC_DRAWS = 8
FAILURES_FROM = 1000
# Widest interval of a standardised mean of psi that can support a claim.
RESOLUTION = 0.05


def judge(table: pd.DataFrame, *, burn_in: int, max_width: float) -> pd.DataFrame:
    """Return one row a claim and line, with columns `simulations.study.VERDICT_COLUMNS`.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    burn_in : int
        Smallest n of the fitted slopes.
    max_width : float
        Widest interval of an RMSE slope that supports its claim; twice that for the slope of a bias.
    """
    roots, scores = (table[table["quantity"] == kind] for kind in ("root", "psi_at_truth"))
    return frame(
        [
            *_rmse_slopes(roots, burn_in, max_width),
            *_coverage(roots),
            *_failures(roots),
            *_bias_slopes(roots, max_width),
            *_floor(roots),
            _collapse(roots),
            *_unbiased(scores),
        ]
    )


def _line(rows: pd.DataFrame, estimator: str, n_draws: int) -> pd.DataFrame:
    return rows[(rows["estimator"] == estimator) & (rows["n_draws"] == n_draws)]


def _label(estimator: str, n_draws: int) -> str:
    return f"{estimator} K={n_draws}" if n_draws else estimator


def _by_parameter(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(name): part for name, part in rows.groupby("parameter")}


def _rmse_slopes(rows: pd.DataFrame, burn_in: int, max_width: float) -> Iterator[Row]:
    family = len(RATE_LINES) * rows["parameter"].nunique()
    for line in RATE_LINES:
        for name, part in _by_parameter(_line(rows, *line)).items():
            quantity = f"slope of RMSE({name}) in n >= {burn_in}"
            yield slope_row(
                "T1", _label(*line), quantity, part, -0.5, burn_in=burn_in, max_width=max_width, family=family
            )


def _coverage(rows: pd.DataFrame) -> Iterator[Row]:
    largest = rows["n"].max()
    at = rows[rows["n"] == largest]
    family = len(PAIRED_DRAWS) * rows["parameter"].nunique()
    for claim, estimator, predicted in (("T1", "cross_fitted", 0.95), ("T2", "plug_in", Bounds(at_most=0.2))):
        for n_draws in PAIRED_DRAWS:
            for name, part in _by_parameter(_line(at, estimator, n_draws)).items():
                quantity = f"coverage({name}) at n = {largest}" + (" at most" if claim == "T2" else "")
                yield coverage_row(claim, _label(estimator, n_draws), quantity, part, predicted, family=family)


def _failures(rows: pd.DataFrame) -> Iterator[Row]:
    for line in RATE_LINES:
        part = _line(rows, *line)
        part = part[(part["n"] >= FAILURES_FROM) & (part["parameter"] == rows["parameter"].min())]
        quantity = f"share of failures, n >= {FAILURES_FROM}, below"
        failed = part["status"] != CONVERGED
        yield share_row("T1", _label(*line), quantity, failed, Bounds(at_most=0.01), family=len(RATE_LINES))


def _bias_slopes(rows: pd.DataFrame, max_width: float) -> Iterator[Row]:
    line = rows[(rows["estimator"] == "plug_in") & (rows["n_draws"] >= ASYMPTOTIC_DRAWS)]
    size = int(line.loc[line["n_draws"] == line["n_draws"].max(), "n"].iloc[0])
    parts = _by_parameter(line[line["n"] == size])
    for name, part in parts.items():
        quantity = f"slope of |bias({name})| in K >= {ASYMPTOTIC_DRAWS}, n = {size}"
        yield slope_row(
            "T2",
            "plug_in",
            quantity,
            part,
            -1.0,
            x="n_draws",
            measure=absolute_bias,
            max_width=2 * max_width,
            family=len(parts),
        )


def _floor(rows: pd.DataFrame) -> Iterator[Row]:
    largest = rows["n"].max()
    at = rows[rows["n"] == largest]
    family = len(PAIRED_DRAWS) * rows["parameter"].nunique()
    for n_draws in PAIRED_DRAWS:
        biased, unbiased = (_by_parameter(_line(at, name, n_draws)) for name in ("plug_in", "cross_fitted"))
        for name, part in biased.items():
            quantity = f"RMSE({name}) plug_in / cross_fitted at n = {largest}, at least"
            yield ratio_row("T2", f"K={n_draws}", quantity, part, unbiased[name], Bounds(at_least=4.0), family=family)


def _collapse(rows: pd.DataFrame) -> Row:
    """Judge the share of single_draw replicates whose noise scale ran to a tenth of the truth or below."""
    line = rows[rows["estimator"] == "single_draw"]
    line = line[line["n"] == line["n"].max()]
    collapsed = line["estimate"] <= line["truth"] - np.log(10)
    quantity = f"share with scale below truth / 10 at n = {line['n'].max()}, at least"
    return share_row("T2", "single_draw", quantity, collapsed, Bounds(at_least=0.5))


class _Mean(NamedTuple):
    """Mean of one component of psi at the truth, in standard deviations of psi."""

    estimator: str
    n_draws: int
    parameter: str
    value: float
    error: float

    @property
    def z(self) -> float:
        return abs(self.value) / self.error


def _unbiased(rows: pd.DataFrame) -> Iterator[Row]:
    """Show the worst component of an unbiased line, and the strongest one at the least biased K of a biased line."""
    means = [_mean(part) for _, part in rows.groupby(["estimator", "n_draws", "parameter"])]
    reach = float(stats.norm.isf(ERROR / (2 * len(means))))
    for estimator in dict.fromkeys(mean.estimator for mean in means):
        mine = [mean for mean in means if mean.estimator == estimator]
        strongest = [max((m for m in mine if m.n_draws == k), key=lambda m: m.z) for k in {m.n_draws for m in mine}]
        biased = estimator in BIASED
        shown = min(strongest, key=lambda m: m.z) if biased else max(strongest, key=lambda m: m.z)
        low, high = shown.value - reach * shown.error, shown.value + reach * shown.error
        if shown.z > reach:
            verdict = HOLDS if biased else FAILS
        elif high - low <= RESOLUTION:
            verdict = FAILS if biased else HOLDS
        else:
            verdict = COULD_NOT_TELL
        quantity = f"mean psi / sd at the truth ({shown.parameter}): {'not zero' if biased else 'zero'} for every K"
        yield Row("T3", _label(estimator, shown.n_draws), quantity, 0.0, shown.value, low, high, shown.error, verdict)


def _mean(part: pd.DataFrame) -> _Mean:
    first = part.iloc[0]
    n = int(first["n"])
    deviation = np.sqrt(np.mean(part["se"] ** 2) * n)
    error = 1 / np.sqrt(len(part) * n)
    value = part["estimate"].mean() / deviation
    return _Mean(first["estimator"], int(first["n_draws"]), first["parameter"], float(value), float(error))
