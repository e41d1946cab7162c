"""From a root to a table: estimates, standard errors, intervals, influence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from eeqs.engine.covariance import CovarianceKind, Root, as_covariance, spread
from eeqs.engine.data import Data
from eeqs.engine.door import as_problem
from eeqs.engine.errors import SolverError, Status
from eeqs.engine.evaluate import Problem
from eeqs.engine.linalg import invert, pseudo_inverse
from eeqs.engine.psi import PsiLike
from eeqs.engine.solve import Solution, solve_problem

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True)
class Estimate:
    r"""A solved estimating equation with its sandwich covariance, in the conventions of statsmodels.

    Attributes
    ----------
    solution : Solution
        What the solver returned.
    bread, meat, covariance : Tensor of shape (p, p)
        A, B and :math:`A^{-1} B A^{-\top} / n`.
    inverse : Tensor of shape (p, p)
        :math:`A^{-1}`, or a generalised inverse after ``minimum_norm=True``.
    names : tuple of str
        Parameter names.
    nobs : float
        Observations: rows, or the sum of their frequency weights.
    cov_type : str
        The covariance used, for instance "HC1" or "CR1(firm)".
    problem : Problem
        The estimating function bound to its data, for `influence`.
    null : Tensor of shape (p, k) or None
        After ``minimum_norm=True``, a basis of the directions that the equations do not identify.
    """

    solution: Solution
    bread: Tensor
    meat: Tensor
    covariance: Tensor
    inverse: Tensor
    names: tuple[str, ...]
    nobs: float
    cov_type: str
    problem: Problem
    null: Tensor | None = None

    @cached_property
    def params(self) -> pd.Series:
        """Estimates."""
        return self._series(self.solution.theta, "params")

    @cached_property
    def bse(self) -> pd.Series:
        """Standard errors."""
        return self._series(self.covariance.diagonal().sqrt(), "bse")

    def cov_params(self) -> pd.DataFrame:
        """Covariance matrix of the estimates (p, p)."""
        return pd.DataFrame(self.covariance.cpu().numpy(), index=self.names, columns=self.names)

    @property
    def tvalues(self) -> pd.Series:
        """Estimates over their standard errors."""
        return (self.params / self.bse).rename("tvalues")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of ``params == 0`` from the normal distribution."""
        return pd.Series(2 * stats.norm.sf(np.abs(self.tvalues)), index=self.params.index, name="pvalues")

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return normal intervals of level ``1 - alpha``: a frame with columns 0 (lower) and 1 (upper)."""
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}; pass a number between 0 and 1, such as 0.05 for 95 % intervals.")
        half = stats.norm.isf(alpha / 2) * self.bse
        return pd.DataFrame({0: self.params - half, 1: self.params + half})

    def influence(self) -> pd.DataFrame:
        r"""Empirical influence of every observation (n, p): :math:`-A^{-1} \psi_i(\hat\theta)`.

        Dropping observation i moves the estimate by about minus its row divided by n; the mean of the outer
        products of the rows, divided by n, is the HC0 covariance.
        """
        rows = -self.problem.values(self.solution.theta) @ self.inverse.mT
        return pd.DataFrame(rows.cpu().numpy(), index=self.problem.index, columns=list(self.names))

    def summary(self, alpha: float = 0.05) -> Any:
        """Table of estimates; print it, or take its ``as_text()``, ``as_html()`` or ``as_latex_tabular()``."""
        from statsmodels.iolib.table import SimpleTable

        interval = self.conf_int(alpha)
        header = ["coef", "std err", "z", "P>|z|", f"[{alpha / 2:.3g}", f"{1 - alpha / 2:.3g}]"]
        columns = (self.params, self.bse, self.tvalues, self.pvalues, interval[0], interval[1])
        formats = ("{:.4f}", "{:.4f}", "{:.3f}", "{:.3f}", "{:.4f}", "{:.4f}")
        cells = [[_format(f, c.iloc[j]) for f, c in zip(formats, columns, strict=True)] for j in range(len(self.names))]
        title = f"n = {self.nobs}, covariance {self.cov_type}, {self.solution.status}"
        return SimpleTable(cells, headers=header, stubs=list(self.names), title=title)

    def __str__(self) -> str:
        return str(self.summary())

    def _series(self, tensor: Tensor, name: str) -> pd.Series:
        return pd.Series(tensor.cpu().numpy(), index=list(self.names), name=name)


def _format(pattern: str, value: float) -> str:
    """Format with fixed decimals where they show three digits, else scientific: nothing prints as 0.0000."""
    fixed = pattern.format(value)
    return fixed if value == 0 or abs(value) >= 0.05 or "3f" in pattern else f"{value:.3e}"


def estimate(
    psi: PsiLike,
    data: Data,
    theta0: Any = None,
    cov: str | CovarianceKind = "HC0",
    *,
    tolerance: float = 1e-9,
    max_iterations: int = 100,
    throw: bool = True,
    minimum_norm: bool = False,
) -> Estimate:
    """Solve an estimating equation and attach its sandwich covariance.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        ``psi(theta, data) -> (n,) or (n, p)``.
    data : DataFrame, mapping of columns, or tuple of arrays
        One leading axis n.
    theta0 : array of shape (p,), optional
        Starting values; defaults to the start of psi.
    cov : str or CovarianceKind
        "HC0", "HC1", or an object such as ``Cluster("firm")``.
    tolerance, max_iterations
        As in `eeqs.solve`.
    throw : bool
        Raise when the solve fails (the default here, for a standard error away from a root means nothing).
        With False the result carries the failed status and NaN covariances.
    minimum_norm : bool
        Accept parameters that are not identified; see `eeqs.solve`. Standard errors of those that are not are NaN.

    Returns
    -------
    Estimate

    Raises
    ------
    DataError, PsiError
        On bad input.
    SolverError
        If the equation was not solved.
    SingularBreadError
        If the parameters are not identified; the message names them.
    """
    kind = as_covariance(cov)
    problem = as_problem(psi, data, groups=kind.groups)
    solution = solve_problem(
        problem, theta0, tolerance=tolerance, max_iterations=max_iterations, minimum_norm=minimum_norm
    )
    theta = solution.theta
    names = problem.names(theta.shape[0])
    if solution.status not in (Status.CONVERGED, Status.SINGULAR):
        if throw:
            raise SolverError(solution.status.text)
        missing = torch.full((len(theta), len(theta)), torch.nan, dtype=theta.dtype, device=theta.device)
        return Estimate(solution, missing, missing, missing, missing, names, problem.total(), kind.label, problem)
    root = Root(problem, theta, names)
    jacobian = root.bread if solution.jacobian is None else solution.jacobian
    inverse, null = pseudo_inverse(jacobian) if minimum_norm else (invert(jacobian, names), None)
    middle = kind.meat(root)
    variance = spread(inverse, middle, root.n)
    return Estimate(solution, jacobian, middle, variance, inverse, names, root.n, kind.label, problem, null)
