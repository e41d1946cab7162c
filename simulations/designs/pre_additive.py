r"""Responses that are a known function of a covariate with noise inside: truths of the study of extrapolation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["TRUTHS", "PreAdditive", "normal_nodes"]

LAST_OBSERVATION = 0.1
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class PreAdditive:
    r"""A pre-additive noise model, :math:`y = g(x + \eta)` with :math:`x \sim U(a, b)` and :math:`\eta \sim N(0, 1)`.

    The noise carries the argument of g beyond the support of x, so data speak of g there; noise added to y does not.

    Attributes
    ----------
    name : str
    function : callable
        The function g, elementwise and monotone.
    low, high : float
        Training support [a, b].
    curved : bool
        Whether g keeps bending beyond the support. Where it soon is a straight line, a network that continues
        straight may be right for ever, and no end of the extrapolation can be seen.

    References
    ----------
    Shen & Meinshausen (2024), engression, *Journal of the Royal Statistical Society B*; the four functions and supports
    are those of its simulations and of the simulator in the authors' package.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    low: float
    high: float
    curved: bool

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw covariates (n, 1) and responses (n,) in float32."""
        x = self.low + (self.high - self.low) * torch.rand(n, 1, generator=generator)
        return x, self.function(x + torch.randn(n, 1, generator=generator))[:, 0]

    def responses(self, x: Tensor, nodes: Tensor) -> Tensor:
        """Responses (..., M) at covariates (...) for standard normal nodes (M,): the conditional law."""
        return self.function(x[..., None] + nodes)

    def distance(self, x: Tensor) -> Tensor:
        """How far x lies beyond the support, in standard deviations of the noise; negative inside."""
        return torch.maximum(self.low - x, x - self.high)

    def spread(self, nodes: Tensor) -> float:
        """Compute the standard deviation of y over the training support."""
        return float(self.responses(torch.linspace(self.low, self.high, 401), nodes).std())

    def expected_beyond(self, distance: float, n: int) -> float:
        r"""Count the observations of n expected to have an argument of g further than d beyond one end of the support.

        .. math:: \frac{n}{b - a} \int_d^\infty \{1 - \Phi(t)\}\,dt = \frac{n}{b - a} \{\varphi(d) - d(1 - \Phi(d))\},

        up to the chance of passing the whole support.
        """
        density = math.exp(-(distance**2) / 2) / math.sqrt(2 * math.pi)
        tail = math.erfc(distance / math.sqrt(2)) / 2
        return n / (self.high - self.low) * (density - distance * tail)

    def end(self, n: int) -> float:
        """Smallest distance, in steps of 0.1, beyond which less than a tenth of an observation is expected."""
        step = 0
        while self.expected_beyond(step / 10, n) > LAST_OBSERVATION:
            step += 1
        return step / 10


def normal_nodes(m: int) -> Tensor:
    """Points (m, 2) spread like two independent standard normals, each column with mean zero and variance one.

    The first column holds evenly spaced quantiles, the second those of the golden-ratio sequence.
    """
    level = torch.arange(m, dtype=torch.float64) + 0.5
    u = torch.stack([level / m, (level * GOLDEN) % 1.0], dim=1)
    z = torch.special.ndtri(u)
    return ((z - z.mean(dim=0)) / z.std(dim=0, correction=0)).float()


def _square(u: Tensor) -> Tensor:
    return u.clamp_min(0).square() / 2


def _cubic(u: Tensor) -> Tensor:
    return u**3 / 3


def _log(u: Tensor) -> Tensor:
    """Logarithm log(1 + u) beyond 2, and its tangent there before."""
    return torch.where(u > 2, torch.log1p(u.clamp_min(2)), math.log(3) + (u - 2) / 3)


TRUTHS = (
    PreAdditive("softplus", softplus, -2.0, 2.0, curved=False),
    PreAdditive("square", _square, 0.0, 2.0, curved=True),
    PreAdditive("cubic", _cubic, -2.0, 2.0, curved=True),
    PreAdditive("log", _log, 0.0, 2.0, curved=False),
)
