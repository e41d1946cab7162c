r"""A regression on a small ReLU network, whose mean and variance are known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ReluTeacher"]


@dataclass(frozen=True)
class ReluTeacher:
    r"""A few rectified linear units on Gaussian inputs, scaled to mean 0 and variance 1.

    .. math:: y = f(x) + \tau \varepsilon, \quad f(x) = \frac{\sum_j a_j (w_j^\top x)_+ - \mu}{s}, \qquad
              x \sim N(0, I_d), \quad \varepsilon \sim N(0, 1), \quad \lVert w_j \rVert = 1 .

    The weights are drawn once, from ``seed``. With :math:`\cos \rho_{jl} = w_j^\top w_l`,
    :math:`E (w_j^\top x)_+ = (2\pi)^{-1/2}` and
    :math:`E (w_j^\top x)_+ (w_l^\top x)_+ = \{\sin \rho_{jl} + (\pi - \rho_{jl}) \cos \rho_{jl}\} / 2\pi`.

    Attributes
    ----------
    dim : int
        d.
    units : int
        Units of the teacher.
    noise : float
        :math:`\tau`.
    seed : int
        Seed of the weights and of the test points.
    test_points : int
        Inputs at which the distance of a fitted function to f is measured: the same for every fit.

    References
    ----------
    Cho & Saul (2009) Advances in Neural Information Processing Systems 22, the moments of rectified units.
    """

    dim: int = 5
    units: int = 3
    noise: float = 0.5
    seed: int = 0
    test_points: int = 2000

    def __post_init__(self) -> None:
        for name in ("dim", "units", "test_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use 1 or more.")
        if not self.noise > 0:
            raise ValueError(f"noise is {self.noise}; use a positive standard deviation.")

    @property
    def weights(self) -> tuple[Tensor, Tensor]:
        """Directions (d, units) and coefficients (units,)."""
        generator = torch.Generator().manual_seed(self.seed)
        directions = torch.randn(self.dim, self.units, generator=generator, dtype=torch.float64)
        coefficients = torch.randn(self.units, generator=generator, dtype=torch.float64)
        return directions / directions.norm(dim=0), coefficients

    @property
    def moments(self) -> tuple[float, float]:
        r"""Mean :math:`\mu` and standard deviation s of the network before scaling."""
        directions, coefficients = self.weights
        cosine = (directions.mT @ directions).clamp(-1, 1)
        angle = cosine.arccos()
        second = coefficients @ (angle.sin() + (math.pi - angle) * cosine) @ coefficients / (2 * math.pi)
        mean = float(coefficients.sum()) / math.sqrt(2 * math.pi)
        return mean, math.sqrt(float(second) - mean**2)

    def target(self, x: Tensor) -> Tensor:
        """Values of f (..., n) at inputs (..., n, d)."""
        directions, coefficients = self.weights
        mean, scale = self.moments
        return ((x.double() @ directions).relu() @ coefficients - mean) / scale

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw n observations: inputs (n, d) and responses (n,)."""
        x = torch.randn(n, self.dim, generator=generator, dtype=torch.float64)
        return x, self.target(x) + self.noise * torch.randn(n, generator=generator, dtype=torch.float64)

    def test_inputs(self) -> Tensor:
        """Test points (test_points, d)."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        return torch.randn(self.test_points, self.dim, generator=generator, dtype=torch.float64)
