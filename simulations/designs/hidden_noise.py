r"""Classes that depend on a hidden, perturbed copy of the input: a truth with a noise scale of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from eeqs.marginal import sobol

__all__ = ["HiddenNoise"]

# Points of a scrambled Sobol net, for the true probabilities at one test input.
_NET = 4096


@dataclass(frozen=True)
class HiddenNoise:
    r"""A small network with Gaussian noise in front of it.

    .. math:: x \sim N(0, I_d), \quad e = x + \sigma^* z, \quad z \sim N(0, I_d), \qquad
              P(y = v \mid e) \propto \exp \{C \tanh(B e)\}_v .

    B and C are drawn once, from ``seed``. What is fitted are other functions of e, rich enough to come close.

    Attributes
    ----------
    dim, units, classes : int
        d, rows of B, and classes V.
    scale : float
        :math:`\sigma^*`.
    seed : int
        Seed of the weights and of the test inputs.
    test_points : int
        Inputs at which a fitted law is compared with the true one: the same for every fit.
    """

    dim: int = 5
    units: int = 4
    classes: int = 3
    scale: float = 0.5
    seed: int = 1
    test_points: int = 1000

    def __post_init__(self) -> None:
        for name, least in (("dim", 1), ("units", 1), ("classes", 2), ("test_points", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; use {least} or more.")
        if not self.scale > 0:
            raise ValueError(f"scale is {self.scale}; use a positive standard deviation.")

    @cached_property
    def weights(self) -> tuple[Tensor, Tensor]:
        """B (units, d) with entries of variance 4 / d, and C (V, units) with entries of variance 4."""
        generator = torch.Generator().manual_seed(self.seed)
        inner = torch.randn(self.units, self.dim, generator=generator, dtype=torch.float64) * 2 / self.dim**0.5
        return inner, 2 * torch.randn(self.classes, self.units, generator=generator, dtype=torch.float64)

    def probabilities(self, e: Tensor) -> Tensor:
        """Probabilities (..., V) of the classes at perturbed inputs (..., d)."""
        inner, outer = self.weights
        return ((e @ inner.mT).tanh() @ outer.mT).softmax(dim=-1)

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw n observations: inputs (n, d) and classes (n,)."""
        x, z = torch.randn(2, n, self.dim, generator=generator, dtype=torch.float64)
        y = torch.multinomial(self.probabilities(x + self.scale * z), 1, generator=generator)
        return x, y[:, 0]

    @cached_property
    def test(self) -> tuple[Tensor, Tensor]:
        """Test inputs (N, d) and the true probabilities of the classes there, q (N, V), by quasi-Monte Carlo."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        x = torch.randn(self.test_points, self.dim, generator=generator, dtype=torch.float64)
        z = sobol(_NET, groups=1).sample(1, self.dim, generator).flatten(0, -2)
        return x, torch.stack([self.probabilities(point + self.scale * z).mean(dim=0) for point in x])

    @property
    def entropy(self) -> float:
        """Least held-out log-loss, that of the true law: the mean entropy of q over the test inputs, in nats."""
        _, q = self.test
        return float(torch.special.entr(q).sum(dim=-1).mean())
