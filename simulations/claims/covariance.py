r"""Claim T6 judged on the table of the study ``covariance``.

Predictions, made before a run. The error of :math:`\hat\Sigma` falls as :math:`n^{-1/2}` whatever the columns of the
factor; that of the factor does not fall, for its rotation is left to the start. After the best rotation it falls as
:math:`n^{-1/2}` where the factor has no more columns than :math:`\Sigma` has rank, or the rank is d. Where q > r < d,
what the factor holds outside the range of :math:`\Sigma`, the surplus, falls as :math:`n^{-1/4}` only. The bread at the
truth has :math:`d q - d r + r (r - 1) / 2` free directions.

Inside the cone intervals for all entries of :math:`\Sigma` cover. On its boundary those for the variance along the
range still do, and the block outside the range, of two dimensions with r = 1 and d = 3, is :math:`s^2 n^{-1/2} W_+`
with W a symmetric normal matrix of variances 2 on and 1 off the diagonal, whose eigenvalues are :math:`m \pm \rho` with
m standard normal and :math:`\rho` Rayleigh, so that

.. math:: E\, \mathrm{tr}\, W_+ = E |m + \rho| = \frac{2}{\sqrt{2 \pi}} + \frac{\sqrt{2 \pi}}{4} = 1.4245.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import pi, sqrt

import numpy as np
import pandas as pd
from scipy.stats import norm

from simulations.claims.rows import ERROR, Bounds, Row, coverage_row, frame, mean_row, point_row, share_row, slope_row
from simulations.rates import Interval
from simulations.schema import CONVERGED

__all__ = ["MODELS", "OUTSIDE", "judge"]

MODELS = ("rank=3,q=3", "rank=3,q=6", "rank=1,q=1", "rank=1,q=3")
"""Models by true rank and columns of the factor."""
OUTSIDE = 2 / sqrt(2 * pi) + sqrt(2 * pi) / 4
"""Mean trace of the positive part of the limiting matrix, two by two."""

_INSIDE = ("rank=3,q=3", "rank=3,q=6", "rank=1,q=1")
_BOUNDARY = "rank=1,q=3"
_ROTATED = ("rank=3,q=3", "rank=3,q=6", "rank=1,q=3")
_SURE = 0.98


def judge(
    table: pd.DataFrame,
    *,
    burn_in: int,
    level_from: int,
    noise: Mapping[str, float],
    max_width: float,
    level_width: float,
) -> pd.DataFrame:
    """Return the rows of T6, with columns `simulations.study.VERDICT_COLUMNS`.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    burn_in : int
        Smallest n of slopes.
    level_from : int
        Smallest n of coverages and levels.
    noise : mapping of str to float
        Known standard deviation of the kernel, by model.
    max_width, level_width : float
        Widest interval of a slope, and of a coverage, that supports its claim. That of the mean trace may be ten times
        as wide as that of a coverage.
    """
    models = {key: _model(table, key) for key in MODELS}
    roots = {key: rows[rows["quantity"] == "root"] for key, rows in models.items()}
    past = {key: rows[rows["n"] >= level_from] for key, rows in roots.items()}
    return frame(
        [
            *_slopes(roots, burn_in, max_width),
            *_coverage(past, level_width),
            _outside(past[_BOUNDARY], noise[_BOUNDARY], 10 * level_width),
            *_expected(models),
            *_identified(past),
            *_failures(past),
        ]
    )


def _model(table: pd.DataFrame, key: str) -> pd.DataFrame:
    rank, columns = (int(part.split("=")[1]) for part in key.split(","))
    return table[(table["rank"] == rank) & (table["columns"] == columns)]


def _of(rows: pd.DataFrame, parameter: str) -> pd.DataFrame:
    return rows[rows["parameter"] == parameter]


def _slopes(roots: Mapping[str, pd.DataFrame], burn_in: int, max_width: float) -> Iterator[Row]:
    claims = [
        ("sigma", MODELS, -1 / 2),
        ("factor", _ROTATED, 0.0),
        ("aligned_factor", _INSIDE, -1 / 2),
        ("surplus", (_BOUNDARY,), -1 / 4),
    ]
    family = sum(len(models) for _, models, _ in claims)
    for name, models, predicted in claims:
        for key in models:
            part, quantity = _of(roots[key], name), f"slope of RMSE({name}) in n >= {burn_in}"
            yield slope_row("T6", key, quantity, part, predicted, burn_in=burn_in, max_width=max_width, family=family)


def _coverage(past: Mapping[str, pd.DataFrame], width: float) -> Iterator[Row]:
    """Judge the mean over replicates of the share of entries covered, which are dependent within a replicate."""
    for key in _INSIDE:
        covered = _covered(past[key][past[key]["parameter"].str.startswith("sigma[")])
        if covered.std() == 0:  # without a spread there is no Student interval
            covered = covered.iloc[:0]
        quantity = "coverage of the entries of sigma"
        yield mean_row("T6", key, quantity, covered, 0.95, max_width=width, family=len(MODELS))
    along, quantity = _of(past[_BOUNDARY], "along"), "coverage of the variance along the range"
    yield coverage_row("T6", _BOUNDARY, quantity, along, max_width=width, family=len(MODELS))


def _covered(rows: pd.DataFrame) -> pd.Series:
    good = rows[rows["status"] == CONVERGED]
    hits = (good["estimate"] - good["truth"]).abs() <= norm.ppf(0.975) * good["se"]
    return hits.groupby([good["n"], good["replicate"]]).mean()


def _outside(rows: pd.DataFrame, noise: float, width: float) -> Row:
    part = _of(rows, "surplus")
    part = part[part["status"] == CONVERGED]
    standardised = part["estimate"] ** 2 * np.sqrt(part["n"]) / noise**2
    quantity = "mean of n^1/2 / s^2 times the variance outside the range"
    return mean_row("T6", _BOUNDARY, quantity, standardised, OUTSIDE, max_width=width)


def _expected(models: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    """Compare dimensions, which are known without error."""
    for key, rows in models.items():
        found = rows[rows["quantity"] == "expected_bread"].iloc[0]
        exactly = Interval(found["estimate"], found["estimate"], found["estimate"], 0.0)
        yield point_row("T6", key, "free directions of the expected bread", exactly, found["truth"], 0.0)


def _identified(past: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    """Judge that every sample shows what is free, and that entries of the factor are refused where they are."""
    family = len(_INSIDE) + len(MODELS)
    for key in _INSIDE:
        found = _of(past[key], "free_directions")
        hits, quantity = found["estimate"] == found["truth"], "share of samples whose bread has the free directions"
        yield share_row("T6", key, quantity, hits, Bounds(at_least=_SURE), family=family)
    for key in MODELS:
        found = _of(past[key], "refused")
        found = found[found["status"] == CONVERGED]
        refused = bool((found["truth"] == 1).all())
        bounds = Bounds(at_least=_SURE) if refused else Bounds(at_most=1 - _SURE)
        quantity = f"share of samples that refuse factor[0,0], at {'least' if refused else 'most'}"
        yield share_row("T6", key, quantity, found["estimate"] == 1, bounds, family=family)


def _failures(past: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    for key, rows in past.items():
        failed = _of(rows, "sigma")["status"] != CONVERGED
        yield share_row("T6", key, "share of failures, below", failed, Bounds(at_most=ERROR), family=len(past))
