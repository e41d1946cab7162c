r"""Tokens replaced by near ones in embedding space, in training and in prediction."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from eeqs.llm.backend import Backend
from eeqs.llm.methods.fixed_gaussian import embedding_scale
from eeqs.llm.methods.live_table import LiveTable, embedding_table
from eeqs.llm.methods.method import Method, equations_of_one_sample
from eeqs.marginal.discrete.neighbours import Neighbours, nearest
from eeqs.marginal.discrete.settings import check_rate
from eeqs.marginal.laws import UNIFORM, LatentLaw

__all__ = ["NeighbourSwap", "semantic_neighbour"]

# Distances held at once: 64 MiB in float32.
_BLOCK = 2**24


def semantic_neighbour(
    rate: float = 0.1, *, neighbours: int = 10, temperature: float = 0.1, inference_draws: int = 16
) -> Method:
    """Replace every token of the prefix with probability ``rate`` by a near one, also in prediction (mixture mean).

    Which tokens are near is decided once, by the embeddings before training: it takes a pretrained model to mean
    anything. What a replaced token becomes is the current embedding of its neighbour.

    Parameters
    ----------
    rate : float
        In [0, 1].
    neighbours : int
        Tokens a token may become.
    temperature : float
        Of the choice among them, in units of the mean squared distance of two tokens; see `NeighbourSwap`.
    inference_draws : int

    References
    ----------
    Cen, Zhu, Shen & Shi (2026) Perturbation is all you need for extrapolating language models, arXiv 2605.04344.
    """

    def build(backend: Backend, _: torch.Generator) -> LiveTable:
        table = embedding_table(backend).detach()
        absolute = temperature * 2 * backend.dim * embedding_scale(backend) ** 2
        return LiveTable(NeighbourSwap(table, nearest(table, neighbours), absolute, rate), backend)

    return Method(
        f"semantic_neighbour_{rate:g}",
        f"tokens replaced with probability {rate:g} by one of {neighbours} near ones, also in prediction",
        build,
        equations_of_one_sample(),
        inference_draws=inference_draws,
    )


class NeighbourSwap(nn.Module):
    r"""Exchange the embedding of a token for that of a neighbour: a fixed design.

    The token i of an embedding is the row of the table nearest to it. With probability ``rate`` it becomes j of its
    neighbours N(i), with probability :math:`e^{-D_{ij}/\tau} / \sum_{l \in N(i)} e^{-D_{il}/\tau}`: the law of
    `eeqs.marginal.discrete.SemanticNeighbour`.

    Parameters
    ----------
    table : Tensor of shape (V, d)
        Embeddings of the tokens.
    neighbours : Neighbours
        With the distances D.
    temperature : float
        tau, in the units of D.
    rate : float
        In [0, 1]; zero is the identity.

    Raises
    ------
    ValueError
        A setting is out of range, or the neighbours are those of another table.
    """

    latent_law: LatentLaw = UNIFORM
    latent_dim: int = 2
    table: Tensor
    ids: Tensor
    cumulative: Tensor

    def __init__(self, table: Tensor, neighbours: Neighbours, temperature: float, rate: float) -> None:
        super().__init__()
        check_rate("rate", rate)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature is {temperature}; pass a positive finite number.")
        if len(neighbours.ids) != len(table):
            raise ValueError(f"neighbours of {len(neighbours.ids)} tokens, and a table of {len(table)}; they agree.")
        self.dim, self.rate = table.shape[1], rate
        chance = (-neighbours.distances.double() / temperature).softmax(dim=1)
        self.register_buffer("table", table.detach().clone())
        self.register_buffer("ids", neighbours.ids.to(table.device))
        self.register_buffer("cumulative", chance.cumsum(dim=1).to(table.device))

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., 2); leading axes broadcast."""
        whether, which = ((1 + z) / 2).unbind(dim=-1)
        token = self.token(prefix).expand(torch.broadcast_shapes(prefix.shape[:-1], z.shape[:-1]))
        rank = (self.cumulative[token] <= which[..., None]).sum(dim=-1).clamp(max=self.ids.shape[1] - 1)
        swapped = self.table[self.ids[token, rank]].to(prefix.dtype)
        return torch.where((whether < self.rate)[..., None], swapped, prefix)

    @torch.no_grad()
    def token(self, prefix: Tensor) -> Tensor:
        """Find the row (...) of the table nearest to each embedding (..., d), in blocks of embeddings."""
        table = self.table.to(torch.promote_types(prefix.dtype, torch.float32))
        half_norm = 0.5 * table.square().sum(dim=-1)
        candidates = min(4, len(table))

        def found(vectors: Tensor) -> Tensor:
            close = (half_norm - vectors @ table.mT).topk(candidates, largest=False).indices
            # The expanded square loses digits; differences of a few candidates lose none, and a token is at zero.
            first = (table[close] - vectors[:, None]).square().sum(dim=-1).argmin(dim=-1, keepdim=True)
            return close.gather(1, first)[:, 0]

        vectors = prefix.to(table.dtype).reshape(-1, self.dim).split(max(1, _BLOCK // len(table)))
        return torch.cat([found(block) for block in vectors]).reshape(prefix.shape[:-1])
