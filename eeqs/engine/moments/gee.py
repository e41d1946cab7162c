r"""Generalised estimating equations for clustered responses (Liang & Zeger 1986, Biometrika 73)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.data import Leaves, cluster_codes, text_columns
from eeqs.engine.errors import DataError
from eeqs.engine.evaluate import Problem
from eeqs.engine.moments.correlations import AR1, Correlation, Exchangeable, Independence, Layout
from eeqs.engine.moments.design import (
    Regression,
    offset_of,
    regression_columns,
    regression_names,
    stack_regression,
    weighted,
)
from eeqs.engine.moments.families import Family, gaussian
from eeqs.engine.moments.formula import with_formula
from eeqs.engine.psi import EstimatingFunction, from_linear_index
from eeqs.engine.solve import solve_problem

__all__ = ["gee"]

# A start further from zero is no better, and one at a bound has a singular working correlation.
_STRONGEST_START = 0.9
_EXCHANGEABLE = Exchangeable()


# Response, design and offset; cluster labels (n,), places of the rows in the order of clusters and times, and times.
Clustered: TypeAlias = tuple[Regression, Tensor, Tensor, Tensor]


@with_formula
def gee(
    y: str,
    x: Sequence[str],
    groups: str,
    *,
    family: Family = gaussian,
    correlation: Correlation | Independence = _EXCHANGEABLE,
    intercept: bool = True,
    offset: str | None = None,
    weights: str | None = None,
    expected_bread: bool = True,
) -> EstimatingFunction:
    r"""Regression of clustered responses with a working correlation, jointly with its dispersion and correlation.

    With :math:`\eta = x^\top \beta + o`, standardised residuals :math:`r = (y - \mu(\eta)) / v(\eta)^{1/2}`,
    :math:`d = d\mu / d\eta`, clusters g and their working correlation :math:`R_g(\alpha)`,

    .. math:: \psi_i = \Big( \frac{d_i}{v_i^{1/2}}\, (R_g^{-1} r_g)_i\, x_i,\quad
              r_i^2 - \frac{n - p}{n}\, \phi,\quad
              \sum_{j} r_i r_j - \frac{m - p}{m}\, \phi \sum_j \rho_{ij}(\alpha) \Big),

    the last sum over the pairs that belong to row i, :math:`\rho_{ij}` their correlation under R. There are n rows, p
    coefficients and m pairs: all pairs of a cluster under `Exchangeable`, neighbours in time under `AR1`. So
    :math:`\hat\phi` and :math:`\hat\alpha` are the moment estimators of Liang & Zeger (1986, section 4), with their
    :math:`n - p` and :math:`m - p`; `Independence` has neither. Parameters are the coefficients, ``dispersion`` and
    ``correlation``.

    The rows of a cluster sum to its term of the equations: estimate with ``cov=eeqs.Cluster(groups, "CR0")``, or
    another kind of clustered covariance. Covariances of independent rows are wrong.

    Parameters
    ----------
    y : str
        Response column.
    x : sequence of str
        Regressor columns.
    groups : str
        Column of cluster labels, of any type. Rows of a cluster need not be adjacent.
    family : Family
        ``gaussian``, ``binomial`` (logit link) or ``poisson`` (log link) of `eeqs.moments.families`, or your own.
    correlation : Correlation
        ``Independence()``, ``Exchangeable()`` or ``AR1("time")`` of `eeqs.moments.correlations`, or your own.
    intercept : bool
        Put a constant, named ``Intercept``, first.
    offset : str, optional
        Column added to the index.
    weights : str, optional
        Column of probability weights, constant within clusters; see `eeqs.weight`.
    expected_bread : bool
        Whether the bread of :math:`\beta` is :math:`-n^{-1} \sum_g D_g^\top V_g^{-1} D_g`, the expectation of the
        derivative when the mean is right, as Liang & Zeger and all software have it. With False it is the derivative
        itself, valid also when the mean is misspecified, and `eeqs.check_jacobian` agrees with it.

    Raises
    ------
    DataError
        When solved on responses outside the range of the family; for a correlation, on no more pairs of rows than
        coefficients; for `AR1`, on times that are not distinct whole numbers within clusters.

    Notes
    -----
    Time and memory are linear in n (but for sorting), whatever the sizes of clusters. The moment estimate of an
    exchangeable correlation can be below :math:`-1 / (n_g - 1)`, where R is no correlation matrix; the equations remain
    unbiased.

    References
    ----------
    Liang & Zeger (1986) Biometrika 73; Prentice (1988) Biometrics 44, for the joint equations.
    """
    names = regression_names(x, intercept)
    independent = from_linear_index(
        lambda index, data: _independent_residual(family, expected_bread, index, data),
        lambda data: data[1],
        names=names,
        columns=regression_columns(y, x, offset),
        prepare=lambda leaves: stack_regression(leaves, y, x, intercept, _validate(y, family), offset),
        start=family.start,
    )
    if isinstance(correlation, Independence):
        return weighted(independent, weights)
    model = _Model(groups, independent, family, correlation, expected_bread)
    times = (correlation.time,) if correlation.time else ()
    psi = EstimatingFunction(
        model.psi,
        (*names, "dispersion", "correlation"),
        tuple(dict.fromkeys((*regression_columns(y, x, offset), groups, *times))),
        model.prepare,
        model.start,
        separable=False,
        encode=model.encode,
    )
    return weighted(psi, weights)


def _validate(y: str, family: Family) -> Callable[[Tensor], None]:
    def validate(response: Tensor) -> None:
        if not bool(family.possible(response).all()):
            raise DataError(f'response "{y}" has values that are not {family.range}.')

    return validate


def _independent_residual(family: Family, expected_bread: bool, index: Tensor, data: Regression) -> Tensor:
    """Residual (n,) over its variance and times the slope of the mean."""
    full = offset_of(index, data)
    fixed = full.detach() if expected_bread else full
    return family.slope(fixed) / family.variance(fixed) * (data[0] - family.mean(full))


@dataclass(frozen=True)
class _Model:
    """What does not depend on the data; ``independent`` is the psi without correlation."""

    groups: str
    independent: EstimatingFunction
    family: Family
    correlation: Correlation
    expected_bread: bool

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return len(self.independent.names)

    def encode(self, data: Any) -> Any:
        """Put numbers in the place of cluster labels that are text."""
        if not text_columns((self.groups,), data):
            return data
        codes = cluster_codes(data, self.groups).numpy()
        if isinstance(data, pd.DataFrame):
            return data.assign(**{self.groups: codes})
        return {**data, self.groups: codes} if isinstance(data, Mapping) else data

    def prepare(self, leaves: Leaves) -> Clustered:
        """Find the order of clusters and times, for (n,) or (R, n)."""
        assert isinstance(leaves, dict)  # noqa: S101 - for the type checker: named columns were asked for
        labels, time = leaves[self.groups], self.correlation.time
        places = torch.arange(labels.shape[-1], dtype=torch.float64, device=labels.device).expand_as(labels)
        times = places if time is None else leaves[time]
        by_time = times.argsort(dim=-1, stable=True)
        order = by_time.gather(-1, labels.gather(-1, by_time).argsort(dim=-1, stable=True))
        rank = order.argsort(dim=-1)
        if time is None:  # occasions are counted within clusters
            first = _first(labels.gather(-1, order))
            times = (places - torch.where(first, places, 0.0).cummax(dim=-1).values).gather(-1, rank)
        elif isinstance(self.correlation, AR1):
            self._check_times(labels.gather(-1, order), times.gather(-1, order))
        data = (self.independent.prepare(leaves), labels, rank, times)
        self._check_pairs(data)
        return data

    def _check_times(self, labels: Tensor, times: Tensor) -> None:
        gaps = times.diff(dim=-1)[~_first(labels)[..., 1:]]
        if bool(((gaps <= 0) | (gaps != gaps.round())).any()):
            raise DataError(
                f'times "{self.correlation.time}" must be whole numbers that differ within every cluster of '
                f'"{self.groups}"; number the occasions.'
            )

    def _check_pairs(self, data: Clustered) -> None:
        pairs, n = _mapped(self._pairs, data)(data), data[1].shape[-1]
        if min(float(pairs.min()), n) <= self.size:
            raise DataError(
                f'{n} rows with {float(pairs.min()):g} pairs within the clusters of "{self.groups}" cannot give a '
                f"correlation besides {self.size} coefficients; use Independence()."
            )

    def _pairs(self, data: Clustered) -> Tensor:
        """Count the pairs of rows from which the correlation is estimated."""
        zeros = torch.zeros_like(data[1])
        return self.correlation.pairs(zeros[0], zeros, _layout(data)[0]).number.sum()

    def psi(self, theta: Tensor, data: Clustered) -> Tensor:
        """Rows (n, p), with dispersion and correlation (n, p + 2)."""
        regression = data[0]
        index = offset_of(regression[1] @ theta[: self.size], regression)
        error = regression[0] - self.family.mean(index)
        fixed = index.detach() if self.expected_bread else index
        unit = self.family.variance(fixed).sqrt()
        layout, order, place = _layout(data)
        alpha = theta[-1]
        known = alpha.detach() if self.expected_bread else alpha
        solved = self.correlation.solve(known, (error / unit)[order], layout)[place]
        score = (self.family.slope(fixed) / unit * solved)[:, None] * regression[1]
        dispersion, residuals = theta[-2], error / self.family.variance(index).sqrt()
        found = self.correlation.pairs(alpha, residuals[order], layout)
        n, pairs = len(error), found.number.sum()
        spread = residuals.square() - (n - self.size) / n * dispersion
        excess = found.products - (pairs - self.size) / pairs * dispersion * found.correlations
        return torch.cat([score, torch.stack([spread, excess[place]], dim=1)], dim=1)

    def start(self, data: Clustered) -> Tensor:
        """Root under independence, with the moments of its residuals."""
        regression, labels = data[:2]
        replicates = None if labels.ndim == 1 else labels.shape[0]
        problem = Problem(self.independent, regression, labels.shape[-1], replicates, labels.device)
        beta = solve_problem(problem, None).theta
        return _mapped(self._with_moments, data)(beta, data)

    def _with_moments(self, beta: Tensor, data: Clustered) -> Tensor:
        """Append dispersion and correlation of the residuals at beta."""
        regression, layout, order = data[0], *_layout(data)[:2]
        index = offset_of(regression[1] @ beta, regression)
        residuals = (regression[0] - self.family.mean(index)) / self.family.variance(index).sqrt()
        found = self.correlation.pairs(beta[0], residuals[order], layout)
        dispersion = residuals.square().sum() / (len(residuals) - self.size)
        alpha = found.products.sum() / dispersion / (found.number.sum() - self.size)
        bounded = alpha.clamp(-_STRONGEST_START, _STRONGEST_START)
        return torch.cat([beta, torch.stack([dispersion, bounded])])


def _first(labels: Tensor) -> Tensor:
    """Whether sorted labels (..., n) begin a cluster."""
    return torch.cat([torch.ones_like(labels[..., :1]), labels.diff(dim=-1)], dim=-1) != 0


def _layout(data: Clustered) -> tuple[Layout, Tensor, Tensor]:
    """Layout of the rows sorted by cluster and time, their order (n,), and the place of every row in it (n,).

    It is found from what belongs to single rows, so that it holds for any subset of them.
    """
    _, labels, rank, times = data
    order = rank.argsort()
    first = _first(labels[order])
    codes = first.long().cumsum(0) - 1
    ones = torch.ones_like(times)
    gaps = torch.cat([torch.zeros_like(times[:1]), times[order].diff()])
    sizes = torch.zeros_like(ones).scatter_add(0, codes, ones).gather(0, codes)
    return Layout(codes, sizes, torch.where(first, 0.0, gaps)), order, order.argsort()


def _mapped(function: Callable[..., Tensor], data: Clustered) -> Callable[..., Tensor]:
    """Map a function of one data set over replicates, where there are some."""
    return function if data[1].ndim == 1 else torch.func.vmap(function)
