"""Checks of tensors against a marginal model; each error names the offender and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eeqs.engine.errors import DataError

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["check_classes", "check_embeddings", "check_latents"]


def check_embeddings(model: Marginal, prefix: Tensor, lead: torch.Size | None = None, name: str = "prefix") -> None:
    """Raise unless ``prefix`` is (*lead, d); lead is any one axis by default."""
    d = model.perturbation.dim
    fits = prefix.ndim == 2 if lead is None else prefix.shape[:-1] == lead
    if not fits or prefix.shape[-1] != d:
        expected = "n" if lead is None else ", ".join(map(str, lead))
        raise DataError(f'embeddings "{name}" have shape {tuple(prefix.shape)}; the model needs ({expected}, {d}).')


def check_latents(model: Marginal, z: Tensor, lead: torch.Size, n_draws: int | None = None, name: str = "z") -> None:
    """Raise unless ``z`` is (*lead, K, q)."""
    q = model.perturbation.latent_dim
    expected = (*lead, z.shape[-2] if n_draws is None and z.ndim > 1 else n_draws, q)
    if tuple(z.shape) != expected:
        shown = ", ".join("K" if size is None else str(size) for size in expected)
        raise DataError(
            f'latent draws "{name}" have shape {tuple(z.shape)}; the model needs ({shown}): observations, draws, '
            "latent dimension."
        )


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
