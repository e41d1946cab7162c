"""Regressions whose mean or variance is not the model's, with the coefficients they converge to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.optimize import root
from torch import Tensor

import eeqs

__all__ = ["WrongRegression", "bent_line", "flipped_responses", "overdispersed_counts"]

Curve = Callable[[Tensor], Tensor]
_HALF_WIDTH = math.sqrt(3)


@dataclass(frozen=True)
class WrongRegression:
    r"""A regression with intercept on one regressor, fitted by an estimating equation that is not its score.

    .. math:: x \sim U(-\sqrt 3, \sqrt 3), \quad E(y \mid x) = m(x), \qquad
              E\{(m(x) - g(\beta_0 + \beta_1 x)) (1, x)^\top\} = 0.

    The second equation defines the pseudo-true :math:`\beta` (White 1982). A bounded regressor keeps the leverage of
    every observation small, so that sandwich intervals need no correction for it.

    Attributes
    ----------
    stream : str
        Name of the random stream.
    psi : EstimatingFunction
        The fitted equations, of the columns ``y`` and ``x``.
    mean, fitted_mean : callable
        m, and g of the linear index.
    draw : callable
        ``draw(x, generator)`` gives responses with mean m.
    dispersed : bool
        Whether the model has a variance of its own, estimated by the mean squared residual; otherwise that is one.
    nodes : int
        Gauss-Legendre nodes of the pseudo-true coefficients.
    """

    stream: str
    psi: eeqs.EstimatingFunction
    mean: Curve
    fitted_mean: Curve
    draw: Callable[[Tensor, torch.Generator], Tensor]
    dispersed: bool = False
    nodes: int = 100

    column = 1
    start = (0.0, 0.0)
    numbers = 2

    @cached_property
    def coefficients(self) -> np.ndarray:
        """Pseudo-true coefficients (2,)."""
        point, weight = np.polynomial.legendre.leggauss(self.nodes)
        x = torch.from_numpy(_HALF_WIDTH * point)
        moments = np.stack([weight, weight * x.numpy()]) / 2
        mean = self.mean(x).numpy()

        def equations(beta: np.ndarray) -> np.ndarray:
            return moments @ (mean - self.fitted_mean(beta[0] + beta[1] * x).numpy())

        found = root(equations, np.zeros(2), tol=1e-12)
        if np.abs(equations(found.x)).max() > 1e-10:
            raise RuntimeError(f"no pseudo-true coefficients of {self.stream}: {found.message}")
        return found.x

    @property
    def truth(self) -> float:
        """Pseudo-true slope."""
        return float(self.coefficients[1])

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations."""
        x = _HALF_WIDTH * (2 * torch.rand(n, generator=generator, dtype=torch.float64) - 1)
        return {"y": self.draw(x, generator), "x": x}

    def dispersion(self, theta: Tensor, data: dict[str, Tensor]) -> Tensor:
        """Variance the model gives a residual, relative to its variance function, (R,)."""
        if not self.dispersed:
            return torch.ones_like(theta[:, 0])
        residual = data["y"] - theta[:, :1] - theta[:, 1:] * data["x"]
        return residual.square().sum(dim=1) / (residual.shape[1] - 2)


def overdispersed_counts(intercept: float = 0.5, slope: float = 0.5) -> WrongRegression:
    r"""Poisson regression on counts with an exponential frailty: the mean is right, the variance :math:`m + m^2`."""

    def mean(x: Tensor) -> Tensor:
        return torch.exp(intercept + slope * x)

    def draw(x: Tensor, generator: torch.Generator) -> Tensor:
        frailty = -torch.log1p(-torch.rand(len(x), generator=generator, dtype=torch.float64))
        return torch.poisson(mean(x) * frailty, generator=generator)

    return WrongRegression("counts", eeqs.moments.poisson("y", ["x"]), mean, torch.exp, draw)


def flipped_responses(share: float = 0.03, slope: float = 8.0) -> WrongRegression:
    """Logistic regression on responses of which a share is recorded wrongly: the link flattens at both ends."""

    def mean(x: Tensor) -> Tensor:
        return share + (1 - 2 * share) * torch.sigmoid(slope * x)

    def draw(x: Tensor, generator: torch.Generator) -> Tensor:
        return (torch.rand(len(x), generator=generator, dtype=torch.float64) < mean(x)).double()

    return WrongRegression("flips", eeqs.moments.logit("y", ["x"]), mean, torch.sigmoid, draw)


def bent_line(curvature: float = 0.3, floor: float = 0.2, spread: float = 0.8) -> WrongRegression:
    """Least squares on a parabola with noise that grows away from the centre."""

    def mean(x: Tensor) -> Tensor:
        return x + curvature * x.square()

    def draw(x: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(x), generator=generator, dtype=torch.float64)
        return mean(x) + (floor + spread * x.square()) * noise

    return WrongRegression("line", eeqs.moments.least_squares("y", ["x"]), mean, lambda index: index, draw, True)
