"""Roots under a null hypothesis: some parameters fixed, their own equations left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.door import as_theta
from eeqs.engine.errors import PsiError, SolverError, Status
from eeqs.engine.evaluate import Problem
from eeqs.engine.inference.hypothesis import positions
from eeqs.engine.psi import EstimatingFunction
from eeqs.engine.solve import solve_problem

__all__ = ["Restriction", "restriction"]


@dataclass(frozen=True)
class Restriction:
    """Parameters fixed at values, the others free.

    Attributes
    ----------
    problem : Problem
    names : tuple of str
        All p parameters.
    start : Tensor of shape (p,)
        Starting values, with the fixed ones at theirs.
    fixed, free : Tensor of int64
        Positions of the m fixed and the p - m free parameters.
    """

    problem: Problem
    names: tuple[str, ...]
    start: Tensor
    fixed: Tensor
    free: Tensor

    def solve(self) -> Tensor:
        """Root (p,) of the equations of the free parameters.

        Raises
        ------
        SolverError
            If there is none to be found.
        """
        if len(self.free) == 0:
            return self.start
        problem = replace(self.problem, psi=_restrict(self))
        solution = solve_problem(problem, self.start[self.free])
        if solution.status is not Status.CONVERGED:
            held = ", ".join(f"{self.names[j]} = {float(self.start[j]):g}" for j in self.fixed.tolist())
            raise SolverError(f"the equations with {held} were not solved: {solution.status.text}")
        return self.start.index_copy(0, self.free, solution.theta)


def restriction(problem: Problem, null: Mapping[str, float], theta0: Any) -> Restriction:
    """Fix the parameters in ``null``.

    Raises
    ------
    PsiError
        If psi is a step function.
    ValueError
        If a name is unknown or a value not finite.
    """
    if problem.psi.root is not None:
        raise PsiError("this psi is a step function of theta, which has no restricted root; use a Wald test.")
    start = as_theta(problem, theta0)
    names = problem.names(len(start))
    fixed = torch.tensor(positions(null, names), device=start.device)
    values = torch.tensor([float(value) for value in null.values()], dtype=start.dtype, device=start.device)
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"the null values are {values.tolist()}; pass finite numbers.")
    kept = torch.ones(len(names), dtype=torch.bool, device=start.device).index_fill(0, fixed, value=False)
    return Restriction(problem, names, start.index_copy(0, fixed, values), fixed, kept.nonzero().flatten())


def _restrict(given: Restriction) -> EstimatingFunction:
    """Psi of the free parameters: their columns of psi, with the others fixed."""
    inner, free = given.problem.psi, given.free
    spread = torch.eye(len(given.names), dtype=given.start.dtype, device=given.start.device)[:, free]
    base = given.start.index_fill(0, free, 0.0)

    def psi(theta: Tensor, data: Any) -> Tensor:
        return inner.psi(base + spread @ theta, data)[:, free]

    def mean_jacobian(theta: Tensor, data: Any) -> Tensor:
        assert inner.mean_jacobian is not None  # noqa: S101 - used only then
        return inner.mean_jacobian(base + spread @ theta, data)[free][:, free]

    return replace(
        inner,
        psi=psi,
        names=tuple(given.names[j] for j in free.tolist()),
        start=None,
        mean_jacobian=None if inner.mean_jacobian is None else mean_jacobian,
        linear=None,
        penalty=None,
    )
