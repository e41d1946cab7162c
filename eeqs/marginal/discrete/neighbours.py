"""Nearest rows of an embedding table, without the (V, V) matrix of distances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from eeqs.marginal.discrete.settings import check_count

__all__ = ["Neighbours", "cosine_distance", "nearest", "squared_distance"]

# Distances held at once: 4 MiB in float32. Blocks that outgrow the cache are slower.
_BLOCK_ENTRIES = 2**20


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest other tokens of every token.

    Attributes
    ----------
    ids : Tensor of shape (V, k), int64
        Nearest first; of two at the same distance the lower id comes first.
    distances : Tensor of shape (V, k)
    """

    ids: Tensor
    distances: Tensor

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.shape != self.distances.shape:
            raise ValueError(
                f"ids has shape {tuple(self.ids.shape)} and distances {tuple(self.distances.shape)}; pass (V, k) twice."
            )


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    r"""Squared Euclidean distances :math:`\|a_i - b_j\|^2` of ``a`` (n, d) and ``b`` (m, d), as (n, m)."""
    return torch.addmm(b.square().sum(1), a, b.mT, alpha=-2).add_(a.square().sum(1)[:, None]).clamp_min_(0)


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    r"""Cosine distances :math:`1 - a_i^\top b_j / (\|a_i\| \|b_j\|)` of ``a`` (n, d) and ``b`` (m, d), as (n, m)."""
    return 1 - functional.normalize(a, eps=0) @ functional.normalize(b, eps=0).mT


def nearest(table: Tensor, k: int, distance: Callable[[Tensor, Tensor], Tensor] = squared_distance) -> Neighbours:
    """Find the k nearest other rows of every row, one block of rows against the table at a time.

    Parameters
    ----------
    table : Tensor of shape (V, d)
        One embedding a token. Half precision is searched in float32.
    k : int
        Neighbours a token, 1 to V - 1.
    distance : callable
        ``distance(a (n, d), b (m, d)) -> (n, m)``: `squared_distance`, `cosine_distance` or your own.

    Returns
    -------
    Neighbours
        On the CPU.

    Raises
    ------
    ValueError
        If the table is not a floating-point (V, d), k is out of range, or a distance is not finite.
    """
    if table.ndim != 2 or not table.is_floating_point():
        raise ValueError(f"table is {table.dtype} of shape {tuple(table.shape)}; pass floating-point (V, d).")
    check_count("k", k, 1)
    if k >= len(table):
        raise ValueError(f"k is {k}; a token of a table of {len(table)} has at most {len(table) - 1} neighbours.")
    rows = table.detach().to(torch.promote_types(table.dtype, torch.float32))
    blocks = torch.arange(len(rows), device=rows.device).split(max(1, _BLOCK_ENTRIES // len(rows)))
    found = [_nearest_in_block(rows, own, k, distance) for own in blocks]
    ids, distances = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return Neighbours(ids, distances)


def _nearest_in_block(
    rows: Tensor, own: Tensor, k: int, distance: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Ids and distances (n, k) of the nearest to the rows ``own`` (n,)."""
    block = distance(rows[own], rows).scatter(1, own[:, None], torch.inf)
    farthest = block.topk(k, largest=False).values[:, -1:]
    if not farthest.isfinite().all():
        lonely = int(own[farthest[:, 0].isfinite().logical_not()][0])
        raise ValueError(
            f"Row {lonely} of the table has no {k} neighbours at a finite distance; look for nan, inf, or zero rows "
            "under the cosine distance."
        )
    # topk keeps any of those that tie for place k: order all that reach it by row, distance and id.
    row, column = (block <= farthest).nonzero(as_tuple=True)
    reached = block[row, column]
    order = reached.argsort(stable=True)
    order = order[row[order].argsort(stable=True)]
    counts = row.bincount(minlength=len(own))
    first = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k, device=order.device)]
    return column[first], reached[first]
