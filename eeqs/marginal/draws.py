"""Latent draws: independent samples for simulation-based scores, quadrature nodes for the exact one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["STANDARD_NORMAL", "LatentLaw", "gauss_hermite", "iid"]

_MOST_NODES = 100
_MOST_DIMENSIONS = 3


@dataclass(frozen=True)
class LatentLaw:
    """Law nu of the latent z, as a perturbation declares it.

    Attributes
    ----------
    name : str
        For error messages and tables.
    sample : callable
        ``sample(shape, generator, dtype, device) -> Tensor`` of independent entries.
    quadrature : callable
        ``quadrature(nodes, dim) -> (z (M, q), log_weight (M,))`` in float64, with weights that sum to one.
    """

    name: str
    sample: Callable[[Sequence[int], torch.Generator, torch.dtype, torch.device], Tensor]
    quadrature: Callable[[int, int], tuple[Tensor, Tensor]]


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
    if not 1 <= nodes <= _MOST_NODES:
        raise ValueError(f"nodes is {nodes}; a Gauss-Hermite rule here has 1 to {_MOST_NODES} nodes a dimension.")
    if not 0 <= dim <= _MOST_DIMENSIONS:
        raise ValueError(
            f"a product rule in {dim} latent dimensions would need {nodes}**{dim} nodes; exact scores go up to "
            f"{_MOST_DIMENSIONS} dimensions, use cross_fitted draws beyond."
        )
    point, mass = np.polynomial.hermite_e.hermegauss(nodes)
    log_mass = np.log(mass) - 0.5 * np.log(2 * np.pi)
    index = np.indices((nodes,) * dim).reshape(dim, nodes**dim)
    return torch.from_numpy(point[index].T.copy()), torch.from_numpy(log_mass[index].sum(axis=0))


def _standard_normal(
    shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype, device: torch.device
) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, dtype=dtype, device=device)


STANDARD_NORMAL = LatentLaw("standard normal", _standard_normal, gauss_hermite)


def iid(
    n: int,
    n_draws: int,
    dim: int,
    generator: torch.Generator,
    *,
    law: LatentLaw = STANDARD_NORMAL,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    """Independent latent draws, K for each of n observations.

    Parameters
    ----------
    n, n_draws, dim : int
        Observations n, draws K an observation, latent dimension q.
    generator : torch.Generator
        The only source of randomness; None is refused, so that nothing reads the global state by accident.
    law : LatentLaw
        Law of one latent entry.
    dtype : torch.dtype
    device : torch.device or str, optional
        Defaults to the generator's.

    Returns
    -------
    Tensor of shape (n, K, q)

    Raises
    ------
    ValueError
        If n or K is not positive.
    TypeError
        If ``generator`` is not a torch.Generator.
    """
    if n < 1 or n_draws < 1:
        raise ValueError(f"n = {n} and n_draws = {n_draws}; both must be at least 1.")
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator is a {type(generator).__name__}; pass torch.Generator().manual_seed(seed).")
    where = torch.device(device) if device is not None else generator.device
    return law.sample((n, n_draws, dim), generator, dtype, where)
