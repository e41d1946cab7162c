"""Learnable perturbations of a back-end, each starting at a stated size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from eeqs.llm.backend import Backend
from eeqs.llm.methods.fixed_gaussian import embedding_scale, gaussian
from eeqs.llm.methods.live_table import LiveTable, embedding_table
from eeqs.marginal.perturbations.contextual import Contextual
from eeqs.marginal.perturbations.flow import Flow
from eeqs.marginal.perturbations.hull import Hull
from eeqs.marginal.perturbations.low_rank import LowRank
from eeqs.marginal.protocols import Perturbation

__all__ = ["Build", "contextual", "diagonal", "flow", "hull", "isotropic", "low_rank"]

Build: TypeAlias = Callable[[Backend, torch.Generator], Perturbation]
"""Builds the perturbation of a back-end; its argument ``scale`` is the root mean square of the displacement of a
coordinate at the start, in units of `eeqs.llm.methods.fixed_gaussian.embedding_scale`."""


def isotropic(scale: float) -> Build:
    """Gaussian noise with one scale."""
    return lambda backend, _: gaussian(backend, scale)


def diagonal(scale: float) -> Build:
    """Gaussian noise with a scale a coordinate."""
    return lambda backend, _: gaussian(backend, scale, diagonal=True)


def contextual(scale: float, hidden: Sequence[int] = (16,)) -> Build:
    """Gaussian noise whose scale and shift are a network of the token's embedding."""

    def build(backend: Backend, generator: torch.Generator) -> Perturbation:
        start = math.log(scale * embedding_scale(backend))
        return Contextual(backend.dim, hidden, generator=generator, log_scale=start)

    return build


def low_rank(scale: float, rank: int = 8) -> Build:
    """Gaussian noise in ``rank`` directions, at the start random and orthogonal."""

    def build(backend: Backend, generator: torch.Generator) -> Perturbation:
        if not 1 <= rank <= backend.dim:
            raise ValueError(f"rank is {rank}; the embeddings have 1 to {backend.dim} directions.")
        drawn = torch.randn(backend.dim, rank, generator=generator, dtype=torch.float64)
        # The trace of the covariance is shared by fewer directions than there are coordinates.
        size = scale * embedding_scale(backend) * math.sqrt(backend.dim / rank)
        return LowRank(size * torch.linalg.qr(drawn).Q)

    return build


def flow(scale: float, layers: int = 4, hidden: Sequence[int] = (16,)) -> Build:
    """Normalising flow on the noise, given the token's embedding; at the start Gaussian."""

    def build(backend: Backend, generator: torch.Generator) -> Perturbation:
        start = math.log(scale * embedding_scale(backend))
        return Flow(backend.dim, layers, hidden, generator=generator, log_scale=start)

    return build


def hull(scale: float, neighbours: int = 8) -> Build:
    """Random convex combination of the embeddings of the token and of those nearest to it.

    Weights fall with the squared distance at the temperature of its mean between two tokens, and have unit noise on
    the log scale; the common weight of the neighbours is set so that the displacement has the stated size.

    Raises
    ------
    ValueError
        On building, if no convex combination of so few neighbours is as far away.
    """

    def build(backend: Backend, generator: torch.Generator) -> Perturbation:
        table = embedding_table(backend).detach()
        unit = embedding_scale(backend)
        temperature = math.log(2 * backend.dim * unit**2)
        made = Hull(table, neighbours, log_temperature=temperature)
        with torch.no_grad():
            made.log_weight.fill_(_log_weight(made, scale * unit, generator))
        return LiveTable(made, backend)

    return build


def _log_weight(made: Hull, size: float, generator: torch.Generator) -> float:
    """Find the common log-weight of the neighbours at which the displacement has root mean square ``size``.

    It only sets how much weight leaves the token, so that the displacement increases in it, draw by draw.
    """
    draws, most = 32, 512
    rows = torch.randperm(len(made.table), generator=generator)[:most]
    prefix = made.table[rows].double()
    z = torch.randn(draws, len(rows), made.latent_dim, generator=generator, dtype=torch.float64)
    near = made.table[made.nearest(prefix)].double()

    def displacement(log_weight: float) -> float:
        made.log_weight.fill_(log_weight)
        moved = torch.einsum("knj,njd->knd", made.weights(prefix, z), near)
        return float((moved - prefix).square().mean().sqrt())

    low, high = -40.0, 40.0
    if displacement(high) < size:
        raise ValueError(
            f"the convex hull of {made.latent_dim} neighbours reaches {displacement(high):.3g} from a token, short of "
            f"the scale {size:.3g}; pass a smaller scale or more neighbours."
        )
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if displacement(middle) < size else (low, middle)
    return (low + high) / 2
