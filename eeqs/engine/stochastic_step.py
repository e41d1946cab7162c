"""How an iterate of a stochastic approximation moves: step sizes, preconditioner, guards."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["PowerStep", "StepRule", "as_rule"]


@dataclass(frozen=True)
class PowerStep:
    r"""Step sizes :math:`\gamma_t = \gamma_0 (t + t_0)^{-\alpha}` for t = 1, 2, ...

    Parameters
    ----------
    first : float
        :math:`\gamma_0`. Near the root an iterate forgets its error over about :math:`1 / (\gamma_t \lambda)` steps,
        :math:`\lambda` an eigenvalue of :math:`-HA`; a product of one to a few for the smallest is a good first try.
    exponent : float
        :math:`\alpha`, above one half and below one.
    delay : float
        :math:`t_0`, which bounds the first steps where :math:`\gamma_0` is large.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    first: float = 1.0
    exponent: float = 2 / 3
    delay: float = 0.0

    def __post_init__(self) -> None:
        if not 0.5 < self.exponent < 1:
            raise ValueError(f"exponent is {self.exponent}; averaging needs one above 1/2 and below 1.")
        if not (0 < self.first < math.inf and 0 <= self.delay < math.inf):
            raise ValueError(
                f"first = {self.first} and delay = {self.delay}; pass a positive and a non-negative number."
            )

    def __call__(self, t: int) -> float:
        """Size of step t."""
        return self.first * (t + self.delay) ** -self.exponent


@dataclass(frozen=True)
class StepRule:
    """How an iterate moves; `eeqs.stochastic` documents the fields."""

    step: Callable[[int], float]
    precondition: Tensor | None
    clip: float
    project: Callable[[Tensor], Tensor] | None

    def move(self, theta: Tensor, score: Tensor, t: int) -> Tensor:
        """Next iterate (..., p)."""
        gain = float(self.step(t))
        if not 0 < gain < math.inf:
            raise ValueError(f"step({t}) is {gain}; a step size is positive and finite.")
        matrix = self.precondition
        along = score if matrix is None else score * matrix if matrix.ndim == 1 else score @ matrix.mT
        change = gain * along
        if self.clip < math.inf:
            length = torch.linalg.vector_norm(change, dim=-1, keepdim=True)
            change = change * (self.clip / length).clamp_max(1)
        return theta + change if self.project is None else self.project(theta + change)


def as_rule(
    step: Callable[[int], float],
    precondition: Any,
    clip: float,
    project: Callable[[Tensor], Tensor] | None,
    theta: Tensor,
) -> StepRule:
    """Check a rule against the first iterate ``theta`` (..., p).

    Raises
    ------
    ValueError
        If the preconditioner has another shape or is not finite, or the projection returns another kind of tensor.
    """
    if project is not None:
        onto = project(theta)
        if not isinstance(onto, Tensor) or onto.shape != theta.shape or onto.dtype != theta.dtype:
            raise ValueError(f"project must return a {theta.dtype} tensor of the shape of theta, {tuple(theta.shape)}.")
    return StepRule(step, _preconditioner(precondition, theta), clip, project)


def _preconditioner(precondition: Any, theta: Tensor) -> Tensor | None:
    if precondition is None:
        return None
    p = theta.shape[-1]
    matrix = torch.as_tensor(precondition, dtype=torch.float64, device=theta.device)
    if matrix.shape not in ((p,), (p, p)) or not bool(torch.isfinite(matrix).all()):
        raise ValueError(
            f"precondition has shape {tuple(matrix.shape)}; pass finite numbers, ({p},) for a diagonal or ({p}, {p})."
        )
    return matrix
