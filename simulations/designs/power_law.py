r"""Gaussian features with a power-law spectrum, and a target whose smoothness in them is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["PowerLaw", "gram"]

# Rows of a product taken at once: the Gram matrix is symmetric, so half of it is enough.
_BLOCK = 256


@dataclass(frozen=True)
class PowerLaw:
    r"""A linear index of p Gaussian features, truncated from infinitely many.

    .. math:: x_j = \lambda_j^{1/2} g_j, \quad g_j \sim N(0, 1), \quad \lambda_j = j^{-a}, \qquad
              f(x) = \sum_j \theta_j x_j .

    The target satisfies the source condition of order r when :math:`\sum_j \lambda_j^{-2r} \beta_j^2 < \infty`, where
    :math:`\beta_j^2 = \lambda_j \theta_j^2` is its variance along feature j. It sits on the edge of that condition,
    :math:`\beta_j^2 \propto j^{-(1 + 2ra)}`, that is :math:`\theta_j^2 \propto j^{-(1 + a(2r - 1))}`: the sum diverges
    like a logarithm and converges for every smaller r, so that the exponent of the rate is r's and no better. There
    the squared bias of ridge is of order :math:`\lambda^{2r}` for r < 1 and its variance of order
    :math:`\lambda^{-1/a} / n`; they balance at :math:`\lambda \propto n^{-a/(2ra+1)}`.

    Attributes
    ----------
    decay : float
        a > 1.
    source : float
        r in (0, 1]; past 1 ridge saturates. At 1 its bias carries a logarithm, which bends the slope.
    signal : float
        Variance of the index, :math:`\sum_j \beta_j^2`.
    dimension : int
        p.

    References
    ----------
    Caponnetto & De Vito (2007) Foundations of Computational Mathematics 7, 331-368.
    """

    decay: float
    source: float
    signal: float = 1.0
    dimension: int = 6000

    def __post_init__(self) -> None:
        if not self.decay > 1:
            raise ValueError(f"decay is {self.decay}; the spectrum j^-a is summable for a > 1 only.")
        if not 0 < self.source <= 1:
            raise ValueError(f"source is {self.source}; ridge attains the rate for r in (0, 1] and saturates past 1.")
        if not self.signal > 0:
            raise ValueError(f"signal is {self.signal}; pass a positive variance of the index.")
        if self.dimension < 1:
            raise ValueError(f"dimension is {self.dimension}; pass the number of features, 1 or more.")

    @property
    def exponent(self) -> float:
        """Exponent of the excess risk in 1/n: 2ra / (2ra + 1)."""
        smoothness = 2 * self.source * self.decay
        return smoothness / (smoothness + 1)

    @property
    def penalty_exponent(self) -> float:
        """Exponent of the ridge penalty in 1/n at which the rate is attained: a / (2ra + 1)."""
        return self.decay / (2 * self.source * self.decay + 1)

    @property
    def eigenvalues(self) -> Tensor:
        """Variances of the features, (p,)."""
        return self._ranks() ** -self.decay

    @property
    def variances(self) -> Tensor:
        """Variance of the target along each feature, (p,)."""
        shape = self._ranks() ** -(1 + 2 * self.source * self.decay)
        return self.signal * shape / shape.sum()

    @property
    def coefficients(self) -> Tensor:
        """Coefficients of the target on the features, (p,)."""
        return (self.variances / self.eigenvalues).sqrt()

    def features(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n observations, (n, p) in single precision.

        Sampling and the Gram matrix are the cost of a replicate, and single precision halves it. Its rounding
        changes an excess risk in the fifth digit.
        """
        normals = torch.randn(n, self.dimension, generator=generator, dtype=torch.float32)
        return normals * self.eigenvalues.sqrt().float()

    def _ranks(self) -> Tensor:
        return torch.arange(1, self.dimension + 1, dtype=torch.float64)


def gram(features: Tensor) -> Tensor:
    """Inner products of the observations, (n, n) in double precision, from features (n, p)."""
    products = features.new_empty(len(features), len(features))
    for start in range(0, len(features), _BLOCK):
        stop = start + _BLOCK
        products[start:stop, :stop] = features[start:stop] @ features[:stop].mT
        products[:start, start:stop] = products[start:stop, :start].mT
    return products.double()
