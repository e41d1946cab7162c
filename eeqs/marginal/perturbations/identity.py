"""No perturbation: the plain kernel as a marginal model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eeqs.marginal.arguments import check_dim
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["Identity"]


class Identity(nn.Module):
    """The map g(e, z) = e, with a latent of dimension zero and no parameters.

    Parameters
    ----------
    dim : int
        Embedding dimension d.

    Raises
    ------
    ValueError
        If ``dim`` is not positive.
    """

    latent_law: LatentLaw = STANDARD_NORMAL
    latent_dim: int = 0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = check_dim(dim)

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Return ``prefix`` (..., d), repeated over the draw axes of ``z`` (..., 0)."""
        lead = torch.broadcast_shapes(prefix.shape[:-1], z.shape[:-1])
        return prefix.expand(*lead, self.dim)
