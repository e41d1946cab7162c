"""Roots of the mean of psi, for one data set or a batch of replicates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.data import Data
from eeqs.engine.door import as_problem, as_theta, check_psi, raise_not_finite
from eeqs.engine.errors import DataError, SolverError, Status
from eeqs.engine.evaluate import Problem
from eeqs.engine.linalg import RANK_TOLERANCE, condition_number
from eeqs.engine.newton import find_root
from eeqs.engine.newton_batch import Newton
from eeqs.engine.psi import PsiLike

__all__ = ["Solution", "solve", "solve_problem"]


@dataclass(frozen=True)
class Solution:
    r"""Outcome of `solve`; every field has a leading axis R for a batch of replicates.

    Attributes
    ----------
    theta : Tensor of shape (p,) or (R, p)
        The root, or the last iterate when there is none.
    status : Status, or tuple of R Status
        Why the solver stopped; ``status.text`` names cause and remedy.
    iterations : int or Tensor of shape (R,)
        Newton steps tried.
    residual_norm : float or Tensor of shape (R,)
        Largest :math:`\sqrt n |\bar\psi_j| / s_j`: distance from a root in standard errors of the equations.
    condition : float or Tensor of shape (R,)
        Condition number of the last Jacobian after equilibrating its rows and columns.
    jacobian : Tensor of shape (p, p) or None
        Mean Jacobian at theta where the solver happens to have it, for the bread.
    """

    theta: Tensor
    status: Any
    iterations: Any
    residual_norm: Any
    condition: Any
    jacobian: Tensor | None = field(default=None, repr=False)

    @property
    def converged(self) -> Any:
        """Whether it converged: bool, or a bool tensor of shape (R,)."""
        if isinstance(self.status, Status):
            return self.status is Status.CONVERGED
        return torch.tensor([status is Status.CONVERGED for status in self.status])


def solve(
    psi: PsiLike,
    data: Data,
    theta0: Any = None,
    *,
    tolerance: float = 1e-9,
    max_iterations: int = 100,
    throw: bool = False,
    minimum_norm: bool = False,
) -> Solution:
    """Find the root of the mean of psi.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        ``psi(theta, data) -> (n,) or (n, p)`` in torch operations.
    data : DataFrame, mapping of columns, or tuple of arrays
        One leading axis n. For R independent replicates, leaves of shape (R, n, ...).
    theta0 : array of shape (p,) or (R, p), optional
        Starting values; two axes mean replicates. Defaults to the start of psi, where it has one.
    tolerance : float
        Largest accepted ``residual_norm``, in standard errors of the equations.
    max_iterations : int
        Limit on the steps tried, accepted or not.
    throw : bool
        Raise `SolverError` instead of returning a failed status.
    minimum_norm : bool
        For one data set whose parameters are not all identified: take pseudo-inverse steps, which leave the free
        directions of theta0 alone. From zero, linear equations get their minimum-norm root.

    Returns
    -------
    Solution

    Raises
    ------
    DataError, PsiError
        On bad input: unknown, non-numeric or non-finite columns, n < p, a wrong length of theta0, psi of the
        wrong shape or not finite at theta0.
    SolverError
        If the solve failed and ``throw`` is set.
    ValueError
        If ``tolerance`` or ``max_iterations`` is not positive.
    """
    batched = theta0 is not None and np.ndim(theta0) == 2
    problem = as_problem(psi, data, batched=batched)
    return solve_problem(
        problem,
        theta0,
        tolerance=tolerance,
        max_iterations=max_iterations,
        throw=throw,
        minimum_norm=minimum_norm,
    )


def solve_problem(
    problem: Problem,
    theta0: Any,
    *,
    tolerance: float = 1e-9,
    max_iterations: int = 100,
    throw: bool = False,
    minimum_norm: bool = False,
) -> Solution:
    """`solve` on data that are already validated and prepared."""
    if not tolerance > 0 or max_iterations < 1:
        raise ValueError(f"tolerance = {tolerance} and max_iterations = {max_iterations}; both must be positive.")
    theta = as_theta(problem, theta0)
    p, psi = theta.shape[-1], problem.psi
    if problem.n < p and psi.linear is not None and psi.penalty is None and not minimum_norm:
        raise DataError(
            f"{problem.n} observations cannot determine {p} parameters; add observations, penalise, or pass "
            "minimum_norm=True."
        )
    if problem.psi.root is not None:
        solution = _own_root(problem, tolerance)
    else:
        check_psi(problem, theta, equations=p)
        if problem.replicates is None:
            solution = _newton(problem, theta, tolerance, max_iterations, minimum_norm)
        else:
            solution = _newton_batch(problem, theta, tolerance, max_iterations)
    if throw:
        failed = [s for s in _as_tuple(solution.status) if s is not Status.CONVERGED]
        if failed:
            count = "" if problem.replicates is None else f"{len(failed)} of {problem.replicates} replicates failed; "
            raise SolverError(f"{count}{failed[0].text}")
    return solution


def _as_tuple(status: Any) -> tuple[Status, ...]:
    return (status,) if isinstance(status, Status) else status


def _own_root(problem: Problem, tolerance: float) -> Solution:
    """Roots by the finder that psi brings along; a batch is a loop over replicates."""
    finder = problem.psi.root
    assert finder is not None  # noqa: S101 - for the type checker: the caller checked
    if problem.replicates is None:
        theta, residual = finder(problem.data)
        status = Status.CONVERGED if residual <= tolerance else Status.STALLED
        check_psi(problem, theta, equations=len(theta))
        return Solution(theta, status, 1, residual, float(condition_number(problem.jacobian(theta))))
    device = problem.device
    singles = []
    for r in range(problem.replicates):
        one = problem.rows(torch.tensor([r], device=device)).squeeze()
        singles.append(_own_root(one, tolerance))
    return Solution(
        torch.stack([s.theta for s in singles]),
        tuple(s.status for s in singles),
        torch.tensor([s.iterations for s in singles], device=device),
        torch.tensor([s.residual_norm for s in singles], dtype=torch.float64, device=device),
        torch.tensor([s.condition for s in singles], dtype=torch.float64, device=device),
    )


def _newton(problem: Problem, theta: Tensor, tolerance: float, max_iterations: int, minimum_norm: bool) -> Solution:
    """Newton on one data set."""
    end = find_root(problem, theta.numpy(force=True), tolerance, max_iterations, minimum_norm=minimum_norm)
    status = end.status
    if status is Status.NON_FINITE and end.iterations == 0:
        raise_not_finite(problem, theta)
    jacobian = torch.from_numpy(end.jacobian)
    condition = float(condition_number(jacobian))
    if status is Status.CONVERGED and condition >= 1 / RANK_TOLERANCE and not minimum_norm:
        status = Status.SINGULAR
    root = torch.from_numpy(end.theta).to(theta.device)
    kept = None if end.age else jacobian.to(theta.device)
    return Solution(root, status, end.iterations, end.residual(problem.total()), condition, kept)


def _newton_batch(problem: Problem, theta: Tensor, tolerance: float, max_iterations: int) -> Solution:
    """Newton on all replicates at once."""
    state = Newton(problem, theta, tolerance, max_iterations)
    state.run()
    return Solution(state.theta, tuple(state.status), state.iterations, state.residual, state.condition)
