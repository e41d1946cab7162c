"""Profiles of the generalised score test over one parameter, and the confidence sets they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq

from eeqs.engine.covariance import CovarianceKind, as_covariance
from eeqs.engine.data import Data
from eeqs.engine.door import as_problem, as_theta, check_psi
from eeqs.engine.inference.reference import joint_pvalue, quantile
from eeqs.engine.inference.restricted import restriction
from eeqs.engine.inference.score import score_statistic
from eeqs.engine.psi import PsiLike

__all__ = ["Profile", "profile"]


@dataclass(frozen=True)
class Profile:
    """Restricted roots and score statistics over values of one parameter.

    Attributes
    ----------
    name : str
        The parameter.
    params : DataFrame of shape (k, p)
        Restricted roots, one row a value, indexed by the values in increasing order.
    statistic, pvalues : Series of shape (k,)
        Score statistic of every value, and its p-value from chi-square with one degree of freedom.
    """

    name: str
    params: pd.DataFrame
    statistic: pd.Series
    pvalues: pd.Series
    _at: Callable[[float, np.ndarray], tuple[np.ndarray, float]] = field(repr=False)

    def confidence_set(self, alpha: float = 0.05) -> pd.DataFrame:
        """Values that the score test does not reject at level ``alpha``: one row (0 lower, 1 upper) an interval.

        Ends are found between neighbouring values of the grid, where the statistic crosses its critical value. An
        interval that holds the first or last value of the grid has no end there: -inf or inf.

        Raises
        ------
        ValueError
            If every value of the grid is rejected; the root itself never is, so the grid is too coarse or elsewhere.
        """
        critical = quantile(alpha, None) ** 2
        inside = (self.statistic <= critical).to_numpy()
        if not inside.any():
            raise ValueError(f'every value of "{self.name}" on the grid is rejected; take a finer grid near the root.')
        edges = np.flatnonzero(np.diff(inside.astype(int)))
        crossings = [self._crossing(int(k), critical) for k in edges]
        ends = [*([-np.inf] if inside[0] else []), *crossings, *([np.inf] if inside[-1] else [])]
        return pd.DataFrame(np.reshape(ends, (-1, 2)))

    def _crossing(self, k: int, critical: float) -> float:
        """Where the statistic crosses its critical value between grid values k and k + 1."""
        low, high = self.statistic.index[[k, k + 1]]
        start = self.params.iloc[k].to_numpy()
        return float(brentq(lambda value: self._at(value, start)[1] - critical, low, high, xtol=1e-9 * (high - low)))


def profile(
    psi: PsiLike,
    data: Data,
    name: str,
    grid: Sequence[float] | np.ndarray,
    theta0: Any = None,
    cov: str | CovarianceKind = "HC0",
) -> Profile:
    """Solve the other equations with one parameter fixed at every value of a grid, and test each value by its score.

    The set of values that are not rejected is a confidence set that is invariant to the parameter's scale, may be
    asymmetric, in several parts or unbounded, and holds its level where Wald intervals break down, as for ratios and
    weak instruments.

    Parameters
    ----------
    psi, data, theta0, cov
        As in `score_test`.
    name : str
        The parameter.
    grid : sequence of float
        Its values, at least two and distinct.

    Raises
    ------
    SolverError
        If the equations have no root at a value of the grid, which the message gives.
    DataError, PsiError, ValueError
        On bad input.

    References
    ----------
    Boos (1992) The American Statistician 46; Anderson & Rubin (1949) for the case of instrumental variables.
    """
    values = np.unique(np.asarray(grid, dtype=np.float64))
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f'the grid of "{name}" has {len(values)} distinct value(s); pass two or more, all finite.')
    kind = as_covariance(cov)
    problem = as_problem(psi, data, groups=kind.groups)
    given = restriction(problem, {name: values[0]}, theta0)
    check_psi(problem, given.start, equations=len(given.start))

    def at(value: float, start: np.ndarray) -> tuple[np.ndarray, float]:
        near = torch.from_numpy(start.copy()).to(given.start).index_fill(0, given.fixed, float(value))
        held = replace(given, start=near)
        theta = held.solve()
        return theta.numpy(force=True), score_statistic(held, theta, kind)

    roots, statistics = _walk(at, values, as_theta(problem, theta0).numpy(force=True), given.names.index(name))
    index = pd.Index(values, name=name)
    statistic = pd.Series(statistics, index=index, name="statistic")
    pvalues = pd.Series([joint_pvalue(s, 1, None) for s in statistics], index=index, name="pvalues")
    return Profile(name, pd.DataFrame(roots, index=index, columns=list(given.names)), statistic, pvalues, at)


def _walk(
    at: Callable[[float, np.ndarray], tuple[np.ndarray, float]], values: np.ndarray, origin: np.ndarray, position: int
) -> tuple[np.ndarray, np.ndarray]:
    """Visit the values outwards from the one closest to the start, each from the root of its neighbour."""
    roots, statistics = np.full((len(values), len(origin)), np.nan), np.full(len(values), np.nan)
    first = int(np.abs(values - origin[position]).argmin())
    roots[first], statistics[first] = at(values[first], origin)
    for k in range(first + 1, len(values)):
        roots[k], statistics[k] = at(values[k], roots[k - 1])
    for k in range(first - 1, -1, -1):
        roots[k], statistics[k] = at(values[k], roots[k + 1])
    return roots, statistics
