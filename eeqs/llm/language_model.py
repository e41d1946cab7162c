"""What evaluation asks of a language model, perturbed or not."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["LanguageModel"]


@runtime_checkable
class LanguageModel(Protocol):
    """A law of the next token: `eeqs.llm.PerturbedLM`, or whatever a training method predicts with.

    Attributes
    ----------
    vocab_size : int
        Number of tokens V.
    """

    @property
    def vocab_size(self) -> int: ...  # noqa: D102

    def log_probabilities(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        step: int = 0,
    ) -> Tensor:
        """Log-probabilities (B, T, V) of the next token after every position of tokens (B, T).

        Parameters
        ----------
        input_ids, attention_mask, segment_ids : Tensor of shape (B, T)
            As in `eeqs.llm.PerturbedLM.loss`.
        step : int
            Another number gives other draws, where the model has any.
        """
        ...
