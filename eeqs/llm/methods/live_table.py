"""Perturbations by an embedding table that is itself being trained."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from eeqs.llm.backend import Backend
from eeqs.marginal.protocols import Perturbation

__all__ = ["LiveTable", "embedding_table"]


def embedding_table(backend: Backend, device: torch.device | None = None) -> Tensor:
    """Embeddings (V, d) of all tokens, as they are now; differentiable."""
    return backend.embed(torch.arange(backend.vocab_size, device=device)[None])[0]


class LiveTable(nn.Module):
    """A perturbation whose buffer ``table`` is, at every call, the current embeddings of a back-end.

    With a copy from before training, an embedding would be moved to where its neighbours were and not to where they
    are, and no gradient would reach theirs.

    Parameters
    ----------
    perturbation : Perturbation
        With a buffer ``table`` (V, d), which is emptied here.
    backend : Backend
        Neither a child nor part of the state: its parameters belong to the kernel.

    Raises
    ------
    TypeError
        There is no such buffer.
    """

    def __init__(self, perturbation: Perturbation, backend: Backend) -> None:
        super().__init__()
        if not isinstance(perturbation, nn.Module) or "table" not in dict(perturbation.named_buffers()):
            raise TypeError(f'{type(perturbation).__name__} has no buffer "table"; pass one that moves along a table.')
        perturbation.table = cast("Tensor", perturbation.table)[:0].clone()
        self.on_table = perturbation
        self.dim, self.latent_dim = perturbation.dim, perturbation.latent_dim
        self.latent_law = perturbation.latent_law
        # In a tuple, for a module would become a child; copies of both copy the reference along.
        self._backend = (backend,)

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., q); leading axes broadcast."""
        table = embedding_table(self._backend[0], prefix.device)
        return functional_call(self.on_table, {"table": table}, (prefix, z))
