"""The steps of `eeqs.engine.newton` on all unfinished replicates at once."""

from __future__ import annotations

import torch
from torch import Tensor

from eeqs.engine.errors import Status
from eeqs.engine.evaluate import Problem
from eeqs.engine.linalg import RANK_TOLERANCE, condition_number
from eeqs.engine.newton import (
    CONTRACTED,
    FIRST_DAMPING,
    LEAST_DAMPING,
    MOST_DAMPING,
    PATIENCE,
    PERFECT_FIT,
    PROGRESS,
    ROUNDING,
    ROUNDING_RESIDUAL,
    STILL,
    VANISHED,
)

__all__ = ["Newton"]


class Newton:
    """State of the iteration; after `run` the fields below hold one entry a replicate.

    Attributes
    ----------
    theta : Tensor of shape (R, p)
    status : list of R Status
    iterations, residual, condition : Tensor of shape (R,)
        See `eeqs.engine.solve.Solution`.
    """

    def __init__(self, problem: Problem, theta: Tensor, tolerance: float, max_iterations: int) -> None:
        self._problem, self._tolerance, self._limit = problem, tolerance, max_iterations
        count, device = theta.shape[0], theta.device
        self.theta = theta.clone()
        self.status = [Status.MAX_ITERATIONS] * count
        self.iterations = torch.full((count,), max_iterations, device=device)
        self.residual = torch.full((count,), torch.inf, dtype=torch.float64, device=device)
        self.condition = self.residual.clone()
        # The unfinished replicates: their positions, and everything the iteration knows about them.
        self._rows = torch.arange(count, device=device)
        mean, scale = self._moments(theta)
        self._live = {
            "x": theta.clone(),
            "jacobian": (jacobian := problem.jacobian(theta)),
            "mean": _exact(mean, jacobian, theta),
            "scale": scale,
            "first_scale": scale,
            "first_jacobian": jacobian,
            "age": torch.zeros(count, device=device),  # Broyden updates since the last fresh Jacobian
            "damping": torch.zeros(count, dtype=torch.float64, device=device),
            "slow": torch.zeros(count, device=device),  # steps in a row without progress
        }

    def run(self) -> None:
        """Iterate until every replicate has a status."""
        for iteration in range(self._limit + 1):
            step, moved = _step(**{k: self._live[k] for k in ("jacobian", "mean", "scale", "damping", "x")})
            outcome = self._outcome(moved)
            if iteration == self._limit:
                outcome = [status or Status.MAX_ITERATIONS for status in outcome]
            finished = torch.tensor([status is not None for status in outcome], device=step.device)
            if bool(finished.any()):
                self._record([status for status in outcome if status], finished, iteration)
                if len(self._rows) == 0:
                    return
                step = step[~finished]
            self._advance(step)

    def _advance(self, step: Tensor) -> None:
        """Try a step for every live replicate, keep it where the norm falls, and update Jacobian and damping."""
        live = self._live
        trial = live["x"] + step
        mean, scale = self._moments(trial)
        mean = _exact(mean, live["jacobian"], trial)
        unit = self._unit()
        ratio = (mean / unit).square().sum(1) / (live["mean"] / unit).square().sum(1)
        accepted = (ratio < 1) & torch.isfinite(trial).all(1)  # false for NaN; the sign of NaN is zero
        update = accepted & (ratio <= CONTRACTED) & (live["damping"] == 0) & (self._problem.psi.linear is None)
        broyden = _broyden(live["jacobian"], step, mean - live["mean"], unit)
        live["jacobian"] = torch.where(update[:, None, None], broyden, live["jacobian"])
        for name, value in (("x", trial), ("mean", mean), ("scale", scale)):
            live[name] = torch.where(accepted[:, None], value, live[name])
        stale = ~accepted & (live["age"] > 0)
        unfinished = ~update & (self._residual() > self._tolerance)
        refresh = (accepted & (unfinished | self._vanished())) | stale
        self._refresh(refresh)
        live["age"] = torch.where(refresh, 0.0, live["age"] + update)
        grown = (10 * live["damping"]).clamp_min(FIRST_DAMPING)
        shrunk = torch.where(live["damping"] > 10 * LEAST_DAMPING, live["damping"] / 10, 0.0)
        live["damping"] = torch.where(accepted, shrunk, torch.where(stale, live["damping"], grown))
        live["slow"] = torch.where(accepted & (ratio <= PROGRESS), 0.0, live["slow"] + 1)

    def _refresh(self, which: Tensor) -> None:
        """Recompute the Jacobian of the replicates in the mask."""
        if not bool(which.any()):
            return
        rows = which.nonzero()[:, 0]
        problem = self._problem if len(rows) == len(which) else self._problem.rows(rows)
        self._live["jacobian"] = self._live["jacobian"].index_copy(0, rows, problem.jacobian(self._live["x"][rows]))

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (R, p) and root mean square (R, p) of psi; NaN where psi is not finite."""
        values = self._problem.values(x)
        mean = values.mean(dim=1)
        root_n = values.shape[1] ** 0.5
        scale = torch.linalg.vector_norm(values, dim=1) / root_n
        if bool((torch.isinf(scale) | ((scale == 0) & (mean != 0))).any()):  # the squares over- or underflowed
            largest = values.abs().amax(dim=1, keepdim=True)
            unit = values / torch.where(largest > 0, largest, 1.0)
            scale = largest[:, 0] * torch.linalg.vector_norm(unit, dim=1) / root_n
        return mean, scale

    def _vanished(self) -> Tensor:
        """Whether some equation of a replicate has all but vanished for every observation."""
        return (self._live["scale"] < VANISHED * self._live["first_scale"]).any(1)

    def _residual(self) -> Tensor:
        return self._problem.n**0.5 * (self._live["mean"] / self._unit()).abs().amax(dim=1)

    def _unit(self) -> Tensor:
        return _unit(*(self._live[name] for name in ("scale", "jacobian", "x")))

    def _outcome(self, moved: Tensor) -> list[Status | None]:
        """Status of every live replicate that is finished, None for the others."""
        live, residual = self._live, self._residual()
        finite = torch.isfinite(live["mean"]).all(1) & torch.isfinite(live["jacobian"]).flatten(1).all(1)
        stuck = (live["damping"] > MOST_DAMPING) | (live["slow"] >= PATIENCE)
        sizes = [live[name].abs().amax(1) for name in ("jacobian", "first_jacobian")]
        flat = (sizes[0] < VANISHED * sizes[1]).any(1)
        vanished = self._vanished()
        at_rest = (moved <= STILL) & (live["damping"] == 0)
        perfect_fit = vanished & ~flat & (moved <= PERFECT_FIT)
        rounding = stuck & (residual <= ROUNDING_RESIDUAL)
        converged = (residual <= self._tolerance) | at_rest | perfect_fit | rounding
        code = torch.zeros_like(self._rows)
        for value, mask in enumerate((stuck, converged, vanished & flat, ~finite), 1):
            code = torch.where(mask, value, code)
        table = (None, Status.STALLED, Status.CONVERGED, Status.DEGENERATE, Status.NON_FINITE)
        return [table[value] for value in code.tolist()]

    def _record(self, statuses: list[Status], finished: Tensor, iteration: int) -> None:
        """Store the finished replicates and drop them from the live ones."""
        rows = self._rows[finished]
        self.theta[rows] = self._live["x"][finished]
        self.iterations[rows] = iteration
        self.residual[rows] = self._residual()[finished]
        self.condition[rows] = condition_number(self._live["jacobian"][finished])
        for row, status in zip(rows.tolist(), statuses, strict=True):
            singular = status is Status.CONVERGED and float(self.condition[row]) >= 1 / RANK_TOLERANCE
            self.status[row] = Status.SINGULAR if singular else status
        keep = (~finished).nonzero()[:, 0]
        self._rows = self._rows[keep]
        self._live = {name: value[keep] for name, value in self._live.items()}
        if len(keep):
            self._problem = self._problem.rows(keep)


def _step(jacobian: Tensor, mean: Tensor, scale: Tensor, damping: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Damped step (R, p) and what it moves in the terms of an equation, relative to them."""
    scale = _unit(scale, jacobian, x)
    scaled = jacobian / scale[:, :, None]
    size = _column_norms(scaled)
    scaled = scaled / size[:, None, :]
    right = -(mean / scale)[:, :, None]
    identity = torch.eye(scaled.shape[-1], dtype=scaled.dtype, device=scaled.device)
    newton = (damping == 0)[:, None, None]
    system = torch.where(newton, scaled, scaled.mT @ scaled + damping[:, None, None] * identity)
    right = torch.where(newton, right, scaled.mT @ right)
    solution = torch.linalg.solve_ex(system, right)[0][:, :, 0]
    step = solution / size
    change = _terms(jacobian, step)
    moved = torch.where(change == 0, 0.0, change / _terms(jacobian, x)).amax(1)
    return step, torch.nan_to_num(moved, nan=torch.inf)  # a step that is NaN has not come to rest


def _broyden(jacobian: Tensor, step: Tensor, change: Tensor, scale: Tensor) -> Tensor:
    """Broyden's update of (R, p, p) Jacobians, in the units of the scaled parameters."""
    size = _column_norms(jacobian / scale[:, :, None])
    scaled = size * step  # of order one in any units of theta
    surplus = change - (jacobian @ step[:, :, None])[:, :, 0]
    direction = size * (scaled / scaled.square().sum(1, keepdim=True))
    return jacobian + surplus[:, :, None] * direction[:, None, :]


def _terms(jacobian: Tensor, x: Tensor) -> Tensor:
    """Size (R, p) of the terms that a mean is summed from."""
    return (jacobian.abs() @ x.abs().unsqueeze(-1)).squeeze(-1)


def _exact(mean: Tensor, jacobian: Tensor, x: Tensor) -> Tensor:
    """Zero where a mean is rounding in its terms, as of an equation that is the same for every row."""
    return torch.where(mean.abs() <= ROUNDING * _terms(jacobian, x), 0.0, mean)


def _unit(scale: Tensor, jacobian: Tensor, x: Tensor) -> Tensor:
    """Scale of every equation: its root mean square, or where that is zero the size of its terms."""
    if bool((scale != 0).all()):
        return scale
    terms = _terms(jacobian, x)
    return torch.where(scale != 0, scale, torch.where(terms > 0, terms, 1.0))


def _column_norms(matrix: Tensor) -> Tensor:
    largest = matrix.abs().amax(dim=1)
    largest = torch.where(largest > 0, largest, 1.0)  # divided out, for the squares may over- or underflow
    return largest * torch.linalg.vector_norm(matrix / largest[:, None, :], dim=1).clamp_min(1.0)
