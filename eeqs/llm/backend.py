"""What a causal language model must provide to be perturbed."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Backend"]


@runtime_checkable
class Backend(Protocol):
    """A causal language model in three steps, so that its embeddings can be perturbed between the first two.

    Attributes
    ----------
    dim : int
        Embedding dimension d.
    vocab_size : int
        Number of tokens V.
    """

    @property
    def dim(self) -> int: ...  # noqa: D102

    @property
    def vocab_size(self) -> int: ...  # noqa: D102

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embeddings (B, T, d) of tokens (B, T)."""
        ...

    def hidden(self, embeddings: Tensor, visible: Tensor | None, position_ids: Tensor | None) -> Tensor:
        """Last hidden states (B, T, h).

        Parameters
        ----------
        embeddings : Tensor of shape (B, T, d)
        visible : Tensor of shape (B, T, T), optional
            True where position i (axis 1) sees position j (axis 2); causal without it.
        position_ids : Tensor of shape (B, T), optional
            0..T-1 without it.
        """
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., h)."""
        ...
