r"""Roots and linear functionals without a Jacobian matrix, for theta with tens of thousands of entries.

Newton steps and :math:`u = A^{-\top} c` are solved by Krylov methods that need products with the Jacobian only: for a
linear-index psi two passes over the design, otherwise one forward- or reverse-mode pass. The interval of
:math:`c^\top \theta` follows from the scalar rows :math:`u^\top \psi_i` and their meat:

.. math:: c^\top V c = \frac1n u^\top B u, \qquad A^\top u = c .

Equations and parameters are scaled by the root mean squares of psi, so units do not matter to the iterations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import special
from scipy.sparse import linalg
from torch import Tensor

from eeqs.engine.covariance import CovarianceKind, Root, as_covariance
from eeqs.engine.data import Data
from eeqs.engine.door import as_problem, as_theta, check_psi, raise_not_finite
from eeqs.engine.errors import PsiError, SingularBreadError, SolverError, Status
from eeqs.engine.evaluate import Problem, Rows
from eeqs.engine.linear_index import Slopes
from eeqs.engine.psi import PsiLike

__all__ = ["Functional", "estimate_functional"]

# Relative residual of the linear system behind the standard error.
_TIGHT = 1e-10
# Relative residual of a Newton step's system; the outer iteration corrects what it leaves.
_LOOSE = 1e-2
# Where LSMR gives up on a solution; a larger value would end it early on collinear columns.
_NO_SOLUTION = 1e-13
# Covariances that need more than the rows of psi, by the start of their labels.
_NEED_PARAMETERS = ("HC1", "HC2", "HC3", "CR1S", "CR2", "CR3", "CV3", "FG", "bootstrap")
# Shortest fraction of a Newton step before the search is given up.
_SHORTEST = 2.0**-20


@dataclass(frozen=True)
class Functional:
    r"""Estimate of a linear functional :math:`c^\top \theta`.

    Attributes
    ----------
    estimate, se : float
        The value at the root and its standard error.
    theta : Tensor of shape (p,)
        The root.
    status : Status
        Outcome of the solve.
    iterations, products : int
        Newton steps, and products with the Jacobian in all of them and in the standard error.
    residual_norm : float
        Distance from the root in standard errors of the equations.
    cov_type : str
        The covariance used.
    """

    estimate: float
    se: float
    theta: Tensor
    status: Status
    iterations: int
    products: int
    residual_norm: float
    cov_type: str

    def conf_int(self, alpha: float = 0.05) -> tuple[float, float]:
        """Return the normal interval of level ``1 - alpha``."""
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}; pass a number between 0 and 1, such as 0.05 for 95 % intervals.")
        half = -float(special.ndtri(alpha / 2)) * self.se
        return self.estimate - half, self.estimate + half


def estimate_functional(
    psi: PsiLike,
    data: Data,
    functional: Any,
    theta0: Any = None,
    cov: str | CovarianceKind = "HC0",
    *,
    symmetric: bool | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 50,
) -> Functional:
    r"""Solve a large estimating equation and attach a sandwich interval to one linear functional, matrix-free.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        ``psi(theta, data) -> (n, p)``. With p of the order of n or above it needs a penalty (`eeqs.ridge`).
    data : DataFrame, mapping, tuple, iterable of batches, or path
        As in `eeqs.estimate`.
    functional : array of shape (p,)
        The vector c.
    theta0 : array of shape (p,), optional
        Starting values; defaults to the start of psi.
    cov : str or CovarianceKind
        One of rows: HC0, clusters by CR0 or CR1, or HAC, whose automatic bandwidth is then that of the functional.
    symmetric : bool, optional
        Whether the Jacobian is symmetric and negative definite, as of the gradient of a convex loss: conjugate
        gradients then, LSMR otherwise. Defaults to True for a linear index without instruments of its own, else False.
    tolerance : float
        Largest accepted residual, in standard errors of the equations.
    max_iterations : int
        Limit on the Newton steps.

    Raises
    ------
    SolverError
        If the equation was not solved.
    ValueError
        If ``cov`` needs the parameters, leverages or refits.
    SingularBreadError
        If the functional is not determined by the equations: no u solves :math:`A^\top u = c`.

    Notes
    -----
    Memory beyond the data is a few vectors of length p and a block of rows. Newton steps are inexact (Dembo,
    Eisenstat & Steihaug 1982, SIAM J. Numer. Anal. 19) and shortened until the scaled norm falls.
    """
    kind = as_covariance(cov)
    if kind.label.startswith(_NEED_PARAMETERS):
        raise ValueError(f"{kind.label} needs parameters, leverages or refits; matrix-free use HC0, CR0, CR1 or HAC.")
    problem = as_problem(psi, data, groups=kind.groups)
    theta = as_theta(problem, theta0)
    check_psi(problem, theta, equations=len(theta))
    weights = torch.as_tensor(np.asarray(functional, dtype=np.float64), device=problem.device)
    if weights.shape != theta.shape or not bool(torch.isfinite(weights).all()):
        raise PsiError(f"functional has shape {tuple(weights.shape)}; pass {len(theta)} finite weights.")
    if symmetric is None:
        linear = problem.psi.linear
        first = next(problem.blocks()).data
        symmetric = linear is not None and linear.instruments is None and len(linear.designs(first)) == 1
    search = _Search(problem, symmetric, tolerance)
    theta, status, iterations, residual = search.run(theta, max_iterations)
    if status is not Status.CONVERGED:
        raise SolverError(status.text)
    variance = search.variance(theta, weights, kind)
    value = float(weights @ theta)
    return Functional(value, variance**0.5, theta, status, iterations, search.products, residual, kind.label)


class _Search:
    """Inexact Newton with a counter of products."""

    def __init__(self, problem: Problem, symmetric: bool, tolerance: float) -> None:
        self._problem, self._symmetric, self._tolerance = problem, symmetric, tolerance
        self._n = problem.total()
        self.products = 0

    def run(self, theta: Tensor, limit: int) -> tuple[Tensor, Status, int, float]:
        """Iterate to a root; also the status, the number of steps and the residual."""
        mean, scale = self._mean(theta)
        if not bool(torch.isfinite(mean).all()):
            raise_not_finite(self._problem, theta)
        for iteration in range(limit):
            residual = self._n**0.5 * float((mean / scale).abs().max())
            if residual <= self._tolerance:
                return theta, Status.CONVERGED, iteration, residual
            step = self._solve(theta, -mean, scale, _LOOSE, transpose=False)[0]
            length, norm = 1.0, (mean / scale).norm()
            while True:
                trial = theta + length * step
                new_mean, new_scale = self._mean(trial)
                if bool((new_mean / scale).norm() < norm):
                    break
                length /= 2
                if length < _SHORTEST:
                    return theta, Status.STALLED, iteration, residual
            theta, mean, scale = trial, new_mean, new_scale
        return theta, Status.MAX_ITERATIONS, limit, self._n**0.5 * float((mean / scale).abs().max())

    def variance(self, theta: Tensor, weights: Tensor, kind: CovarianceKind) -> float:
        """Variance of the functional by the scalar rows u' psi."""
        scale = self._mean(theta)[1]
        u, residual = self._solve(theta, weights, scale, _TIGHT, transpose=True)
        if not residual <= 1e-6:  # NaN after a breakdown
            raise SingularBreadError(
                f"the functional is not determined by the equations: the best solution of A'u = c leaves a relative "
                f"residual of {residual:.1e}; penalise psi (eeqs.ridge), or ask for another functional."
            )
        function, linear, penalty = self._problem.psi, self._problem.psi.linear, self._problem.psi.penalty

        def projected(_: Tensor, rows: Any) -> Tensor:
            if linear is None:
                values = function.psi(theta, rows)
                return (values if values.ndim > 1 else values[:, None]) @ u[:, None]
            instruments = linear.matrices(rows)[1]
            residuals = linear.residuals(linear.indices(theta, rows), rows)
            parts = zip(residuals, instruments, split(u, instruments), strict=True)
            total = torch.stack([r * (z @ part) for r, z, part in parts]).sum(dim=0)
            return (total if penalty is None else total - penalty(theta) @ u)[:, None]

        scalar = replace(function, psi=projected, linear=None, penalty=None, mean_jacobian=None, names=("functional",))
        root = Root(replace(self._problem, psi=scalar), theta.new_zeros(1), ("functional",))
        return float(kind.meat(root)) / self._n

    def _mean(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        at = self._problem.moments(theta, jacobian=False)
        mean, rms = (torch.from_numpy(part).to(theta) for part in (at.mean, at.rms))
        return mean, torch.where(rms > 0, rms, 1.0)

    def _solve(
        self, theta: Tensor, right: Tensor, scale: Tensor, relative: float, *, transpose: bool
    ) -> tuple[Tensor, float]:
        """Solve with the Jacobian or its transpose in scaled coordinates; also the relative residual."""
        product = _Products(self._problem, theta, self._n)
        sign = -1.0 if self._symmetric else 1.0  # conjugate gradients need a positive definite matrix

        def apply(vector: np.ndarray, flipped: bool) -> np.ndarray:
            self.products += 1
            v = torch.from_numpy(np.ascontiguousarray(vector).reshape(-1)).to(theta) / scale
            result: np.ndarray = (sign * product(v, transpose=flipped) / scale).numpy(force=True)
            return result

        shape = (len(theta), len(theta))
        operator = linalg.LinearOperator(
            shape, lambda v: apply(v, transpose), rmatvec=lambda v: apply(v, not transpose), dtype=np.float64
        )
        target = (sign * right / scale).numpy(force=True)
        with np.errstate(all="ignore"):  # a breakdown on a singular system shows in the residual
            solution = self._krylov(operator, target, relative)
        left = target - apply(solution, transpose)
        residual = float(np.linalg.norm(left) / max(np.linalg.norm(target), np.finfo(float).tiny))
        return torch.from_numpy(solution).to(theta) / scale, residual

    def _krylov(self, operator: Any, target: np.ndarray, relative: float) -> np.ndarray:
        limit = 10 * len(target)
        if self._symmetric:
            solution: np.ndarray = linalg.cg(operator, target, rtol=relative, maxiter=limit)[0]
        else:
            solution = linalg.lsmr(operator, target, atol=_NO_SOLUTION, btol=relative, conlim=0, maxiter=limit)[0]
        return solution


class _Products:
    """Products of the mean Jacobian at theta, or of its transpose, with vectors."""

    def __init__(self, problem: Problem, theta: Tensor, n: float) -> None:
        self._problem, self._theta, self._n = problem, theta, n
        linear = problem.psi.linear
        # n numbers a pair of indices, kept so that a product needs the two passes over the designs only.
        self._slopes = [] if linear is None else [linear.evaluate(theta, r.data)[1] for r in problem.blocks()]

    def __call__(self, vector: Tensor, *, transpose: bool) -> Tensor:
        total = torch.zeros_like(vector)
        for block, rows in enumerate(self._problem.blocks()):
            if self._slopes:
                total += self._linear(vector, rows, self._slopes[block], transpose)
            else:
                total += self._automatic(vector, rows, transpose)
        total /= self._n
        penalty = self._problem.psi.penalty
        if self._slopes and penalty is not None:
            total -= _derivative(penalty, self._theta, vector, transpose)
        return total

    def _linear(self, vector: Tensor, rows: Rows, slopes: Slopes, transpose: bool) -> Tensor:
        linear = self._problem.psi.linear
        assert linear is not None  # noqa: S101 - the caller checked
        designs, instruments = linear.matrices(rows.data)
        inner, outer = (instruments, designs) if transpose else (designs, instruments)
        images = [matrix @ part for matrix, part in zip(inner, split(vector, inner), strict=True)]
        parts = []
        for a, matrix in enumerate(outer):
            along = [slopes[b][a] if transpose else slopes[a][b] for b in range(len(inner))]
            mixed = sum(slope * image for slope, image in zip(along, images, strict=True) if slope is not None)
            weighted = mixed if rows.counts is None else rows.counts * mixed
            parts.append(matrix.mT @ weighted if isinstance(weighted, Tensor) else vector.new_zeros(matrix.shape[-1]))
        return torch.cat(parts)

    def _automatic(self, vector: Tensor, rows: Rows, transpose: bool) -> Tensor:
        def total(theta: Tensor) -> Tensor:
            values = self._problem.rows_of_psi(theta, rows)
            return (values if rows.counts is None else rows.counts[:, None] * values).sum(dim=0)

        return _derivative(total, self._theta, vector, transpose)


def _derivative(function: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, transpose: bool) -> Tensor:
    if transpose:
        pulled: Tensor = torch.func.vjp(function, theta)[1](vector)[0]
        return pulled
    pushed: Tensor = torch.func.jvp(function, (theta,), (vector,))[1]
    return pushed


def split(vector: Tensor, matrices: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cut a vector into the parts that the matrices multiply."""
    return vector.split([matrix.shape[-1] for matrix in matrices])
