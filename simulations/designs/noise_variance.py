r"""The design `frozen_kernel` in its noise variance, the parameter in which its equation is nearly linear."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

import eeqs
from eeqs.marginal import Score, cross_fitted
from simulations.designs.frozen_kernel import FrozenKernel

__all__ = ["NoiseVariance"]


@dataclass(frozen=True)
class NoiseVariance:
    r"""Estimate :math:`\sigma^2 = e^{2\phi}` of `FrozenKernel` from fresh observations and fresh draws.

    Iterates fluctuate, so a curved mean equation shifts their average: by
    :math:`-\tfrac12 m'' \mathrm{var}(\theta_t) / m'`, of the order of the step. To first order noise acts on a
    probability through its variance, as heat does, and the shift all but vanishes in :math:`\sigma^2`; in the
    log-scale it would be about one standard error of the average at the sizes of the study.

    Attributes
    ----------
    kernel : FrozenKernel
        The design of the data.
    score : Score
        The estimating function.
    n_draws : int
        Draws an observation.
    low, high : float
        Interval onto which iterates are projected; it holds the truth with room on both sides.
    """

    kernel: FrozenKernel = field(default_factory=FrozenKernel)
    score: Score = cross_fitted
    n_draws: int = 4
    low: float = 0.05
    high: float = 5.0
    names: ClassVar[tuple[str, ...]] = ("variance",)

    @property
    def truth(self) -> tuple[float, ...]:
        """The true variance."""
        return (float(variance(torch.tensor(self.kernel.truth))),)

    @property
    def start(self) -> tuple[float, ...]:
        """The variance at the kernel's start."""
        return (float(variance(torch.tensor(self.kernel.start))),)

    def psi(self) -> eeqs.EstimatingFunction:
        """Estimating function of the variance."""
        psi = self.kernel.model(self.kernel.start).psi(self.score, draws=self.n_draws)
        return eeqs.transform(psi, {psi.names[0]: (variance, log_scale)})

    def project(self, theta: Tensor) -> Tensor:
        """Bring a variance into [low, high]."""
        return theta.clamp(self.low, self.high)

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations, each with latents of its own."""
        data = self.kernel.sample(n, self.n_draws, generator)
        return data | {"y": data["y"].double()}


def variance(log_scale: Tensor) -> Tensor:
    """Noise variance of a log-scale."""
    return torch.exp(2 * log_scale)


def log_scale(variance: Tensor) -> Tensor:
    """Log-scale of a noise variance."""
    return 0.5 * torch.log(variance)
