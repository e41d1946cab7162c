r"""Bread, meat and sandwich: none of the three knows how theta was found.

For a root :math:`\hat\theta` of :math:`\bar\psi`,

.. math:: A = \frac1n \sum_i \frac{\partial \psi_i}{\partial \theta}, \qquad
          V = \frac1n A^{-1} B A^{-\top},

with B an estimate of the variance of :math:`n^{-1/2} \sum_i \psi_i`, by the `CovarianceKind` in use. All three accept
replicates: theta (R, p) with data leaves (R, n, ...).

References
----------
White (1982) Econometrica 50; Boos & Stefanski (2013) Essential Statistical Inference, ch. 7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from eeqs.engine.covariance.independent import Independent
from eeqs.engine.covariance.root import CovarianceKind, Root
from eeqs.engine.data import Data
from eeqs.engine.door import as_problem, as_theta, check_psi
from eeqs.engine.evaluate import Problem
from eeqs.engine.linalg import invert
from eeqs.engine.psi import PsiLike

__all__ = ["as_covariance", "bread", "meat", "sandwich", "spread"]


def as_covariance(cov: str | CovarianceKind) -> CovarianceKind:
    """Turn the name of a covariance without settings, such as "HC1", into its object."""
    if not isinstance(cov, str):
        return cov
    if cov.startswith("CR"):
        raise ValueError(f'"{cov}" needs cluster labels; pass eeqs.Cluster(column, "{cov}").')
    return Independent(cov)


def bread(psi: PsiLike, theta: Any, data: Data) -> Tensor:
    r"""Mean Jacobian of psi.

    Parameters
    ----------
    psi : callable or EstimatingFunction
    theta : array of shape (p,) or (R, p)
    data : DataFrame, mapping or tuple
        Leaves (n, ...) or (R, n, ...).

    Returns
    -------
    Tensor of shape (p, p) or (R, p, p)
        :math:`A_{jm} = n^{-1} \sum_i \partial \psi_{ij} / \partial \theta_m`, by the closed form of psi where it
        has one and by automatic differentiation otherwise.
    """
    problem, point = _bind(psi, theta, data)
    return problem.jacobian(point)


def meat(psi: PsiLike, theta: Any, data: Data, cov: str | CovarianceKind = "HC0") -> Tensor:
    """Variance of the sum of psi, per observation, under the assumption of ``cov``.

    Parameters
    ----------
    psi, theta, data
        As in `bread`.
    cov : str or CovarianceKind
        "HC0" to "HC3", or an object such as ``Cluster("firm")``.

    Returns
    -------
    Tensor of shape (p, p) or (R, p, p)

    Raises
    ------
    DataError, PsiError, SolverError
        As the covariance says, for instance if a cluster column is unknown, incomplete, of another length or constant.
    """
    kind = as_covariance(cov)
    problem, point = _bind(psi, theta, data, kind.groups)
    p = point.shape[-1]
    check_psi(problem, point, equations=p)
    return kind.meat(Root(problem, point, problem.names(p)))


def sandwich(bread: Tensor, meat: Tensor, n: float, names: tuple[str, ...] | None = None) -> Tensor:
    r"""Sandwich covariance of the estimate, :math:`A^{-1} B A^{-\top} / n`.

    Parameters
    ----------
    bread, meat : Tensor of shape (p, p) or (R, p, p)
    n : float
        Observations (in each replicate).
    names : tuple of str, optional
        Parameter names for the error message.

    Returns
    -------
    Tensor of shape (p, p) or (R, p, p)
        Exactly symmetric. In a batch, a replicate with a singular bread gets NaN.

    Raises
    ------
    SingularBreadError
        If a single bread is rank deficient after equilibrating its rows and columns.
    """
    return spread(invert(bread, names), meat, n)


def spread(inverse: Tensor, meat: Tensor, n: float) -> Tensor:
    """Sandwich from an inverse of the bread."""
    covariance = inverse @ meat @ inverse.mT / n
    return (covariance + covariance.mT) / 2


def _bind(psi: PsiLike, theta: Any, data: Data, groups: tuple[Any, ...] = ()) -> tuple[Problem, Tensor]:
    problem = as_problem(psi, data, batched=np.ndim(theta) == 2, groups=groups)
    return problem, as_theta(problem, theta)
