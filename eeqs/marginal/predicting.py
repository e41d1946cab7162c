"""What a marginal model predicts: class probabilities, averaged over draws or nodes, and simulated responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eeqs.marginal.checks import check_embeddings
from eeqs.marginal.draws import Draws

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["mixture", "simulated"]

# Pairs of an observation and a draw evaluated at once: enough to vectorise, too few to matter in memory.
_BLOCK = 2**12


def mixture(
    model: Marginal,
    prefix: Tensor,
    draws: int | Draws | None,
    generator: torch.Generator | None,
    nodes: int | None,
    theta: Tensor | None,
) -> Tensor:
    """Mixture probabilities (n, V); `eeqs.marginal.Marginal.predict` documents it."""
    check_embeddings(model, prefix)
    total = prefix.new_zeros(len(prefix), model.kernel.n_classes)
    for z, weight in _weighted_latents(model, prefix, draws, generator, nodes):
        total += torch.tensordot(weight, model.evaluate(prefix, z, theta).exp(), dims=1)
    return total


def simulated(model: Marginal, prefix: Tensor, generator: torch.Generator, theta: Tensor | None) -> Tensor:
    """One response for every row (n,); `eeqs.marginal.Marginal.simulate` documents it."""
    z = model.draw(prefix, 1, generator)
    if model.continuous:
        noise = z[..., -1].mT
        return model.evaluate(prefix, z[..., :-1], theta, lambda kernel, e: kernel.response(e, noise))[0]
    probability = model.evaluate(prefix, z, theta)[0].exp()
    return torch.multinomial(probability.contiguous(), 1, generator=generator)[:, 0]


def _weighted_latents(
    model: Marginal, prefix: Tensor, draws: int | Draws | None, generator: torch.Generator | None, nodes: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield latents (n or 1, b, q) and their weights (b,) in blocks of b draws or nodes."""
    block = max(1, _BLOCK // len(prefix))
    if draws is not None and generator is not None and nodes is None:
        if isinstance(draws, Draws):
            every = model.draw(prefix, draws, generator).flatten(1, -2)
            yield from ((z, z.new_full(z.shape[1:2], 1 / len(draws))) for z in every.split(block, dim=1))
            return
        if draws < 1:
            raise ValueError(f"draws is {draws}; average over at least one draw.")
        for first in range(0, draws, block):
            size = min(block, draws - first)
            yield model.draw(prefix, size, generator), prefix.new_full((size,), 1 / draws)
    elif nodes is not None and draws is None:
        z, log_weight = model.quadrature(nodes, prefix)
        yield from zip(z[None].split(block, dim=1), log_weight.exp().split(block), strict=True)
    else:
        raise ValueError("pass either draws with a generator, or nodes.")
