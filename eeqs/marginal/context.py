"""What a perturbation may know of the prefix at a position: everything up to it, nothing after it."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["causal_context", "context_size", "join"]


def context_size(dim: int, sequence: bool) -> int:
    """Length of the vector that `causal_context` makes of an embedding of dimension d."""
    return 2 * dim if sequence else dim


def causal_context(prefix: Tensor, sequence: bool) -> Tensor:
    r"""Summary of the prefix at each position.

    Parameters
    ----------
    prefix : Tensor of shape (..., d), or (..., T, d) for a sequence
    sequence : bool
        Whether axis -2 is the position.

    Returns
    -------
    Tensor of shape (..., d), or (..., T, 2 d) for a sequence
        The embedding itself; for a sequence, followed by the mean of the embeddings so far,
        :math:`\bar e_t = t^{-1} \sum_{s \le t} e_s`, which does not change when later positions are cut off.

    Raises
    ------
    ValueError
        If a sequence has no position axis.
    """
    if not sequence:
        return prefix
    if prefix.ndim < 2:
        raise ValueError(f"prefix has shape {tuple(prefix.shape)}; a perturbation of sequences needs (..., T, d).")
    # A running sum of thousands of bfloat16 numbers would lose the later ones.
    wide = prefix.to(torch.promote_types(prefix.dtype, torch.float32))
    count = torch.arange(1, prefix.shape[-2] + 1, dtype=wide.dtype, device=wide.device)
    return torch.cat([prefix, (wide.cumsum(dim=-2) / count[:, None]).to(prefix.dtype)], dim=-1)


def join(*parts: Tensor) -> Tensor:
    """Concatenate along the last axis tensors whose leading axes broadcast."""
    lead = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*lead, part.shape[-1]) for part in parts], dim=-1)
