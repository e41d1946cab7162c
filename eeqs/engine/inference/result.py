"""A solved estimating equation with its covariance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.evaluate import Problem
from eeqs.engine.inference.coefficients import Coefficients
from eeqs.engine.inference.delta import by_names, linearise
from eeqs.engine.inference.estimable import estimable, require_estimable
from eeqs.engine.solve import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eeqs.engine.inference.influence import LeaveOneOut

__all__ = ["Estimate"]


@dataclass(frozen=True, repr=False)
class Estimate(Coefficients):
    r"""A solved estimating equation with its sandwich covariance, in the conventions of statsmodels.

    Attributes
    ----------
    solution : Solution
        What the solver returned; ``solution.theta`` is (p,).
    bread, meat, covariance : Tensor of shape (p, p)
        A, B and :math:`A^{-1} B A^{-\top} / n`.
    inverse : Tensor of shape (p, p)
        :math:`A^{-1}`, or a generalised inverse after ``minimum_norm=True``.
    names : tuple of str
        Parameter names, p of them.
    nobs : float
        Observations: rows, or the sum of their frequency weights.
    cov_type : str
        The covariance used, for instance "HC1" or "CR1(firm)".
    problem : Problem or None
        The estimating function bound to its data, for what needs rows; None after `eeqs.load`.
    null : Tensor of shape (p, k) or None
        After ``minimum_norm=True``, a basis of the directions that the equations do not identify.
    df : float or None
        Degrees of freedom of the t and F reference distributions, None for normal and chi-square; see `with_df`.
    groups : tuple
        Cluster labels of the covariance, each a column name or an array (n,).
    saved_influence : DataFrame of shape (n, p) or None
        Influence read back by `eeqs.load`.
    """

    solution: Solution
    bread: Tensor
    meat: Tensor
    covariance: Tensor
    inverse: Tensor
    names: tuple[str, ...]
    nobs: float
    cov_type: str
    problem: Problem | None
    null: Tensor | None = None
    df: float | None = None
    groups: tuple[Any, ...] = ()
    saved_influence: pd.DataFrame | None = None

    def _point(self) -> Tensor:
        return self.solution.theta

    def _title(self) -> str:
        reference = "" if self.df is None else f", t({self.df:g})"
        numerical = self.problem is not None and self.problem.psi.numerical
        derivatives = ", derivatives by differences" if numerical else ""
        return f"n = {self.nobs:.12g}, covariance {self.cov_type}{reference}{derivatives}, {self.solution.status}"

    def _singular(self) -> bool:
        return self.null is not None and self.null.shape[1] > 0

    def _estimable(self) -> np.ndarray:
        if not self._singular():
            return super()._estimable()
        known: np.ndarray = estimable(self.bread, torch.eye(len(self.names)).to(self.bread)).numpy(force=True)
        return known

    def require_estimable(self, gradients: Tensor) -> None:
        """Raise `NotEstimableError` unless the functionals with these gradients (m, p) are estimable."""
        if self._singular():
            require_estimable(self.bread, gradients, self.names)

    def data(self) -> Problem:
        """Return the estimating function bound to its data; raise `DataError` where a file held only the results."""
        if self.problem is None:
            raise DataError(
                "this fit was loaded from a file, which holds no data; estimate again for what needs rows, or save "
                "with influence=True for its influence."
            )
        return self.problem

    @property
    def df_resid(self) -> float:
        """Observations minus parameters."""
        return self.nobs - len(self.names)

    @property
    def df_clusters(self) -> float:
        """Clusters minus one; with several sets of labels, of the one with the fewest (Cameron et al. 2011)."""
        if not self.groups:
            raise ValueError(f"the covariance {self.cov_type} has no clusters; use df_resid.")
        highest = [0] * len(self.groups)
        for rows in self.data().blocks(self.groups):
            highest = [max(most, int(codes.max())) for most, codes in zip(highest, rows.codes, strict=True)]
        return float(min(highest))

    def influence(self) -> pd.DataFrame:
        r"""Empirical influence of every observation (n, p): :math:`-A^{-1} \psi_i(\hat\theta)`.

        Dropping observation i moves the estimate by about minus its row divided by n; the mean of the outer
        products of the rows, divided by n, is the HC0 covariance. Where parameters are not identified only
        `influence_of` an estimable function has a meaning.
        """
        if self.problem is None and self.saved_influence is not None:
            return self.saved_influence
        problem = self.data()
        rows = -problem.values(self.solution.theta) @ self.inverse.mT
        return pd.DataFrame(rows.numpy(force=True), index=problem.index, columns=list(self.names))

    def influence_of(self, function: Callable[[Any], Any], *, named: bool = False) -> pd.DataFrame:
        r"""Influence of every observation on functions of the parameters (n, m): :math:`-H A^{-1} \psi_i`.

        Parameters and errors as in `delta`.
        """
        lines = linearise(by_names(function, self.names) if named else function, self._point())
        self.require_estimable(lines.gradient)
        rows = self.influence()
        values = rows.to_numpy() @ lines.gradient.numpy(force=True).T
        return pd.DataFrame(values, index=rows.index, columns=list(lines.names))

    def leave_one_out(self) -> LeaveOneOut:
        """Approximate the estimates without each row; see `eeqs.engine.inference.influence.leave_one_out`."""
        from eeqs.engine.inference.influence import leave_one_out

        return leave_one_out(self)

    def save(self, path: str | Path, *, influence: bool = False) -> None:
        """Write to a JSON file that `eeqs.load` reads; see `eeqs.engine.inference.persist.save`."""
        from eeqs.engine.inference.persist import save

        save(self, path, influence=influence)

    def plot_influence(self, ax: Axes | None = None, *, label: int = 3) -> Axes:
        """Distance that leaving each row out moves the estimates; see `eeqs.engine.inference.plots.plot_influence`."""
        from eeqs.engine.inference.plots import plot_influence

        return plot_influence(self, ax, label=label)
