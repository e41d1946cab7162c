"""Solve and attach a covariance."""

from __future__ import annotations

from typing import Any

import torch

from eeqs.engine.covariance import CovarianceKind, Root, as_covariance, spread
from eeqs.engine.data import Data
from eeqs.engine.door import as_problem
from eeqs.engine.errors import SolverError, Status
from eeqs.engine.inference.result import Estimate
from eeqs.engine.linalg import invert, pseudo_inverse
from eeqs.engine.psi import PsiLike
from eeqs.engine.solve import solve_problem

__all__ = ["estimate"]


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
    r"""Solve an estimating equation and attach its sandwich covariance.

    Finds :math:`\hat\theta` with :math:`n^{-1} \sum_i \psi_i(\hat\theta) = 0` and its covariance
    :math:`A^{-1} B A^{-\top} / n`, with bread :math:`A = n^{-1} \sum_i \partial \psi_i / \partial \theta` and the
    meat B of ``cov``.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        ``psi(theta, data) -> (n,) or (n, p)``, one row an observation, one column a parameter, in torch operations.
    data : DataFrame, mapping of columns, tuple of arrays, path, or iterable of batches
        Columns with one leading axis n; a parquet file or directory by its path; or batches of rows that can be read
        again for every pass.
    theta0 : array of shape (p,), optional
        Starting values; defaults to the start of psi.
    cov : str or CovarianceKind
        "HC0", "HC1", or an object such as ``Cluster("firm")``.
    tolerance : float
        Largest accepted mean of psi, in standard errors of the equations.
    max_iterations : int
        Limit on the steps tried, accepted or not.
    throw : bool
        Raise when the solve fails (the default here, for a standard error away from a root means nothing).
        With False the result carries the failed status and NaN covariances.
    minimum_norm : bool
        Accept parameters that are not identified; see `eeqs.solve`. Standard errors of those that are not are NaN,
        and `Estimate.delta` gives those of functions that are.

    Returns
    -------
    Estimate
        ``params``, ``bse``, ``conf_int()``, ``summary()`` and the rest are computed when asked for. Intervals are
        normal unless ``fit.with_df(df)`` asks for a t distribution.

    Raises
    ------
    DataError, PsiError
        On bad input.
    SolverError
        If the equation was not solved.
    SingularBreadError
        If the parameters are not identified; the message names them.

    References
    ----------
    Huber (1967) Proc. Fifth Berkeley Symposium 1; White (1982) Econometrica 50; Boos & Stefanski (2013) Essential
    Statistical Inference, ch. 7.
    """
    kind = as_covariance(cov)
    problem = as_problem(psi, data, groups=kind.groups)
    solution = solve_problem(
        problem, theta0, tolerance=tolerance, max_iterations=max_iterations, minimum_norm=minimum_norm
    )
    theta, status = solution.theta, solution.status
    names = problem.names(theta.shape[0])
    if status not in (Status.CONVERGED, Status.SINGULAR):
        if throw:
            raise SolverError(status.text)
        missing = torch.full((len(theta), len(theta)), torch.nan, dtype=theta.dtype, device=theta.device)
        return Estimate(solution, missing, missing, missing, missing, names, problem.total(), kind.label, problem)
    root = Root(problem, theta, names)
    jacobian = root.bread if solution.jacobian is None else solution.jacobian
    known = solution.condition if solution.jacobian is not None else None
    inverse, null = pseudo_inverse(jacobian) if minimum_norm else (invert(jacobian, names, known), None)
    middle, n = kind.meat(root), root.n
    variance = spread(inverse, middle, n)
    return Estimate(
        solution, jacobian, middle, variance, inverse, names, n, kind.label, problem, null, groups=kind.groups
    )
