r"""Logistic regression on two uniform regressors: the control design of stochastic approximation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import eeqs

__all__ = ["Logistic"]


@dataclass(frozen=True)
class Logistic:
    r"""A binary response with independent, bounded regressors of mean zero and variance one.

    .. math:: x_1, x_2 \sim U(-\sqrt 3, \sqrt 3), \qquad
              P(y = 1 \mid x) = \mathrm{expit}(\beta_0 + \beta_1 x_1 + \beta_2 x_2).

    Moderate coefficients keep the equation close to linear within reach of the iterates, and bounded regressors bound
    every step.

    Attributes
    ----------
    truth : tuple of float
        :math:`\beta_0, \beta_1, \beta_2`.
    start : tuple of float
        Where every run starts.
    """

    truth: tuple[float, ...] = (0.2, 0.25, -0.25)
    start: tuple[float, ...] = (0.0, 0.0, 0.0)
    names: ClassVar[tuple[str, ...]] = ("intercept", "x1", "x2")

    def psi(self) -> eeqs.EstimatingFunction:
        """Score of the model."""
        return eeqs.moments.logit("y", ["x1", "x2"])

    def project(self, theta: Tensor) -> Tensor:
        """Return ``theta``: every coefficient is allowed."""
        return theta

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations."""
        draws = torch.rand(n, 3, generator=generator, dtype=torch.float64)
        x = math.sqrt(3) * (2 * draws[:, :2] - 1)
        index = self.truth[0] + x @ torch.tensor(self.truth[1:], dtype=torch.float64)
        return {"y": (draws[:, 2] < torch.sigmoid(index)).double(), "x1": x[:, 0], "x2": x[:, 1]}
