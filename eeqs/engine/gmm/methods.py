"""Ways to weight over-identified equations: one step, two steps, until nothing moves, continuously."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from eeqs.engine.covariance import CovarianceKind, as_covariance
from eeqs.engine.errors import Status
from eeqs.engine.evaluate import Problem
from eeqs.engine.gmm.continuous import continuously_updated
from eeqs.engine.gmm.minimise import Criterion, minimise, weighted_by
from eeqs.engine.gmm.weighting import Weighting, first_weighting, given_weighting, inverse_of, second_moments

__all__ = ["ContinuouslyUpdated", "Iterated", "Method", "OneStep", "Outcome", "Search", "TwoStep"]


@dataclass(frozen=True)
class Outcome:
    """Minimum of a method: theta (p,), status, steps tried, the last weight, L (p, q) and the quadratic form."""

    theta: Tensor
    status: Status
    iterations: int
    weighting: Weighting
    combination: Tensor
    objective: float


@dataclass(frozen=True)
class Search:
    """Over-identified equations, where to start, and how hard to try."""

    problem: Problem
    theta: Tensor
    equations: int
    kind: CovarianceKind
    tolerance: float
    max_iterations: int

    def one_step(self, weight: Any) -> Outcome:
        """Minimise under a given weight, or the first one."""
        if weight is None:
            weighting = first_weighting(self.problem, self.theta)
        else:
            weighting = given_weighting(weight, self.theta, self.equations)
        return self.minimise(weighted_by(self.problem, weighting), None, efficient=False)

    def updated(self, before: Outcome, cov: Any, *, centred: bool) -> Outcome:
        """Minimise from an outcome under the inverse of the variance of the equations there."""
        mean = torch.zeros(self.equations).to(before.theta)
        if centred:
            mean = torch.from_numpy(self.problem.moments(before.theta, jacobian=False).mean).to(before.theta)
        second = second_moments(self.problem, before.theta, mean, self.assumption(cov))
        return self.minimise(weighted_by(self.problem, inverse_of(second)), before, efficient=True)

    def continuous(self, before: Outcome, cov: Any, *, centred: bool) -> Outcome:
        """Minimise from an outcome under a weight that follows theta."""
        criterion = continuously_updated(self.problem, self.assumption(cov), centred=centred)
        return self.minimise(criterion, before, efficient=True)

    def assumption(self, cov: Any) -> CovarianceKind:
        """Covariance behind a weight: its own, or that of the estimates."""
        return self.kind if cov is None else as_covariance(cov)

    def minimise(self, criterion: Criterion, before: Outcome | None, *, efficient: bool) -> Outcome:
        """Minimise from an outcome, or from the start."""
        n = self.problem.total()
        start = self.theta if before is None else before.theta
        end = minimise(criterion, start, n, self.tolerance, self.max_iterations)
        theta, factor, combination = (
            torch.from_numpy(array).to(start) for array in (end.theta, end.point.factor, end.point.combination())
        )
        steps = end.iterations + (0 if before is None else before.iterations)
        return Outcome(theta, end.status, steps, Weighting(factor, efficient), combination, n * end.point.objective)


class Method(Protocol):
    """A way to weight the equations; ``cov`` is the assumption behind its weight, None for that of the estimates."""

    @property
    def label(self) -> str: ...  # noqa: D102

    @property
    def cov(self) -> Any: ...  # noqa: D102

    def run(self, search: Search) -> Outcome:
        """Find the minimum."""


@dataclass(frozen=True)
class OneStep:
    r"""One fixed weight.

    Attributes
    ----------
    weight : array of shape (q, q), optional
        Symmetric and positive semi-definite. By default :math:`(Z^\top Z / n)^{-1}` where psi is one residual times
        instruments, which is two-stage least squares in a linear model; otherwise the inverse of the second moments of
        psi at the starting values. Both are invariant to the units of the equations.
    """

    weight: Any = None

    @property
    def label(self) -> str:
        """Name for tables."""
        return "one-step GMM"

    @property
    def cov(self) -> None:
        """No variance of the equations is estimated."""
        return

    def run(self, search: Search) -> Outcome:
        """Find the minimum."""
        return search.one_step(self.weight)


@dataclass(frozen=True)
class TwoStep:
    r"""Efficient weight :math:`S(\hat\theta_1)^{-1}` at a one-step estimate (Hansen 1982).

    Attributes
    ----------
    first : array of shape (q, q), optional
        Weight of the first step, as in `OneStep`.
    cov : str or CovarianceKind, optional
        Assumption behind S, for instance ``Cluster("firm")``; by default that of the estimates.
    centred : bool
        Take S about the mean of psi instead of about zero, which gives J more power (Hall 2000, Econometrica 68).
    """

    first: Any = None
    cov: Any = None
    centred: bool = False

    @property
    def label(self) -> str:
        """Name for tables."""
        return "two-step GMM"

    def run(self, search: Search) -> Outcome:
        """Find the minimum."""
        first = search.one_step(self.first)
        if first.status is not Status.CONVERGED:
            return first
        return search.updated(first, self.cov, centred=self.centred)


@dataclass(frozen=True)
class Iterated:
    r"""Two-step, and on until estimate and weight agree (Hansen, Heaton & Yaron 1996, JBES 14).

    Attributes
    ----------
    first, cov, centred
        As in `TwoStep`. For independent observations ``centred`` changes J to :math:`J / (1 - J / n)` and nothing else.
    tolerance : float
        Largest move between two estimates that ends it, in standard errors.
    max_steps : int
        Limit on the weights tried.
    """

    first: Any = None
    cov: Any = None
    centred: bool = False
    tolerance: float = 1e-8
    max_steps: int = 100

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or self.max_steps < 2:
            raise ValueError(f"tolerance = {self.tolerance} and max_steps = {self.max_steps}; pass > 0 and >= 2.")

    @property
    def label(self) -> str:
        """Name for tables."""
        return "iterated GMM"

    def run(self, search: Search) -> Outcome:
        """Find the fixed point."""
        now = search.one_step(self.first)
        for _ in range(1, self.max_steps):
            if now.status is not Status.CONVERGED:
                return now
            before, now = now, search.updated(now, self.cov, centred=self.centred)
            slope = now.weighting.factor @ search.problem.jacobian(now.theta)
            moved = search.problem.total() ** 0.5 * float(torch.linalg.vector_norm(slope @ (now.theta - before.theta)))
            if moved <= self.tolerance:
                return now
        return replace(now, status=Status.MAX_ITERATIONS) if now.status is Status.CONVERGED else now


@dataclass(frozen=True)
class ContinuouslyUpdated:
    r"""Minimum of :math:`\bar\psi(\theta)^\top S(\theta)^{-1} \bar\psi(\theta)` (Hansen, Heaton & Yaron 1996).

    Less biased than two steps when there are many or weak instruments, invariant to how equations are written, and
    with possibly several minima: it starts at the two-step estimate. The sandwich has the Jacobian less its
    regression on the equations in the place of G in :math:`L = G^\top W`, so that the estimate is the root of
    :math:`L \bar\psi` (Newey & Windmeijer 2009, Econometrica 77).

    Attributes
    ----------
    first, cov, centred
        As in `Iterated`. S must be a quadratic form in psi: a bandwidth that follows the data is not.
    """

    first: Any = None
    cov: Any = None
    centred: bool = False

    @property
    def label(self) -> str:
        """Name for tables."""
        return "continuously updated GMM"

    def run(self, search: Search) -> Outcome:
        """Find the minimum."""
        start = TwoStep(self.first, self.cov, self.centred).run(search)
        if start.status is not Status.CONVERGED:
            return start
        return search.continuous(start, self.cov, centred=self.centred)
