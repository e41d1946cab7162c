"""Random-effects meta-analysis and meta-regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.linear_index import Indices
from eeqs.engine.moments.design import Regression, regression_columns, regression_names, stack_regression
from eeqs.engine.psi import EstimatingFunction, from_linear_indices

__all__ = ["random_effects"]

# Steps towards the variance between studies; where there is none, the start is this share of the least within.
_STEPS, _LEAST_SHARE = 30, 1e-8


def random_effects(y: str, variance: str, x: Sequence[str] = ()) -> EstimatingFunction:
    r"""Meta-analysis with normal random effects of k studies, by empirical Bayes (Paule-Mandel).

    Study i has estimate :math:`y_i = x_i^\top \beta + u_i + e_i` with variance :math:`\tau^2` between studies and known
    :math:`v_i` within. With :math:`w_i = 1 / (v_i + \tau^2)` and q regression coefficients,

    .. math:: \psi_i = \Big( w_i\, (y_i - x_i^\top \beta)\, x_i,\
              w_i\, (y_i - x_i^\top \beta)^2 - \frac{k - q}{k} \Big).

    Parameters
    ----------
    y : str
        Column of study estimates.
    variance : str
        Column of their squared standard errors, positive.
    x : sequence of str
        Columns of moderators; none for a meta-analysis proper. A constant, named ``Intercept``, comes first.

    Raises
    ------
    DataError
        When solved on variances that are not positive, or no more studies than coefficients.

    Notes
    -----
    The last parameter is ``log(tau2)``. The second equation sets the generalised Cochran statistic
    :math:`Q(\tau^2) = \sum_i w_i (y_i - x_i^\top \hat\beta)^2` to its expectation :math:`k - q`. Q falls in
    :math:`\tau^2`, so the root is unique, and studies so homogeneous that :math:`Q(0) \le k - q` have none: log(tau2)
    runs to minus infinity. `eeqs.solve` then returns the status "stalled", with :math:`\beta` that of
    :math:`\tau^2 = 0`, and `eeqs.estimate` raises `SolverError`. The model to fit instead is that of fixed effects:
    least squares with weights :math:`1 / v_i`.

    Every row depends on the number of studies, so data cannot come in batches.

    References
    ----------
    Paule & Mandel (1982) Journal of Research of the National Bureau of Standards 87; Morris (1983) JASA 78;
    DerSimonian & Kacker (2007) Contemporary Clinical Trials 28.
    """
    names = regression_names(x, intercept=True)
    coefficients = len(names)

    def residuals(indices: Indices, data: Any) -> Indices:
        estimates, within = data[:2]
        studies = len(estimates)
        weight = 1 / (within + indices[1].exp())
        residual = estimates - indices[0]
        return weight * residual, weight * residual.square() - (studies - coefficients) / studies

    def prepare(leaves: Any) -> Regression:
        estimates, design = stack_regression(leaves, y, x, intercept=True)
        within = leaves[variance]
        if within.shape != estimates.shape:
            raise DataError(f'variance "{variance}" has shape {tuple(within.shape)}; it must be flat, as "{y}" is.')
        if bool((within <= 0).any()):
            raise DataError(f'variance "{variance}" has values of zero or less; it is a squared standard error.')
        return estimates, within, design, torch.ones_like(estimates).unsqueeze(-1)

    psi = from_linear_indices(
        residuals,
        lambda data: (data[2], data[3]),
        names=(*names, "log(tau2)"),
        columns=tuple(dict.fromkeys((*regression_columns(y, x), variance))),
        prepare=prepare,
        start=_start,
    )
    return replace(psi, separable=False)


def _start(data: Regression) -> Tensor:
    """Newton on Q from a variance of zero, which never passes the root, for Q is convex (DerSimonian & Kacker 2007)."""
    estimates, within, design = data[:3]
    degrees = estimates.shape[-1] - design.shape[-1]
    tau2 = torch.zeros_like(within[..., :1])
    for _ in range(_STEPS):
        root = (within + tau2).rsqrt()
        whitened = root * estimates
        beta = torch.linalg.lstsq(root.unsqueeze(-1) * design, whitened.unsqueeze(-1)).solution
        residual = whitened - root * (design @ beta).squeeze(-1)
        excess = residual.square().sum(dim=-1, keepdim=True) - degrees
        slope = (root * residual).square().sum(dim=-1, keepdim=True)
        tau2 = tau2 + torch.where(excess > 0, excess / slope, 0.0)
    least = _LEAST_SHARE * within.amin(dim=-1, keepdim=True)
    return torch.cat([beta.squeeze(-1), torch.maximum(tau2, least).log()], dim=-1)
