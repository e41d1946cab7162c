r"""The frozen kernel with noise of a law outside the fitted family, and the scales that estimates converge to."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

import eeqs
from eeqs.marginal import cross_fitted, exact
from eeqs.marginal.laws import gauss_hermite
from simulations.designs.frozen_kernel import FrozenKernel

__all__ = ["ForeignNoise"]


@dataclass(frozen=True)
class ForeignNoise:
    r"""Gaussian noise is fitted, but a share of the inputs is shifted and the others are almost exact.

    .. math:: e = x + u, \quad u \sim (1 - w) N(0, s_0^2) + w N(c, s_1^2), \qquad
              \text{fitted: } e = x + e^{\phi} z,\; z \sim N(0, 1).

    No :math:`\phi` gives the law q* of the responses. An estimating function converges to its own root of

    .. math:: E_x \sum_v \{q^*(v \mid x) - q_\phi(v \mid x)\}\, a_\phi(v \mid x) = 0,

    where the instrument a is :math:`\partial \log q_\phi` for the score and
    :math:`E\, \partial \log \hat q_{-k}`, over the other K - 1 draws, for cross_fitted. At a true model every a has
    the same root, at a wrong one they differ.

    Attributes
    ----------
    draws : int
        K of cross_fitted, at most 4; 0 for the score by quadrature.
    share, centre, spreads : float, float, pair of float
        w, c and :math:`(s_0, s_1)`.
    kernel : FrozenKernel
        The kernel, where the estimators start and the nodes of the score.
    points : int
        Gauss-Hermite nodes of the expected equation of cross_fitted, in every draw. That of the score has the nodes
        of the kernel: it is the likelihood with the latent on so many points that is fitted.
    bracket : pair of float
        Holds the one root of the equation.
    """

    draws: int = 0
    share: float = 0.3
    centre: float = -3.0
    spreads: tuple[float, float] = (0.05, 0.1)
    kernel: FrozenKernel = field(default_factory=lambda: FrozenKernel(nodes=12, start=-0.2))
    points: int = 24
    bracket: tuple[float, float] = (-1.5, 0.8)

    stream = "noise"
    column = 0

    def __post_init__(self) -> None:
        if self.draws not in (0, 2, 3, 4):
            raise ValueError(f"draws is {self.draws}: use 0 for quadrature, or 2 to 4, whose limit is a product rule")

    @property
    def start(self) -> tuple[float]:
        """Where the estimator starts."""
        return (self.kernel.start,)

    @property
    def numbers(self) -> int:
        """Log-probabilities an observation."""
        return (self.draws or self.kernel.nodes) * len(self.kernel.weight)

    @property
    def psi(self) -> eeqs.EstimatingFunction:
        """The fitted equation."""
        score = cross_fitted if self.draws else exact(self.kernel.nodes)
        return self.kernel.model(self.kernel.start).psi(score, draws=self.draws or None)

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations, then the draws of the fitted model; observations do not depend on their number."""
        model, h = self.kernel.model(), self.kernel.half_width
        x = h * (2 * torch.rand(n, 1, generator=generator, dtype=torch.float64) - 1)
        shifted = torch.rand(n, 1, generator=generator, dtype=torch.float64) < self.share
        noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
        u = torch.where(shifted, self.centre + self.spreads[1] * noise, self.spreads[0] * noise)
        probabilities = model.kernel(x + u).exp()
        data = {"x": x, "y": torch.multinomial(probabilities, 1, generator=generator)[:, 0].double()}
        return data | {"z": model.draw(x, self.draws, generator)} if self.draws else data

    def dispersion(self, theta: Tensor, _data: dict[str, Tensor]) -> Tensor:
        """One: a categorical response has no variance of its own, (R,)."""
        return torch.ones_like(theta[:, 0])

    @cached_property
    def truth(self) -> float:
        """Root of the expected equation, by quadrature."""
        point, weight = np.polynomial.legendre.leggauss(12)
        x = torch.from_numpy(self.kernel.half_width * point)[:, None, None]
        mass = torch.from_numpy(weight / 2)
        response = self._response(x)
        return float(brentq(lambda phi: self.equation(phi, x, mass, response), *self.bracket, xtol=1e-12))

    def equation(self, phi: float, x: Tensor, mass: Tensor, response: Tensor) -> float:
        """Integrate psi at ``phi``: nodes x (X, 1, 1) with their masses (X,), and q* there (X, V)."""
        z, log_weight = gauss_hermite(self.points if self.draws else self.kernel.nodes, 1)
        groups = torch.tensor(list(itertools.product(range(len(z)), repeat=max(self.draws - 1, 0))))
        kernel, weight = self.kernel.model().kernel, log_weight.exp()

        def log_mean(log_scale: Tensor) -> Tensor:
            log_p = kernel(x + log_scale.exp() * z)  # (X, M, V)
            if self.draws:
                return log_p[:, groups].logsumexp(dim=2)  # (X, M^(K-1), V); the missing log(K - 1) has no slope
            return (log_p + log_weight[:, None]).logsumexp(dim=1)

        at = torch.tensor(phi, dtype=torch.float64)
        slope = torch.func.jvp(log_mean, (at,), (torch.ones_like(at),))[1]
        instrument = torch.einsum("m,xmv->xv", weight[groups].prod(dim=1), slope) if self.draws else slope
        fitted = torch.einsum("m,xmv->xv", weight, kernel(x + at.exp() * z).exp())
        return float((mass[:, None] * (response - fitted) * instrument).sum())

    def _response(self, x: Tensor) -> Tensor:
        """Law of the response given x (X, 1, 1), over the true noise, (X, V)."""
        z, log_weight = gauss_hermite(40, 1)
        kernel = self.kernel.model().kernel
        parts = [(1 - self.share, 0.0, self.spreads[0]), (self.share, self.centre, self.spreads[1])]
        laws = [w * torch.einsum("m,xmv->xv", log_weight.exp(), kernel(x + c + s * z).exp()) for w, c, s in parts]
        return torch.stack(laws).sum(dim=0)
