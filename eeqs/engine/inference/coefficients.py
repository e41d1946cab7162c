"""Estimates with a covariance: what a fit, functions of its parameters and contrasts of fits have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.inference.bands import Band, sup_t
from eeqs.engine.inference.delta import Linearisation, by_names, linearise
from eeqs.engine.inference.hypothesis import HypothesisTest
from eeqs.engine.inference.reference import quantile, surprisal, two_sided
from eeqs.engine.inference.table import Summary, format_number
from eeqs.engine.inference.wald import restrictions, wald_test

if TYPE_CHECKING:
    from typing import Self

    from matplotlib.axes import Axes

__all__ = ["Coefficients", "DerivedEstimate"]


class Coefficients:
    """Base of everything with estimates (p,), their covariance (p, p), names, and a reference distribution.

    A frozen dataclass that inherits provides the attributes below, `_point` and `_title`.
    """

    covariance: Tensor
    names: tuple[str, ...]
    df: float | None

    def _point(self) -> Tensor:
        """Estimates (p,)."""
        raise NotImplementedError

    def _title(self) -> str:
        """Heading of the summary."""
        raise NotImplementedError

    def _estimable(self) -> np.ndarray:
        """Which coordinates are estimable, bool (p,)."""
        return np.ones(len(self.names), dtype=bool)

    def require_estimable(self, gradients: Tensor) -> None:
        """Raise `NotEstimableError` unless the functionals with these gradients (m, p) are estimable."""

    @cached_property
    def params(self) -> pd.Series:
        """Estimates (p,)."""
        return self._series(self._point().numpy(force=True), "params")

    @cached_property
    def bse(self) -> pd.Series:
        """Standard errors (p,); NaN where a parameter is not estimable."""
        variance = np.where(self._estimable(), self.covariance.diagonal().numpy(force=True), np.nan)
        with np.errstate(invalid="ignore"):  # a two-way clustered variance may be negative, and is then NaN
            return self._series(np.sqrt(variance), "bse")

    def cov_params(self) -> pd.DataFrame:
        """Covariance matrix of the estimates (p, p); rows and columns of what is not estimable are NaN."""
        known = self._estimable()
        matrix = np.where(known & known[:, None], self.covariance.numpy(force=True), np.nan)
        return pd.DataFrame(matrix, index=list(self.names), columns=list(self.names))

    @property
    def use_t(self) -> bool:
        """Whether intervals and p-values use a t and not a normal distribution."""
        return self.df is not None

    @property
    def tvalues(self) -> pd.Series:
        """Estimates over their standard errors (p,)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._series(self.params.to_numpy() / self.bse.to_numpy(), "tvalues")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of ``params == 0`` (p,), normal or, with degrees of freedom, t."""
        return self._series(two_sided(self.tvalues.to_numpy(), self.df), "pvalues")

    @property
    def svalues(self) -> pd.Series:
        """S-values (p,), bits against ``params == 0``: minus log2 of the p-values (Greenland 2019, Am. Stat. 73)."""
        return self._series(surprisal(self.tvalues.to_numpy(), self.df), "svalues")

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return intervals of level ``1 - alpha``, normal or t: a frame with columns 0 (lower) and 1 (upper)."""
        half = quantile(alpha, self.df) * self.bse
        return pd.DataFrame({0: self.params - half, 1: self.params + half})

    def with_df(self, df: float | None) -> Self:
        """Return a copy that uses a t (and F) distribution with ``df`` degrees of freedom, or the normal for None.

        Customary choices are ``fit.with_df(fit.df_resid)``, observations minus parameters, and
        ``fit.with_df(fit.df_clusters)``, clusters minus one (Bester, Conley & Hansen 2011; Cameron & Miller 2015).
        Where every parameter has its own, as with Fay-Graubard, take one copy a parameter.
        """
        if df is not None and not df > 0:
            raise ValueError(f"df is {df}; pass a positive number of degrees of freedom, or None for the normal.")
        return replace(self, df=None if df is None or np.isinf(df) else float(df))  # type: ignore[type-var]

    def wald(self, hypothesis: Any, value: Any = 0.0) -> HypothesisTest:
        r"""Joint Wald test of :math:`R \theta = r`.

        Parameters
        ----------
        hypothesis : array of shape (m, p) or (p,), str, sequence of str, or mapping
            The matrix R; or the names of the parameters tested; or a mapping of names to their values.
        value : float or array of shape (m,)
            The right-hand side r, unless a mapping gives it.

        Returns
        -------
        HypothesisTest
            Chi-square with m degrees of freedom; with ``df``, the quadratic form divided by m against F(m, df).

        Raises
        ------
        ValueError
            If R has dependent rows, or its covariance is singular.
        NotEstimableError
            If a restriction is on what the equations do not identify.
        """
        matrix, right = restrictions(hypothesis, value, self.names)
        self.require_estimable(torch.from_numpy(matrix).to(self.covariance.device))
        point, covariance = self._point().numpy(force=True), self.covariance.numpy(force=True)
        return wald_test(point, covariance, matrix, right, self.df)

    def delta(self, function: Callable[[Any], Any], *, named: bool = False) -> DerivedEstimate:
        r"""Estimates and covariance of functions of the parameters by the delta method.

        For :math:`h(\hat\theta)` the covariance is :math:`H V H^\top`, H the Jacobian of h by reverse-mode automatic
        differentiation.

        Parameters
        ----------
        function : callable
            From the parameters, a tensor (p,), to a scalar, a vector (m,), or a mapping of names to scalars, in torch
            operations. What it reads of the data counts as fixed; stack an equation for what is estimated.
        named : bool
            Pass a dictionary of scalars by parameter name instead of the vector.

        Returns
        -------
        DerivedEstimate
            With the same reference distribution.

        Raises
        ------
        ValueError
            If the function returns something else, or its value or gradient is not finite, or a gradient is zero.
        NotEstimableError
            If it depends on what the equations do not identify.
        """
        return self._derived(linearise(by_names(function, self.names) if named else function, self._point()))

    def _derived(self, lines: Linearisation) -> DerivedEstimate:
        self.require_estimable(lines.gradient)
        covariance = lines.gradient @ self.covariance @ lines.gradient.mT
        return DerivedEstimate(lines.value, (covariance + covariance.mT) / 2, lines.names, self.df, "delta method")

    def simultaneous(self, alpha: float = 0.05, *, seed: int | np.random.SeedSequence = 0) -> Band:
        """Sup-t band: intervals that cover all estimates together with probability ``1 - alpha``.

        For a band of functions or contrasts, take it of ``fit.delta(function)``.

        Parameters
        ----------
        alpha : float
        seed : int or SeedSequence
            Scrambles the quasi-random directions over which the critical value is averaged.

        Returns
        -------
        Band
            Its ``error`` is the standard error of that average, below 2e-3 for 60 estimates and less for fewer.

        Raises
        ------
        ValueError
            If no estimate has a positive standard error.
        """
        error = self.bse.to_numpy()
        kept = np.isfinite(error) & (error > 0)
        if not kept.any():
            raise ValueError("no estimate has a positive standard error, so there is no band.")
        size = error[kept]
        correlation = self.covariance.numpy(force=True)[np.ix_(kept, kept)] / np.outer(size, size)
        critical, accuracy = sup_t(correlation, alpha, self.df, seed)
        half = critical * self.bse
        interval = pd.DataFrame({0: self.params - half, 1: self.params + half})
        bonferroni = quantile(alpha / len(size), self.df)
        return Band(interval, critical, accuracy, quantile(alpha, self.df), bonferroni)

    def summary(self, alpha: float = 0.05, *, svalues: bool = False) -> Summary:
        """Table of estimates; print it, or take its ``as_text()``, ``as_html()`` or ``as_latex()``.

        Parameters
        ----------
        alpha : float
            Level of the intervals is ``1 - alpha``.
        svalues : bool
            Add a column of S-values.
        """
        interval = self.conf_int(alpha)
        statistic = "t" if self.use_t else "z"
        headers = ["coef", "std err", statistic, f"P>|{statistic}|", f"[{alpha / 2:.3g}", f"{1 - alpha / 2:.3g}]"]
        columns = [self.params, self.bse, self.tvalues, self.pvalues, interval[0], interval[1]]
        decimals = [4, 4, 3, 3, 4, 4]
        if svalues:
            headers, columns, decimals = [*headers, "bits"], [*columns, self.svalues], [*decimals, 3]
        known = self._estimable()
        cells = [
            [format_number(float(c.iloc[j]), d) for c, d in zip(columns, decimals, strict=True)]
            if known[j]
            else [format_number(float(self.params.iloc[j]), 4), "not estimable", *[""] * (len(headers) - 2)]
            for j in range(len(self.names))
        ]
        return Summary(self._title(), headers, list(self.names), cells)

    def plot_coefficients(self, ax: Axes | None = None, *, alpha: float = 0.05, names: Any = None) -> Axes:
        """Forest plot of the estimates with their intervals; see `eeqs.engine.inference.plots.plot_coefficients`."""
        from eeqs.engine.inference.plots import plot_coefficients

        return plot_coefficients(self, ax, alpha=alpha, names=names)

    def __str__(self) -> str:
        return str(self.summary())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>\n{self}"

    def _repr_html_(self) -> str:
        return self.summary().as_html()

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        return pd.Series(values, index=self._index, name=name)

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(list(self.names))  # once: it costs as much as a Newton step of a small fit


@dataclass(frozen=True, repr=False)
class DerivedEstimate(Coefficients):
    """Functions of parameters, or contrasts of fits, with their joint covariance.

    Attributes
    ----------
    theta : Tensor of shape (m,)
        Values.
    covariance : Tensor of shape (m, m)
    names : tuple of str
    df : float or None
        Degrees of freedom of the reference distribution, None for the normal.
    origin : str
        How the covariance was found, for the summary.
    """

    theta: Tensor
    covariance: Tensor
    names: tuple[str, ...]
    df: float | None = None
    origin: str = ""

    def _point(self) -> Tensor:
        return self.theta

    def _title(self) -> str:
        return self.origin
