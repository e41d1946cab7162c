r"""Gauss-Newton with Levenberg-Marquardt damping for the quadratic form of over-identified equations.

With whitened mean :math:`r = K \bar\psi` (q,) and its Jacobian :math:`J = K G` (q, p), the objective is
:math:`r^\top r` and a step solves

.. math:: (J^\top J + \lambda D^2)\, \delta = -J^\top r, \qquad D = \text{column norms of } J,

by orthogonal triangularisation, never by forming :math:`J^\top J`. It ends when the gradient vanishes in units of its
standard error: :math:`\sqrt n\, |J^\top r|_j` over :math:`\sum_k |J^\top K|_{jk} s_k`, with :math:`s_k` the root mean
square of equation k, a bound on that standard error and the level of rounding at the same time. Neither the units of
the equations nor those of the parameters matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.errors import Status
from eeqs.engine.evaluate import Problem
from eeqs.engine.gmm.weighting import Weighting
from eeqs.engine.newton import FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING, PATIENCE, ROUNDING_RESIDUAL, STILL, VANISHED

__all__ = ["Criterion", "Minimum", "Point", "minimise", "weighted_by"]

# Fall of the objective, relative to its size, that the difference of two float64 sums still shows.
_VISIBLE = 1e-9
# Fall of the gradient that counts as progress where the objective shows none.
_PROGRESS = 0.99


class Point(NamedTuple):
    """What a criterion knows at a theta: whitened mean (q,), its Jacobian (q, p), and their units.

    ``factor`` is K (q, q), ``rms`` (q,) the root mean square of psi and ``slope`` (p,) the size of its Jacobian.
    """

    mean: np.ndarray
    jacobian: np.ndarray
    factor: np.ndarray
    rms: np.ndarray
    slope: np.ndarray

    @property
    def objective(self) -> float:
        """The quadratic form."""
        return float(self.mean @ self.mean)

    def combination(self) -> np.ndarray:
        """Combine the equations into those whose mean is the gradient: L (p, q)."""
        return self.jacobian.T @ self.factor

    def residual(self, n: float) -> float:
        """Largest component of the gradient, in standard errors."""
        noise = np.abs(self.combination()) @ self.rms
        return float(n**0.5 * np.abs(self.jacobian.T @ self.mean / np.where(noise > 0, noise, 1.0)).max())


Criterion = Callable[[np.ndarray], Point]


@dataclass(frozen=True)
class Minimum:
    """Where the iteration ended."""

    theta: np.ndarray
    point: Point
    status: Status
    iterations: int


@dataclass
class _State:
    theta: np.ndarray
    point: Point
    residual: float
    damping: float = 0.0
    slow: int = 0
    iterations: int = 0


def weighted_by(problem: Problem, weighting: Weighting) -> Criterion:
    """Criterion of a weight that does not depend on theta."""
    factor = weighting.factor.numpy(force=True)

    def evaluate(theta: np.ndarray) -> Point:
        at = problem.moments(torch.from_numpy(theta).to(problem.device), jacobian=True)
        assert at.jacobian is not None  # noqa: S101 - asked for
        return Point(factor @ at.mean, factor @ at.jacobian, factor, at.rms, np.abs(at.jacobian).max(axis=0))

    return evaluate


def minimise(criterion: Criterion, theta: Tensor, n: float, tolerance: float, max_iterations: int) -> Minimum:
    """Iterate from ``theta`` (p,) to a status."""
    start = theta.numpy(force=True)
    with np.errstate(all="ignore"):  # overflow is an outcome here, and has a status
        first = criterion(start)
        now = _State(start, first, first.residual(n))
        while True:
            finite = bool(np.isfinite(now.point.mean).all() and np.isfinite(now.point.jacobian).all())
            status = None if finite else Status.NON_FINITE
            if finite:
                step, moved, fall = _step(now)
                status = _outcome(now, first, moved, tolerance)
            if status is not None or now.iterations == max_iterations:
                return Minimum(now.theta, now.point, status or Status.MAX_ITERATIONS, now.iterations)
            now.iterations += 1
            _advance(now, criterion, step, fall, n)


def _step(now: _State) -> tuple[np.ndarray, float, float]:
    """Damped step (p,), its size relative to theta, and the relative fall of the objective it predicts."""
    jacobian, mean = now.point.jacobian, now.point.mean
    size = np.sqrt(np.square(jacobian).sum(axis=0))
    size = np.where(size > 0, size, 1.0)
    scaled = jacobian / size
    left, right = scaled, -mean
    if now.damping > 0:
        left = np.vstack([scaled, np.sqrt(now.damping) * np.eye(len(size))])
        right = np.concatenate([-mean, np.zeros(len(size))])
    solution = np.linalg.lstsq(left, right, rcond=None)[0]
    reach = np.linalg.norm(size * now.theta)
    length = np.linalg.norm(solution)
    moved = 0.0 if length == 0 else float(length / reach) if reach > 0 else np.inf
    change = scaled @ solution
    objective = now.point.objective
    fall = float(-(2 * mean + change) @ change / objective) if objective > 0 else 0.0
    return solution / size, moved, fall


def _advance(now: _State, criterion: Criterion, step: np.ndarray, fall: float, n: float) -> None:
    """Try a step and keep it where the objective falls, or the gradient where the objective cannot show it."""
    trial = criterion(now.theta + step)
    residual = trial.residual(n)
    visible = fall > _VISIBLE
    better = trial.objective < now.point.objective if visible else residual < now.residual
    if not better:  # NaN is not better either
        now.slow += 1
        now.damping = max(10 * now.damping, FIRST_DAMPING)
        return
    progress = (
        trial.objective < (1 - _VISIBLE) * now.point.objective if visible else residual < _PROGRESS * now.residual
    )
    now.slow = 0 if progress else now.slow + 1
    now.theta, now.point, now.residual = now.theta + step, trial, residual
    now.damping = now.damping / 10 if now.damping > 10 * LEAST_DAMPING else 0.0


def _outcome(now: _State, first: Point, moved: float, tolerance: float) -> Status | None:
    """Status of a finished iteration, None to go on."""
    vanished = bool((now.point.rms < VANISHED * first.rms).any())
    if vanished and bool((now.point.slope < VANISHED * first.slope).any()):
        return Status.DEGENERATE
    stuck = now.damping > MOST_DAMPING or now.slow >= PATIENCE
    at_rest = moved <= STILL and now.damping == 0
    if now.residual <= tolerance or at_rest or (stuck and now.residual <= ROUNDING_RESIDUAL):
        return Status.CONVERGED
    return Status.STALLED if stuck else None
