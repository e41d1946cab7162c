r"""Claim T5 judged on the table of the study ``boundary``.

Predictions, made before a run from :math:`(n / V)^{1/2} \hat v \to \max(0, Z)`: the exponents of :attr:`RATES`; an
estimate of zero with probability one half; :math:`E\, n I_0 \hat v^2 \to 1/2` for quadrature; and the coverage of
normal intervals with quantile z = 1.96. That of the variance holds zero where Z is at most z, with probability 0.975.
That of the scale exists for a positive estimate only, has standard error :math:`\mathrm{se}(\hat v) / (2 \hat\sigma)`,
and holds zero where :math:`0 < Z \le z / 2`, with probability :math:`2 \Phi(z / 2) - 1 = 0.673` of those that exist.

Independent draws give :math:`\bar\psi_\sigma(\sigma) \approx a_n + 2 b_n \sigma - 2 c\, \sigma^3` with :math:`a_n, b_n`
noise of order :math:`n^{-1/2}`; mirrored draws have no :math:`a_n`. Its cubic root is of order :math:`n^{-1/6}`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from scipy.stats import norm

from simulations.claims.rows import Row, coverage_row, frame, mean_row, share_row, slope_row

__all__ = ["LEVEL", "RATES", "REGULAR", "SCALE_COVERAGE", "VARIANCE_COVERAGE", "judge"]

LEVEL = 0.95
REGULAR = ("exact", "cross_fitted", "quadratic")
RATES = {
    **{line: {"scale": -1 / 4, "variance": -1 / 2, "prediction": -1 / 2} for line in REGULAR},
    "cross_fitted_independent": {"scale": -1 / 6},
}
"""Exponents of n in the RMSE, by estimator and parameter."""

_QUANTILE = float(norm.ppf((1 + LEVEL) / 2))
SCALE_COVERAGE = float(2 * norm.cdf(_QUANTILE / 2) - 1)
VARIANCE_COVERAGE = float(norm.cdf(_QUANTILE))


def judge(
    table: pd.DataFrame, *, burn_in: int, information: float, max_width: float, level_width: float
) -> pd.DataFrame:
    """Return the rows of T5, with columns `simulations.study.VERDICT_COLUMNS`.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    burn_in : int
        Smallest n of slopes and levels.
    information : float
        That of one observation on the variance, at zero.
    max_width, level_width : float
        Widest interval of a slope, and of a probability, that supports its claim. That of the mean squared variance
        may be four times as wide as that of a probability, and those of coverages near one half as wide.
    """
    roots, tests = (table[table["quantity"] == kind] for kind in ("root", "test"))
    past = roots[roots["n"] >= burn_in]
    return frame(
        [
            *_slopes(roots, burn_in, max_width),
            *_limit(past, information, level_width),
            *_normal_intervals(past, level_width),
            *_tests(tests, level_width / 2),
        ]
    )


def _line(rows: pd.DataFrame, estimator: str, parameter: str) -> pd.DataFrame:
    return rows[(rows["estimator"] == estimator) & (rows["parameter"] == parameter)]


def _slopes(rows: pd.DataFrame, burn_in: int, max_width: float) -> Iterator[Row]:
    family = sum(map(len, RATES.values()))
    for estimator, exponents in RATES.items():
        for name, predicted in exponents.items():
            part, quantity = _line(rows, estimator, name), f"slope of RMSE({name}) in n >= {burn_in}"
            yield slope_row(
                "T5", estimator, quantity, part, predicted, burn_in=burn_in, max_width=max_width, family=family
            )


def _limit(rows: pd.DataFrame, information: float, width: float) -> Iterator[Row]:
    """Judge the atom at zero and, where the information is known, the mean square of the limiting law."""
    for estimator in REGULAR:
        part = _line(rows, estimator, "variance")
        zero = part["estimate"] == 0
        quantity = "share of estimates that are zero"
        yield share_row("T5", estimator, quantity, zero, 0.5, max_width=width, family=len(REGULAR))
    best = _line(rows, "exact", "variance")
    square = best["n"] * information * best["estimate"] ** 2
    yield mean_row("T5", "exact", "mean of n I variance^2, half of chi-square(1)", square, 0.5, max_width=4 * width)


def _normal_intervals(rows: pd.DataFrame, width: float) -> Iterator[Row]:
    """Judge that normal intervals miss their level in the way the limiting law says."""
    for estimator in REGULAR:
        part = _line(rows, estimator, "scale")
        quantity = "coverage(scale) of normal intervals where scale > 0, nominally 0.95"
        yield coverage_row(
            "T5",
            estimator,
            quantity,
            part[part["estimate"] > 0],
            SCALE_COVERAGE,
            max_width=width,
            family=len(REGULAR),
        )
    for estimator in REGULAR:
        part = _line(rows, estimator, "variance")
        quantity = "coverage(variance) of normal intervals, nominally 0.95"
        yield coverage_row("T5", estimator, quantity, part, VARIANCE_COVERAGE, max_width=width / 2, family=len(REGULAR))


def _tests(rows: pd.DataFrame, width: float) -> Iterator[Row]:
    """Judge size and coverage of the inference made for the boundary."""
    null = rows[(rows["parameter"] == "p_value") & (rows["distance"] == 0)]
    size = f"n = {rows['n'].max()}"
    rejected = null["estimate"] <= 1 - LEVEL
    yield share_row("T5", "scale_test", f"size of the 5 % test, {size}", rejected, 1 - LEVEL, max_width=width)
    accepted = rows[rows["parameter"] == "accepted"]
    for distance, part in accepted.groupby("distance"):
        quantity = f"coverage(scale) {distance:g} se(variance) from zero, {size}"
        family = accepted["distance"].nunique()
        yield share_row("T5", "scale_interval", quantity, part["estimate"] == 1, LEVEL, max_width=width, family=family)
