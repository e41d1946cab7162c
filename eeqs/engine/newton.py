r"""Newton with Levenberg-Marquardt damping on one data set.

The equations are scaled by :math:`s_j = (n^{-1} \sum_i \psi_{ij}^2)^{1/2}`, so that the residual
:math:`\sqrt n\, |\bar\psi_j| / s_j` is the distance from the root in units of the sampling error of equation j,
and neither the units of psi nor those of theta matter. A step solves

.. math:: (\tilde J^\top \tilde J + \lambda I)\, D \delta = -\tilde J^\top S^{-1} \bar\psi,
          \qquad \tilde J = S^{-1} J D^{-1},

with D the column norms of the scaled Jacobian (Marquardt 1963; More 1978). The damping :math:`\lambda` starts at
zero (Newton), grows when a step does not reduce the norm of the scaled mean, and shrinks when one does. Where a
Jacobian costs several evaluations of psi, a step that contracted well is followed by Broyden's (1965) rank-one
update instead of a fresh Jacobian. `eeqs.engine.newton_batch` takes the same steps on replicates.

Every pass over the data is one call of `Problem.moments`; what remains is arithmetic on p numbers, in numpy, whose
calls cost a fraction of those of torch at this size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from eeqs.engine.errors import Status
from eeqs.engine.evaluate import Moments, Problem

__all__ = ["Iterate", "find_root"]

# Size of a mean, relative to the terms it is summed from, that is rounding.
ROUNDING = 2.0**-46
# Residual, in standard errors, that is good enough when rounding in psi forbids anything better.
ROUNDING_RESIDUAL = 1e-5
# Relative Newton step at which theta no longer moves: what it changes in every equation, over the terms there.
STILL = 1e-15
# Relative Newton step that is only rounding when psi is rounding too.
PERFECT_FIT = 1e-12
# Fall of the size of psi and of its Jacobian from their starting values that means both are vanishing, observation by
# observation, on the way to a parameter at infinity. A perfect fit makes psi vanish and leaves its Jacobian.
VANISHED = 1e-12
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-4, 1e10
# Reduction of the squared norm after which the Jacobian is updated and not recomputed.
CONTRACTED = 0.1
# Reduction of the squared norm that counts as progress, and the steps without progress that end the search.
PROGRESS, PATIENCE = 0.99, 25
# Relative singular value below which a direction is left alone by minimum-norm steps.
_NULL_DIRECTION = 1e-10


@dataclass
class Iterate:
    """State of the iteration.

    Attributes
    ----------
    theta, mean, rms : ndarray of shape (p,)
        The point, and mean and root mean square of psi there.
    jacobian : ndarray of shape (p, p)
        The mean Jacobian, or Broyden's estimate of it.
    age : int
        Broyden updates since the last fresh Jacobian.
    damping : float
    slow : int
        Steps in a row without progress.
    iterations : int
        Steps tried.
    status : Status
    """

    theta: np.ndarray
    mean: np.ndarray
    rms: np.ndarray
    jacobian: np.ndarray
    age: int = 0
    damping: float = 0.0
    slow: int = 0
    iterations: int = 0
    status: Status = Status.MAX_ITERATIONS
    first: tuple[np.ndarray, np.ndarray] = field(default_factory=lambda: (np.empty(0), np.empty(0)))

    def residual(self, n: float) -> float:
        """Largest scaled mean, in standard errors."""
        return float(n**0.5 * np.abs(self.mean / self.unit()).max())

    def unit(self) -> np.ndarray:
        """Scale of every equation (p,): its root mean square, or where that is zero the size of its terms."""
        if self.rms.all():
            return self.rms
        return np.where(self.rms > 0, self.rms, _positive(np.abs(self.jacobian) @ np.abs(self.theta)))

    def vanished(self) -> bool:
        """Whether some equation has all but vanished for every observation."""
        return bool((self.rms < VANISHED * self.first[0]).any())


def find_root(
    problem: Problem, theta: np.ndarray, tolerance: float, max_iterations: int, *, minimum_norm: bool = False
) -> Iterate:
    """Iterate from ``theta`` to a status.

    With ``minimum_norm`` steps use the pseudo-inverse, so directions that the equations leave free do not move.
    """
    cheap, n = problem.psi.linear is not None, problem.total()
    with np.errstate(all="ignore"):  # overflow is an outcome here, and has a status
        at = _evaluate(problem, theta, jacobian=True)
        assert at.jacobian is not None  # noqa: S101 - asked for
        now = Iterate(theta, _exact(at.mean, at.jacobian, theta), at.rms, at.jacobian)
        now.first = (at.rms, np.abs(at.jacobian).max(axis=0))
        while True:
            step, moved = _step(now, minimum_norm)
            status = _outcome(now, now.residual(n), moved, tolerance)
            if status is not None or now.iterations == max_iterations:
                now.status = status or Status.MAX_ITERATIONS
                return now
            now.iterations += 1
            _advance(problem, now, step, cheap, tolerance / n**0.5)


def _evaluate(problem: Problem, theta: np.ndarray, *, jacobian: bool) -> Moments:
    return problem.moments(torch.from_numpy(theta).to(problem.device), jacobian=jacobian)


def _advance(problem: Problem, now: Iterate, step: np.ndarray, cheap: bool, tolerance: float) -> None:
    """Try a step, keep it where the norm falls, and update Jacobian and damping."""
    trial = now.theta + step
    at = _evaluate(problem, trial, jacobian=cheap)
    unit, mean = now.unit(), _exact(at.mean, now.jacobian, trial)
    ratio = np.square(mean / unit).sum() / np.square(now.mean / unit).sum()
    if not (ratio < 1 and np.isfinite(trial).all()):  # a NaN ratio is not accepted either; the sign of NaN is zero
        now.slow += 1
        if now.age > 0:
            _refresh(problem, now)
        else:
            now.damping = max(10 * now.damping, FIRST_DAMPING)
        return
    change, damped = mean - now.mean, now.damping > 0
    now.theta, now.mean, now.rms = trial, mean, at.rms
    now.slow = 0 if ratio <= PROGRESS else now.slow + 1
    now.damping = now.damping / 10 if now.damping > 10 * LEAST_DAMPING else 0.0
    if at.jacobian is not None:
        now.jacobian = at.jacobian
    elif ratio <= CONTRACTED and not damped:
        now.jacobian = _broyden(now.jacobian, step, change, unit)
        now.age += 1
        if now.vanished():
            _refresh(problem, now)
    elif np.abs(now.mean / now.unit()).max() > tolerance or now.vanished():
        _refresh(problem, now)


def _refresh(problem: Problem, now: Iterate) -> None:
    now.jacobian = problem.jacobian(torch.from_numpy(now.theta).to(problem.device)).numpy(force=True)
    now.age = 0


def _outcome(now: Iterate, residual: float, moved: float, tolerance: float) -> Status | None:
    """Status of a finished iteration, None to go on."""
    if not (np.isfinite(now.mean).all() and np.isfinite(now.jacobian).all()):
        return Status.NON_FINITE
    vanished = now.vanished()
    flat = vanished and bool((np.abs(now.jacobian).max(axis=0) < VANISHED * now.first[1]).any())
    if flat:
        return Status.DEGENERATE
    stuck = now.damping > MOST_DAMPING or now.slow >= PATIENCE
    at_rest = moved <= STILL and now.damping == 0
    perfect_fit = vanished and moved <= PERFECT_FIT
    if residual <= tolerance or at_rest or perfect_fit or (stuck and residual <= ROUNDING_RESIDUAL):
        return Status.CONVERGED
    return Status.STALLED if stuck else None


def _step(now: Iterate, minimum_norm: bool) -> tuple[np.ndarray, float]:
    """Damped step (p,) and what it moves in the terms of an equation, relative to them."""
    scale = now.unit()
    scaled = now.jacobian / scale[:, None]
    size = np.ones(len(scale)) if minimum_norm else _column_norms(scaled)
    scaled = scaled / size
    right = -now.mean / scale
    try:
        if minimum_norm and now.damping == 0:
            solution = np.linalg.lstsq(scaled, right, rcond=_NULL_DIRECTION)[0]
        elif now.damping == 0:
            solution = np.linalg.solve(scaled, right)
        else:
            normal = scaled.T @ scaled
            normal[np.diag_indices_from(normal)] += now.damping
            solution = np.linalg.solve(normal, scaled.T @ right)
    except np.linalg.LinAlgError:
        return np.full_like(scale, np.nan), np.inf
    step: np.ndarray = solution / size
    change, terms = (np.abs(now.jacobian) @ np.abs(part) for part in (step, now.theta))
    moved = float(np.where(change == 0, 0.0, change / terms).max())
    return step, np.inf if np.isnan(moved) else moved


def _broyden(jacobian: np.ndarray, step: np.ndarray, change: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Broyden's update of a Jacobian (p, p), in the units of the scaled parameters."""
    size = _column_norms(jacobian / scale[:, None])
    scaled = size * step  # of order one in any units of theta
    updated: np.ndarray = jacobian + np.outer(change - jacobian @ step, size * scaled / (scaled @ scaled))
    return updated


def _exact(mean: np.ndarray, jacobian: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Zero where a mean is rounding in its terms, as of an equation that is the same for every row."""
    return np.where(np.abs(mean) <= ROUNDING * (np.abs(jacobian) @ np.abs(theta)), 0.0, mean)


def _positive(scale: np.ndarray) -> np.ndarray:
    """Scale to divide by: one for an equation that is zero for every observation."""
    return np.where(scale == 0, 1.0, scale)


def _column_norms(matrix: np.ndarray) -> np.ndarray:
    largest = np.abs(matrix).max(axis=0)
    largest = np.where(largest > 0, largest, 1.0)  # divided out, for the squares may over- or underflow
    norms: np.ndarray = largest * np.sqrt(np.square(matrix / largest).sum(axis=0)).clip(min=1.0)
    return norms
