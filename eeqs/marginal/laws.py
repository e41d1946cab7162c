"""Laws of a latent entry: how to draw it, transform a uniform number to it, and integrate over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LOGISTIC", "LOG_EXPONENTIAL", "RADEMACHER", "STANDARD_NORMAL", "UNIFORM", "LatentLaw", "gauss_hermite"]

_MOST_NODES = 100
_MOST_DIMENSIONS = 3

Floats = NDArray[np.float64]
Sampler = Callable[[Sequence[int], torch.Generator, torch.dtype, torch.device], Tensor]
Quadrature = Callable[[int, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class LatentLaw:
    """Law nu of the latent z, as a perturbation declares it: independent entries, all with this law.

    Attributes
    ----------
    name : str
        For error messages and tables.
    quantile : callable
        ``quantile(u) -> Tensor``, the inverse distribution function elementwise; finite for u strictly inside (0, 1),
        and ``quantile(1 - u) == -quantile(u)`` to rounding for a symmetric law.
    sample : callable
        ``sample(shape, generator, dtype, device) -> Tensor`` of independent entries.
    quadrature : callable
        ``quadrature(nodes, dim) -> (z (M, q), log_weight (M,))`` in float64, with weights that sum to one.
    """

    name: str
    quantile: Callable[[Tensor], Tensor]
    sample: Sampler
    quadrature: Quadrature

    def followed_by(self, last: LatentLaw) -> LatentLaw:
        """Law of entries all but the last of which have this law, and that one the law ``last``; for sampling only."""

        def quantile(u: Tensor) -> Tensor:
            return torch.cat([self.quantile(u[..., :-1]), last.quantile(u[..., -1:])], dim=-1)

        def sample(
            shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype, device: torch.device
        ) -> Tensor:
            z = self.sample((*shape[:-1], shape[-1] - 1), generator, dtype, device)
            return torch.cat([z, last.sample((*shape[:-1], 1), generator, dtype, device)], dim=-1)

        return LatentLaw(f"{self.name}, then {last.name}", quantile, sample, self.quadrature)


def gauss_hermite(nodes: int, dim: int) -> tuple[Tensor, Tensor]:
    r"""Product Gauss-Hermite rule for the standard normal law.

    Parameters
    ----------
    nodes : int
        Nodes a dimension, 1 to 100; the rule is exact for polynomials of degree ``2 * nodes - 1`` in each.
    dim : int
        Latent dimension q, at most 3; zero gives the one node of a model without a latent.

    Returns
    -------
    z : Tensor of shape (M, q), M = nodes ** q, float64
    log_weight : Tensor of shape (M,), float64
        :math:`E f(z) \approx \sum_m e^{\mathrm{log\_weight}_m} f(z_m)`.

    Raises
    ------
    ValueError
        If ``nodes`` or ``dim`` is out of range.

    References
    ----------
    Golub & Welsch (1969) Mathematics of Computation 23; the nodes are those of the probabilists' polynomials.
    """
    return _product(nodes, dim, np.polynomial.hermite_e.hermegauss)


def _gauss_legendre(nodes: int, dim: int) -> tuple[Tensor, Tensor]:
    """Product Gauss-Legendre rule for the uniform law; exact to degree ``2 * nodes - 1``."""
    return _product(nodes, dim, np.polynomial.legendre.leggauss)


def _by_levels(quantile: Callable[[Tensor], Tensor]) -> Quadrature:
    r"""Product rule for a law with exponential tails: Gauss-Legendre in s, at the quantiles of u = s^2 (3 - 2 s).

    Made for gates and mixing weights, bounded functions of z: the error of E sigmoid(1 + b z) is below 1e-5 with 20
    nodes and 4e-9 with 40, for slopes b from 0.5 to 4, where polynomial-exact rules lose to the heavy tails. It is no
    rule for polynomials: that of the second moment is 3e-4 of it with 20 nodes and 3e-5 with 40. Levels that crowd
    quadratically at 0 and 1 tame the logarithm in the quantile there (the transformation of Korobov 1963).
    """

    def rule(m: int) -> tuple[Floats, Floats]:
        point, mass = np.polynomial.legendre.leggauss(m)
        s = (point + 1) / 2
        return quantile(torch.from_numpy(s**2 * (3 - 2 * s))).numpy(), mass * s * (1 - s)

    return lambda nodes, dim: _product(nodes, dim, rule)


def _fair_coin(_nodes: int, dim: int) -> tuple[Tensor, Tensor]:
    """All ``2 ** dim`` outcomes of the Rademacher law: exact for every function, whatever ``nodes`` is."""
    return _product(2, dim, lambda _: (np.array([-1.0, 1.0]), np.ones(2)))


def _product(nodes: int, dim: int, rule: Callable[[int], tuple[Floats, Floats]]) -> tuple[Tensor, Tensor]:
    """Tensor product of a one-dimensional rule, whose weights need not sum to one."""
    if not 1 <= nodes <= _MOST_NODES:
        raise ValueError(f"nodes is {nodes}; a Gauss rule here has 1 to {_MOST_NODES} nodes a dimension.")
    if not 0 <= dim <= _MOST_DIMENSIONS:
        raise ValueError(
            f"a product rule in {dim} latent dimensions would need {nodes}**{dim} nodes; exact scores go up to "
            f"{_MOST_DIMENSIONS} dimensions, use cross_fitted draws beyond."
        )
    point, mass = rule(nodes)
    log_mass = np.log(mass / mass.sum())
    index = np.indices((nodes,) * dim).reshape(dim, nodes**dim)
    return torch.from_numpy(point[index].T.copy()), torch.from_numpy(log_mass[index].sum(axis=0))


def _log_exponential_quantile(u: Tensor) -> Tensor:
    # -log(1 - u) >= u; torch rounds the left side to zero for subnormal u.
    return torch.maximum(-torch.log1p(-u), u).log()


def _by_inversion(quantile: Callable[[Tensor], Tensor]) -> Sampler:
    def sample(shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
        # In float64 for every dtype: a float32 uniform is zero once in 2 ** 24 draws, and coarse in the tails.
        u = torch.rand(tuple(shape), generator=generator, dtype=torch.float64, device=device)
        return quantile(u.clamp(min=2.0**-54)).to(dtype)

    return sample


def _standard_normal(
    shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype, device: torch.device
) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, dtype=dtype, device=device)


def _uniform_quantile(u: Tensor) -> Tensor:
    return 2 * u - 1


def _rademacher_quantile(u: Tensor) -> Tensor:
    return 2.0 * (u > 0.5) - 1.0 + torch.zeros_like(u)


STANDARD_NORMAL = LatentLaw("standard normal", torch.special.ndtri, _standard_normal, gauss_hermite)
"""Normal with mean zero and variance one."""

UNIFORM = LatentLaw("uniform", _uniform_quantile, _by_inversion(_uniform_quantile), _gauss_legendre)
"""Uniform on (-1, 1), variance 1/3."""

LOGISTIC = LatentLaw("standard logistic", torch.logit, _by_inversion(torch.logit), _by_levels(torch.logit))
"""Logistic with location zero and scale one, variance pi^2 / 3."""

LOG_EXPONENTIAL = LatentLaw(
    "log of a unit exponential",
    _log_exponential_quantile,
    _by_inversion(_log_exponential_quantile),
    _by_levels(_log_exponential_quantile),
)
"""Log of a unit exponential (minus a Gumbel variable): the softmax of d of them is uniform on the simplex."""

RADEMACHER = LatentLaw("Rademacher", _rademacher_quantile, _by_inversion(_rademacher_quantile), _fair_coin)
"""Fair coin on -1 and +1, variance one: expectations are finite sums, so a check can enumerate them."""
