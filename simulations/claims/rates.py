"""Claims T1, T2 and T3 judged on the table of the study ``rates``.

Families of intervals are simultaneous: each of m intervals of one claim has level 1 - 0.05 / m (Bonferroni), so that
all of them hold together with probability 0.95 when the theory is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from simulations.rates import Interval, TooFewReplicatesError, absolute_bias, ratio, slope
from simulations.schema import CONVERGED
from simulations.study import VERDICT_COLUMNS
from simulations.verdicts import COULD_NOT_TELL, FAILS, HOLDS, point, within

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
# Widest interval of a coverage, and of a standardised mean of psi, that can support a claim.
COVERAGE_WIDTH, RESOLUTION = 0.06, 0.05
ERROR = 0.05


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
    rows = [
        *_rmse_slopes(roots, burn_in, max_width),
        *_coverage(roots),
        *_failures(roots),
        *_bias_slopes(roots, max_width),
        *_floor(roots),
        *_collapse(roots),
        *_unbiased(scores),
    ]
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))


def _line(rows: pd.DataFrame, estimator: str, n_draws: int) -> pd.DataFrame:
    return rows[(rows["estimator"] == estimator) & (rows["n_draws"] == n_draws)]


def _label(estimator: str, n_draws: int) -> str:
    return f"{estimator} K={n_draws}" if n_draws else estimator


def _parameters(rows: pd.DataFrame) -> list[str]:
    return sorted(rows["parameter"].unique())


def _rmse_slopes(rows: pd.DataFrame, burn_in: int, max_width: float) -> Iterator[tuple]:
    names = _parameters(rows)
    level = 1 - ERROR / (len(RATE_LINES) * len(names))
    for estimator, n_draws in RATE_LINES:
        for name in names:
            line = _line(rows, estimator, n_draws)
            found = _known(slope, line[line["parameter"] == name], burn_in=burn_in, level=level)
            verdict = point(-0.5, found.low, found.high, max_width)
            quantity = f"slope of RMSE({name}) in n >= {burn_in}"
            yield "T1", _label(estimator, n_draws), quantity, -0.5, *_numbers(found), verdict


def _coverage(rows: pd.DataFrame) -> Iterator[tuple]:
    largest = rows["n"].max()
    at = rows[rows["n"] == largest]
    names = _parameters(rows)
    good = [("cross_fitted", k) for k in PAIRED_DRAWS]
    for lines, claim, predicted in ((good, "T1", 0.95), ([("plug_in", k) for k in PAIRED_DRAWS], "T2", 0.2)):
        for estimator, n_draws in lines:
            for name in names:
                part = _line(at, estimator, n_draws)
                part = part[(part["parameter"] == name) & (part["status"] == CONVERGED)]
                covered = (part["estimate"] - part["truth"]).abs() <= stats.norm.ppf(0.975) * part["se"]
                low, high = _wilson(int(covered.sum()), len(part), ERROR / (len(lines) * len(names)))
                share = covered.mean() if len(part) else np.nan
                quantity = f"coverage({name}) at n = {largest}" + (" at most" if claim == "T2" else "")
                verdict = (
                    point(0.95, low, high, COVERAGE_WIDTH) if claim == "T1" else within(low, high, at_most=predicted)
                )
                error = np.sqrt(share * (1 - share) / max(len(part), 1))
                yield claim, _label(estimator, n_draws), quantity, predicted, share, low, high, error, verdict


def _failures(rows: pd.DataFrame) -> Iterator[tuple]:
    for estimator, n_draws in RATE_LINES:
        line = _line(rows, estimator, n_draws)
        line = line[(line["n"] >= FAILURES_FROM) & (line["parameter"] == _parameters(rows)[0])]
        failed = int((line["status"] != CONVERGED).sum())
        low, high = proportion_confint(failed, len(line), alpha=ERROR / len(RATE_LINES), method="beta")
        share = failed / len(line)
        error = np.sqrt(share * (1 - share) / len(line))
        quantity = f"share of failures, n >= {FAILURES_FROM}, below"
        yield "T1", _label(estimator, n_draws), quantity, 0.01, share, low, high, error, within(low, high, at_most=0.01)


def _bias_slopes(rows: pd.DataFrame, max_width: float) -> Iterator[tuple]:
    line = rows[(rows["estimator"] == "plug_in") & (rows["n_draws"] >= ASYMPTOTIC_DRAWS)]
    size = int(line.loc[line["n_draws"] == line["n_draws"].max(), "n"].iloc[0])
    line = line[line["n"] == size]
    names = _parameters(rows)
    for name in names:
        part = line[line["parameter"] == name]
        found = _known(slope, part, x="n_draws", measure=absolute_bias, level=1 - ERROR / len(names))
        verdict = point(-1.0, found.low, found.high, 2 * max_width)
        quantity = f"slope of |bias({name})| in K >= {ASYMPTOTIC_DRAWS}, n = {size}"
        yield "T2", "plug_in", quantity, -1.0, *_numbers(found), verdict


def _floor(rows: pd.DataFrame) -> Iterator[tuple]:
    at = rows[rows["n"] == rows["n"].max()]
    names = _parameters(rows)
    for n_draws in PAIRED_DRAWS:
        for name in names:
            plug_in, cross_fitted = (
                line[line["parameter"] == name]
                for line in (_line(at, estimator, n_draws) for estimator in ("plug_in", "cross_fitted"))
            )
            found = _known(ratio, plug_in, cross_fitted, level=1 - ERROR / (len(names) * len(PAIRED_DRAWS)))
            verdict = within(found.low, found.high, at_least=4.0)
            quantity = f"RMSE({name}) plug_in / cross_fitted at n = {rows['n'].max()}, at least"
            yield "T2", f"K={n_draws}", quantity, 4.0, *_numbers(found), verdict


def _collapse(rows: pd.DataFrame) -> Iterator[tuple]:
    """Share of single_draw replicates whose noise scale ran to a tenth of the truth or below."""
    line = rows[rows["estimator"] == "single_draw"]
    line = line[line["n"] == line["n"].max()]
    collapsed = int((line["estimate"] <= line["truth"] - np.log(10)).sum())
    share = collapsed / len(line)
    low, high = proportion_confint(collapsed, len(line), alpha=ERROR, method="beta")
    error = np.sqrt(share * (1 - share) / len(line))
    quantity = f"share with scale below truth / 10 at n = {line['n'].max()}, at least"
    yield "T2", "single_draw", quantity, 0.5, share, low, high, error, within(low, high, at_least=0.5)


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


def _unbiased(rows: pd.DataFrame) -> Iterator[tuple]:
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
        yield "T3", _label(estimator, shown.n_draws), quantity, 0.0, shown.value, low, high, shown.error, verdict


def _mean(part: pd.DataFrame) -> _Mean:
    first = part.iloc[0]
    n = int(first["n"])
    deviation = np.sqrt(np.mean(part["se"] ** 2) * n)
    error = 1 / np.sqrt(len(part) * n)
    value = part["estimate"].mean() / deviation
    return _Mean(first["estimator"], int(first["n_draws"]), first["parameter"], float(value), float(error))


def _wilson(count: int, size: int, alpha: float) -> tuple[float, float]:
    if size == 0:
        return np.nan, np.nan
    low, high = proportion_confint(count, size, alpha=alpha, method="wilson")
    return float(low), float(high)


def _known(estimate: Callable[..., Interval], *rows: pd.DataFrame, **options: Any) -> Interval:
    """Estimate an interval; NaN, which no claim can be told from, where a cell has too few replicates with a root."""
    try:
        return estimate(*rows, **options)
    except TooFewReplicatesError:
        return Interval(np.nan, np.nan, np.nan, np.nan)


def _numbers(found: Interval) -> tuple[float, float, float, float]:
    return found.estimate, found.low, found.high, found.monte_carlo_se
