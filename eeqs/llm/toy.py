"""A small causal transformer in plain torch: the back-end of tests, and of machines without transformers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ToyTransformer"]


class ToyTransformer(nn.Module):
    """Pre-norm causal transformer with learned positions and a head tied to the embeddings.

    Parameters
    ----------
    vocab_size, dim, layers, heads, context : int
        Tokens V, embedding dimension d (a multiple of ``heads``), blocks, attention heads, longest sequence.
    generator : torch.Generator
        Draws the weights.
    dtype : torch.dtype

    Raises
    ------
    ValueError
        If ``dim`` is not a multiple of ``heads``.

    References
    ----------
    Radford et al. (2019), the architecture of GPT-2.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int = 32,
        layers: int = 2,
        heads: int = 2,
        context: int = 128,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim is {dim} and heads {heads}; every head needs the same number of coordinates.")
        self.vocab_size, self.dim, self.context = vocab_size, dim, context
        self.tokens = nn.Embedding(vocab_size, dim, dtype=dtype)
        self.positions = nn.Embedding(context, dim, dtype=dtype)
        self.blocks = nn.ModuleList(_Block(dim, heads, dtype) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, dtype=dtype)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim > 1:
                    parameter.copy_(0.5 * dim**-0.5 * torch.randn(parameter.shape, generator=generator))
                elif name.endswith("bias"):
                    parameter.zero_()

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embeddings (B, T, d) of tokens (B, T)."""
        return self.tokens(input_ids)

    def hidden(self, embeddings: Tensor, visible: Tensor | None = None, position_ids: Tensor | None = None) -> Tensor:
        """Last hidden states (B, T, d); see `eeqs.llm.backend.Backend.hidden`."""
        length = embeddings.shape[1]
        if length > self.context:
            raise ValueError(f"the sequence has {length} positions; this model takes {self.context}.")
        positions = torch.arange(length, device=embeddings.device) if position_ids is None else position_ids
        state = embeddings + self.positions(positions)
        for block in self.blocks:
            state = block(state, visible)
        return self.norm(state)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., d)."""
        return hidden @ self.tokens.weight.mT


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(dim, dtype=dtype), nn.LayerNorm(dim, dtype=dtype)
        self.attend, self.project = nn.Linear(dim, 3 * dim, dtype=dtype), nn.Linear(dim, dim, dtype=dtype)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim, dtype=dtype), nn.Linear(4 * dim, dim, dtype=dtype)

    def forward(self, state: Tensor, visible: Tensor | None) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.attend(self.before(state)).chunk(3, -1)
        )
        mask = None if visible is None else visible[:, None]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        state = state + self.project(mixed.transpose(1, 2).flatten(-2))
        return state + self.narrow(functional.gelu(self.widen(self.between(state))))
