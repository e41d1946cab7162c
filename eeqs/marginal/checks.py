"""Checks of tensors against a marginal model; each error names the offender and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.marginal.draws import Draws

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["check_classes", "check_embeddings", "check_latents", "require_classes"]

# Observations in which groups must share a draw before they are taken to.
_ENOUGH_ROWS = 32


def require_classes(model: Marginal, method: str) -> None:
    """Raise TypeError if the response is continuous."""
    if model.continuous:
        raise TypeError(
            f"{method} gives probabilities of classes, and the response of {type(model.kernel).__name__} is "
            "continuous; use simulate."
        )


def check_embeddings(model: Marginal, prefix: Tensor, lead: torch.Size | None = None, name: str = "prefix") -> None:
    """Raise unless ``prefix`` is (*lead, d); lead is any one axis by default."""
    d = model.perturbation.dim
    fits = prefix.ndim == 2 if lead is None else prefix.shape[:-1] == lead
    if not fits or prefix.shape[-1] != d:
        expected = "n" if lead is None else ", ".join(map(str, lead))
        raise DataError(f'embeddings "{name}" have shape {tuple(prefix.shape)}; the model needs ({expected}, {d}).')


def check_latents(model: Marginal, z: Tensor, lead: torch.Size, draws: Draws | None = None, name: str = "z") -> None:
    """Raise unless ``z`` has the shape of the design: (*lead, K, q), or (*lead, G, m, q) for groups of several draws.

    Without a design either shape will do. With one, groups that share draws are refused.
    """
    q, axes = model.latent_dim, z.ndim - len(lead)
    expected = draws.shape(q) if draws is not None else ((*z.shape[len(lead) : -1], q) if axes in {2, 3} else ("K", q))
    if tuple(z.shape) != (*lead, *expected):
        raise DataError(
            f'latent draws "{name}" have shape {tuple(z.shape)}; the model needs '
            f"({', '.join(map(str, (*lead, *expected)))}): observations, groups of draws, draws in a group unless it "
            "is one, latent dimension."
        )
    if draws is not None and q > 0:
        _check_groups(z.reshape(-1, len(draws), q), draws, name)


def _check_groups(z: Tensor, draws: Draws, name: str) -> None:
    """Raise if a draw of one group is, up to sign, one of another in each of many observations (n, K, q)."""
    some = z[:_ENOUGH_ROWS]
    if len(z) < _ENOUGH_ROWS or some.abs().unique().numel() < _ENOUGH_ROWS:
        return  # a few observations, or a latent with few values, may agree by chance
    group = torch.arange(len(draws), device=z.device) // draws.size
    suspects = _same(some[:, :, None], some[:, None]) & (group[:, None] < group)
    for j, k in suspects.nonzero().tolist():
        if bool(_same(z[:, j], z[:, k])):
            raise DataError(
                f'draws {j} and {k} of "{name}" are equal or mirrored in every observation, but belong to groups '
                f"{j // draws.size} and {k // draws.size}, which must be independent; draw them with {draws} anew."
            )


def _same(a: Tensor, b: Tensor) -> Tensor:
    """Whether two draws (n, ..., q) agree up to sign in every observation, (...)."""
    return ((a == b).all(dim=-1) | (a == -b).all(dim=-1)).all(dim=0)


def check_classes(model: Marginal, y: Tensor, name: str = "y") -> None:
    """Raise unless every entry of ``y`` is one of the integers 0..V-1."""
    last = model.kernel.n_classes - 1
    bad = (y != y.round()) | (y < 0) | (y > last)
    if bool(bad.any()):
        value = float(y[bad][0])
        raise DataError(
            f'response "{name}" has {int(bad.sum())} value(s) outside the classes 0..{last}, the first is {value:g}; '
            "code the classes as consecutive integers from 0."
        )
