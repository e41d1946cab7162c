r"""A frozen quadratic softmax whose input carries no noise, or next to none: the boundary of the noise scale."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

import eeqs
from eeqs.marginal import Draws, Gaussian, Marginal, QuadraticSoftmax, Score, exact

__all__ = ["FLOOR", "ZeroNoise"]

# Variance that stands for zero, where psi is 0 / 0. It is a ten-thousandth of a standard error at n = 1,000, and
# derivatives keep seven digits there.
FLOOR = 1e-6
# Points of x at which expectations over it are taken.
_GRID = 201


@dataclass(frozen=True)
class ZeroNoise:
    r"""Three categories on a scalar without noise, fitted by a model with noise.

    .. math:: x \sim U(-h, h), \quad e = x + \sigma z, \quad z \sim N(0, 1), \quad
              P(y = v \mid e) \propto e^{w_v e + q_v e^2}, \quad \sigma^* = 0.

    The law depends on :math:`\sigma` through :math:`v = \sigma^2` only, so the score in :math:`\sigma` is odd and
    vanishes at zero. That in v is regular there, with information :math:`I_0`, and the half line of variances cuts its
    root off at zero: :math:`(n I_0)^{1/2} \hat v \to \max(0, Z)` with a standard normal Z (Self & Liang 1987).

    The kernel is known. Of some fifteen round ones it is the one whose score at zero has the least skewness (about 0)
    and whose mean score is the nearest to linear in v, both population quantities.

    Attributes
    ----------
    half_width : float
        h.
    weight, square_weight : tuple of float
        The kernel's :math:`w_v` and :math:`q_v`.
    nodes : int
        Gauss-Hermite nodes of the exact score and of predictions.
    distance : float
        t of the true variance :math:`v^* = t\, (n I_0)^{-1/2}`: zero, or that many standard errors from it.
    """

    half_width: float = 0.5
    weight: tuple[float, ...] = (-1.0, 0.0, 1.0)
    square_weight: tuple[float, ...] = (-3.0, 0.0, -3.0)
    nodes: int = 8
    distance: float = 0.0

    def model(self, scale: float) -> Marginal:
        """Marginal model at a scale, with its kernel frozen."""
        rows = [torch.tensor(values, dtype=torch.float64)[:, None] for values in (self.weight, self.square_weight)]
        return Marginal(Gaussian(1, scale=scale), QuadraticSoftmax(*rows).requires_grad_(requires_grad=False))

    def truth(self, n: int) -> float:
        """Return the true scale of a sample of n observations."""
        return math.sqrt(self.distance) * (n * self.information) ** -0.25

    def sample(self, n: int, draws: Draws | None, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations, with latents of a design to estimate with (none for None)."""
        model = self.model(self.truth(n))
        x = self.half_width * (2 * torch.rand(n, 1, generator=generator, dtype=torch.float64) - 1)
        data = {"x": x, "y": model.simulate(x, generator).double()}
        return data if draws is None else data | {"z": model.draw(x, draws, generator)}

    def psi(self, score: Score, draws: Draws | None, device: str = "cpu") -> eeqs.EstimatingFunction:
        r"""Estimating function of the variance, :math:`\psi_v(v) = \psi_\sigma(\sqrt v) / (2 \sqrt v)`.

        It is regular down to zero where :math:`\psi_\sigma` is odd: with quadrature, or with draws in mirrored pairs.
        With independent draws it is not, for :math:`\psi_\sigma(0)` is then noise.
        """
        psi = self.model(0.0).to(device).psi(score, draws=draws)

        def of_variance(variance: Tensor, data: Any) -> Tensor:
            scale = variance.sqrt()
            return psi.psi(scale, data) / (2 * scale)

        return replace(psi, psi=of_variance, names=("variance",), start=None, mean_jacobian=None)

    @cached_property
    def information(self) -> float:
        r"""Information :math:`I_0` of one observation on v at zero, from scores at every class of a grid of x."""
        x = self.grid.repeat_interleave(len(self.weight), dim=0)
        y = torch.arange(len(self.weight), dtype=torch.float64).repeat(_GRID)
        zero = torch.tensor([FLOOR], dtype=torch.float64)
        score = self.psi(exact(self.nodes), None)(zero, {"x": x, "y": y})[:, 0]
        return float((score.square() * self.probabilities(0 * zero)[0].flatten()).sum() / _GRID)

    @property
    def grid(self) -> Tensor:
        """Midpoints of equal parts of the range of x, (G, 1)."""
        return self.half_width * ((2 * torch.arange(_GRID, dtype=torch.float64) + 1) / _GRID - 1)[:, None]

    def probabilities(self, scale: Tensor) -> Tensor:
        """Class probabilities (R, G, V) on the grid at scales (R,)."""
        model = self.model(0.0)
        return torch.stack([model.predict(self.grid, nodes=self.nodes, theta=one[None]) for one in scale])

    def prediction_error(self, scale: Tensor, truth: float) -> Tensor:
        """Root mean square over x and classes of the error in probability of scales (R,) against a true one."""
        error = self.probabilities(scale) - self.probabilities(torch.tensor([truth], dtype=torch.float64))
        return error.square().mean(dim=(1, 2)).sqrt()
