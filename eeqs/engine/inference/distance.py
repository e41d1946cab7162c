"""Distance (quasi-likelihood-ratio) tests of losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.covariance import CovarianceKind
from eeqs.engine.data import Data
from eeqs.engine.errors import SolverError
from eeqs.engine.evaluate import Problem
from eeqs.engine.inference.estimation import estimate
from eeqs.engine.inference.hypothesis import HypothesisTest
from eeqs.engine.inference.restricted import restriction
from eeqs.engine.inference.result import Estimate
from eeqs.engine.inference.weighted_chi2 import upper_tail
from eeqs.engine.linalg import equilibrate
from eeqs.engine.psi import from_loss

__all__ = ["distance_test"]

# Fall of the loss from the full to the restricted root, relative to their size, that is only rounding.
_ROUNDING = 1e-10


def distance_test(
    loss: Callable[[Tensor, Any], Tensor],
    data: Data,
    null: Mapping[str, float],
    theta0: Any,
    cov: str | CovarianceKind = "HC0",
    *,
    names: tuple[str, ...] = (),
    columns: tuple[str, ...] | None = None,
) -> HypothesisTest:
    r"""Test values of some parameters by the difference of losses, allowing for misspecification.

    .. math:: D = 2 \sum_i \{\ell_i(\tilde\theta) - \ell_i(\hat\theta)\}

    with :math:`\tilde\theta` the minimiser under the hypothesis. With H the mean Hessian of the loss and V the sandwich
    covariance, D is distributed as :math:`\sum_j w_j \chi^2_1`, w the eigenvalues of
    :math:`\{(H^{-1})_{22}\}^{-1} n V_{22}`, the block of the fixed parameters. All weights are one, and D is the
    likelihood-ratio statistic, when the loss is minus the log-likelihood of a correct model.

    Parameters
    ----------
    loss : callable
        ``loss(theta, data) -> (n,)``, twice differentiable, in torch operations.
    data : DataFrame, mapping of columns, or tuple of arrays
    null : mapping of str to float
        Parameter names and their values under the hypothesis.
    theta0 : array of shape (p,)
        Starting values.
    cov : str or CovarianceKind
    names, columns : tuple of str
        Parameter names, ``theta[0]`` and so on when left out, and the columns that the loss reads.

    Returns
    -------
    HypothesisTest
        With the weights; the p-value is that of the weighted sum, by contour integration.

    Raises
    ------
    DataError, PsiError, ValueError
        On bad input.
    SolverError
        If a root was not found, or the root found is not a minimum of the loss.

    References
    ----------
    Foutz & Srivastava (1977) Biometrika 64; Kent (1982) Biometrika 69.
    """
    fit = estimate(from_loss(loss, names=names, columns=columns), data, theta0, cov)
    given = restriction(fit.data(), null, fit.solution.theta)
    weights = _weights(fit, given.fixed)
    low, high = (_total(fit.data(), loss, theta) for theta in (fit.solution.theta, given.solve()))
    statistic = 2 * (high - low)
    if statistic < -_ROUNDING * abs(low):
        raise SolverError("the loss is lower under the hypothesis than at the root, which is not its minimum.")
    statistic = max(statistic, 0.0)
    m = len(weights)
    method = f"distance, weighted sum of {m} chi2(1)"
    return HypothesisTest(method, statistic, m, upper_tail(statistic, weights), weights=tuple(weights.tolist()))


def _weights(fit: Estimate, fixed: Tensor) -> np.ndarray:
    """Weights (m,) of the limit of the difference of losses."""
    curvature = -fit.bread
    if not bool((torch.linalg.eigvalsh(equilibrate((curvature + curvature.mT) / 2)[0]) > 0).all()):
        raise SolverError("the Hessian of the loss is not positive definite at the root, which is not a minimum.")
    block = -fit.inverse[fixed][:, fixed]
    spread = fit.nobs * fit.covariance[fixed][:, fixed]
    factor = torch.linalg.cholesky((block + block.mT) / 2)
    half = torch.linalg.solve_triangular(factor, spread, upper=False)
    values = torch.linalg.eigvalsh(torch.linalg.solve_triangular(factor, half.mT, upper=False))
    weights: np.ndarray = values.numpy(force=True)
    if not weights.min() > 0:
        raise ValueError("the covariance is singular (fewer clusters than restrictions?); test fewer at once.")
    return weights


def _total(problem: Problem, loss: Callable[[Tensor, Any], Tensor], theta: Tensor) -> float:
    """Sum of the loss over all rows."""
    return float(sum(loss(theta, rows.data).sum() for rows in problem.blocks()))
