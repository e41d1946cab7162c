"""Generalised score tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.covariance import CovarianceKind, Root, as_covariance
from eeqs.engine.data import Data
from eeqs.engine.door import as_problem, check_psi
from eeqs.engine.inference.hypothesis import HypothesisTest
from eeqs.engine.inference.reference import joint_pvalue
from eeqs.engine.inference.restricted import Restriction, restriction
from eeqs.engine.inference.wald import mahalanobis
from eeqs.engine.linalg import invert
from eeqs.engine.psi import PsiLike

__all__ = ["score_statistic", "score_test"]


def score_test(
    psi: PsiLike, data: Data, null: Mapping[str, float], theta0: Any = None, cov: str | CovarianceKind = "HC0"
) -> HypothesisTest:
    r"""Test values of some parameters from the restricted root alone.

    With :math:`\tilde\theta` the root of the equations of the free parameters (1) when the others (2) are at their null
    values, and bread A and meat B there,

    .. math:: T = n\, \bar\psi_2^\top (L B L^\top)^{-1} \bar\psi_2, \qquad L = (-A_{21} A_{11}^{-1},\ I),

    is compared with chi-square with m degrees of freedom. It is valid under misspecification and, for one parameter
    with a profile over its values, gives confidence sets where Wald intervals fail; see `profile`.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        Smooth in theta. Equation j belongs to parameter j: those of the fixed parameters are tested, the others solved.
    data : DataFrame, mapping of columns, or tuple of arrays
    null : mapping of str to float
        Parameter names and their values under the hypothesis; ``theta[0]`` and so on where psi names none.
    theta0 : array of shape (p,), optional
        Starting values of all parameters.
    cov : str or CovarianceKind
        Assumption on the meat.

    Returns
    -------
    HypothesisTest

    Raises
    ------
    DataError, PsiError, ValueError
        On bad input.
    SolverError
        If the restricted equations were not solved.
    SingularBreadError
        If the free parameters are not identified.

    References
    ----------
    Boos (1992) The American Statistician 46; Boos & Stefanski (2013), section 8.3.
    """
    kind = as_covariance(cov)
    problem = as_problem(psi, data, groups=kind.groups)
    given = restriction(problem, null, theta0)
    check_psi(problem, given.start, equations=len(given.start))
    statistic = score_statistic(given, given.solve(), kind)
    m = len(given.fixed)
    return HypothesisTest(f"score, chi2({m})", statistic, m, joint_pvalue(statistic, m, None))


def score_statistic(given: Restriction, theta: Tensor, kind: CovarianceKind) -> float:
    """Score statistic at a restricted root ``theta`` (p,)."""
    root = Root(given.problem, theta, given.names)
    fixed, free = given.fixed, given.free
    project = torch.zeros(len(fixed), len(theta), dtype=theta.dtype, device=theta.device)
    project[:, fixed] = torch.eye(len(fixed)).to(theta)
    if len(free):
        block = root.bread[free][:, free]
        project[:, free] = -root.bread[fixed][:, free] @ invert(block, tuple(given.names[j] for j in free.tolist()))
    mean = torch.from_numpy(given.problem.moments(theta, jacobian=False).mean).to(theta.device)
    spread = project @ kind.meat(root) @ project.mT
    score = (project @ mean)[None].numpy(force=True)
    return float(root.n * mahalanobis(score, spread.numpy(force=True))[0])
