r"""The uniform noise of NEFTune: a fixed design."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eeqs.marginal.arguments import check_dim
from eeqs.marginal.laws import UNIFORM, LatentLaw

__all__ = ["NEFTune"]


class NEFTune(nn.Module):
    r"""Uniform noise in a cube, :math:`g(e, z) = e + \alpha z / \sqrt{L d}` with z uniform on :math:`(-1, 1)^d`.

    Parameters
    ----------
    dim : int
        Embedding dimension d; the latent has the same.
    alpha : float
        Size of the noise; 5, 10 and 15 are usual. Kept, as alpha / sqrt(L d), in the buffer ``scale``: not a parameter.
    length : int
        Sequence length L the noise is scaled for. The paper takes that of the sequence at hand; a number declared
        beforehand keeps the map causal, because a position cannot know how many will follow.

    Raises
    ------
    ValueError
        If ``alpha`` is negative or not finite, or ``length`` not positive.

    Notes
    -----
    ``alpha = 0`` is the identity.

    References
    ----------
    Jain et al. (2024) NEFTune: noisy embeddings improve instruction finetuning, ICLR.
    """

    latent_law: LatentLaw = UNIFORM
    scale: Tensor

    def __init__(self, dim: int, alpha: float, length: int) -> None:
        super().__init__()
        if not 0 <= alpha < torch.inf or length < 1:
            raise ValueError(f"alpha is {alpha} and length {length}; pass alpha >= 0, finite, and length >= 1.")
        self.dim = self.latent_dim = check_dim(dim)
        self.register_buffer("scale", torch.tensor(alpha / (length * dim) ** 0.5, dtype=torch.float64))

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., d); leading axes broadcast."""
        return prefix + self.scale * z
