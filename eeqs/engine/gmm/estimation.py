"""Over-identified estimating equations: solve them and attach a covariance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.covariance import CovarianceKind, Root, as_covariance, spread
from eeqs.engine.data import Data
from eeqs.engine.door import as_problem, as_theta, check_psi
from eeqs.engine.errors import SolverError, Status
from eeqs.engine.evaluate import Problem
from eeqs.engine.gmm.combination import combine
from eeqs.engine.gmm.methods import Method, Outcome, Search, TwoStep
from eeqs.engine.gmm.weighting import Weighting, check_smooth, equation_names
from eeqs.engine.inference.hypothesis import HypothesisTest
from eeqs.engine.inference.reference import joint_pvalue
from eeqs.engine.inference.result import Estimate
from eeqs.engine.linalg import condition_number, invert
from eeqs.engine.psi import PsiLike
from eeqs.engine.solve import Solution, solve_problem

__all__ = ["GMMEstimate", "gmm"]

_TWO_STEP = TwoStep()


@dataclass(frozen=True, repr=False)
class GMMEstimate(Estimate):
    r"""A minimum of :math:`\bar\psi^\top W \bar\psi` with its sandwich covariance.

    ``problem``, ``bread``, ``meat`` and ``influence()`` are those of the just-identified combination
    :math:`G^\top W \psi_i`, whose root it is.

    Attributes
    ----------
    weighting : Weighting
        The last weight, as a factor.
    objective : float
        :math:`n\, \bar\psi^\top W \bar\psi` at the estimate.
    method : str
        Name of the method.
    """

    weighting: Weighting = field(kw_only=True)
    objective: float = field(kw_only=True)
    method: str = field(kw_only=True)

    @property
    def weight(self) -> pd.DataFrame:
        """The last weight matrix W (q, q)."""
        names = list(equation_names(len(self.weighting.factor)))
        return pd.DataFrame(self.weighting.matrix.numpy(force=True), index=names, columns=names)

    def j_test(self) -> HypothesisTest:
        r"""Hansen's (1982) test that all q equations hold: :math:`J = n\, \bar\psi^\top W \bar\psi`, chi2(q - p).

        Raises
        ------
        ValueError
            If there are no more equations than parameters, or W is not the inverse of the variance of the equations.
        """
        restrictions = len(self.weighting.factor) - len(self.names)
        if restrictions == 0:
            raise ValueError("there are as many equations as parameters, so none is left over to test.")
        if not self.weighting.efficient:
            raise ValueError(
                "J has a chi-square distribution only under the efficient weight; use TwoStep(), Iterated() or "
                "ContinuouslyUpdated()."
            )
        pvalue = joint_pvalue(self.objective, restrictions, None)
        return HypothesisTest(f"J, chi2({restrictions})", self.objective, restrictions, pvalue)

    def _title(self) -> str:
        return f"{self.method}, {len(self.weighting.factor)} equations, {super()._title()}"


def gmm(
    psi: PsiLike,
    data: Data,
    theta0: Any = None,
    method: Method = _TWO_STEP,
    cov: str | CovarianceKind = "HC0",
    *,
    tolerance: float = 1e-9,
    max_iterations: int = 100,
    throw: bool = True,
) -> GMMEstimate:
    r"""Generalised method of moments: q estimating equations for p parameters, q at least p.

    Minimises :math:`\bar\psi(\theta)^\top W \bar\psi(\theta)` and gives its minimum the covariance

    .. math:: (G^\top W G)^{-1} G^\top W S W G (G^\top W G)^{-1} / n,

    valid for any W, with :math:`G = \partial \bar\psi / \partial \theta` and S the variance of
    :math:`n^{-1/2} \sum_i \psi_i` under the assumption of ``cov``, both at the estimate.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        ``psi(theta, data) -> (n, q)``, smooth in theta.
    data : DataFrame, mapping of columns, tuple of arrays, path, or iterable of batches
        As in `eeqs.estimate`.
    theta0 : array of shape (p,), optional
        Starting values; defaults to the start of psi.
    method : Method
        How the equations are weighted: `OneStep`, `TwoStep`, `Iterated` or `ContinuouslyUpdated`. With q equal to p
        no weight matters, and the result is that of `eeqs.estimate`.
    cov : str or CovarianceKind
        "HC0", "HC1", or an object such as ``Cluster("firm")``. The efficient weight is the inverse of the same S at
        the previous estimate, unless the method has an assumption of its own; small-sample factors count equations
        in the weight and parameters in the covariance.
    tolerance : float
        Largest accepted gradient, in standard errors.
    max_iterations : int
        Limit on the Gauss-Newton steps of every minimisation.
    throw : bool
        Raise when the minimum was not found; with False the result carries the status and NaN covariances.

    Returns
    -------
    GMMEstimate

    Raises
    ------
    DataError
        On bad data, and for a singular weight matrix (a duplicated instrument), naming the equations.
    PsiError
        If there are fewer equations than parameters, or psi is a step function or penalised.
    SolverError
        If the minimum was not found.
    SingularBreadError
        If the parameters are not identified.
    ValueError
        If a given weight is not symmetric and positive semi-definite.

    Notes
    -----
    Every result is invariant to the units, and under the default weights to any invertible linear map, of the
    equations. S is about zero, as in Stata, unless the method says ``centred``. Two-step standard errors take the
    weight as known and are too small in small samples with many equations; there is no Windmeijer (2005)
    correction, and `ContinuouslyUpdated` or ``cov=Bootstrap()`` with ``OneStep()`` are the alternatives.

    References
    ----------
    Hansen (1982) Econometrica 50; Newey & McFadden (1994) Handbook of Econometrics 4, ch. 36; Hall (2005) Generalized
    Method of Moments.
    """
    kind = as_covariance(cov)
    behind = kind if method.cov is None else as_covariance(method.cov)
    problem = as_problem(psi, data, groups=(*kind.groups, *behind.groups))
    check_smooth(problem.psi)
    theta = as_theta(problem, theta0)
    if not tolerance > 0 or max_iterations < 1:
        raise ValueError(f"tolerance = {tolerance} and max_iterations = {max_iterations}; both must be positive.")
    equations = check_psi(problem, theta, equations=None)
    if equations == len(theta):
        outcome, label = _just_identified(problem, theta, tolerance, max_iterations), "just-identified"
    else:
        search = Search(problem, theta, equations, kind, tolerance, max_iterations)
        outcome, label = method.run(search), method.label
        problem = combine(problem, outcome.combination)
    return _attach(problem, outcome, kind, label, throw=throw)


def _just_identified(problem: Problem, theta: Tensor, tolerance: float, max_iterations: int) -> Outcome:
    """Root of as many equations as parameters, whatever the weight."""
    solution = solve_problem(problem, theta, tolerance=tolerance, max_iterations=max_iterations)
    identity = torch.eye(len(theta)).to(theta)
    return Outcome(solution.theta, solution.status, solution.iterations, Weighting(identity), identity, 0.0)


def _attach(problem: Problem, outcome: Outcome, kind: CovarianceKind, label: str, *, throw: bool) -> GMMEstimate:
    """Sandwich of the combined equations at their root."""
    theta, status = outcome.theta, outcome.status
    names, n = problem.names(len(theta)), problem.total()
    found = status in (Status.CONVERGED, Status.SINGULAR)
    if not found and throw:
        raise SolverError(status.text)
    root = Root(problem, theta, names)
    missing = torch.full((len(theta), len(theta)), torch.nan).to(theta)
    bread = root.bread if found else missing
    condition = float(condition_number(bread))
    inverse = invert(bread, names, condition) if found else missing
    middle = kind.meat(root) if found else missing
    solution = Solution(theta, status, outcome.iterations, _residual(problem, theta), condition)
    return GMMEstimate(
        solution,
        bread,
        middle,
        spread(inverse, middle, n),
        inverse,
        names,
        n,
        kind.label,
        problem,
        groups=kind.groups,
        weighting=outcome.weighting,
        objective=outcome.objective,
        method=label,
    )


def _residual(problem: Problem, theta: Tensor) -> float:
    """Largest mean of the combined equations, in standard errors."""
    at = problem.moments(theta, jacobian=False)
    rms = torch.from_numpy(at.rms)
    mean = torch.from_numpy(at.mean).abs() / torch.where(rms > 0, rms, 1.0)
    return float(problem.total() ** 0.5 * mean.max())
