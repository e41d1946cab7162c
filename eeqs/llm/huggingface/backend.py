"""A Hugging Face causal language model as a back-end."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel

__all__ = ["HuggingFaceBackend"]


class HuggingFaceBackend(nn.Module):
    """Embeddings, decoder and head of a causal language model.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With a language-model head, taking ``inputs_embeds``.

    Raises
    ------
    TypeError
        The model takes no ``inputs_embeds``, or has no embeddings or no head.

    Notes
    -----
    Most models are embeddings, a decoder and a linear head. Where the logits are something else, for example capped or
    scaled, the whole model runs and `logits` is the identity; then the logits of all positions exist at once.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        embeddings = model.get_input_embeddings()
        if not isinstance(embeddings, nn.Embedding):
            raise TypeError(
                f"{type(model).__name__} has {type(embeddings).__name__} in place of token embeddings; eeqs perturbs "
                "the embeddings of a causal language model."
            )
        self.model = model
        self.dim, self.vocab_size = embeddings.embedding_dim, int(model.config.get_text_config().vocab_size)
        self._linear_head = self._has_linear_head()

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embeddings (B, T, d) of tokens (B, T)."""
        return self.model.get_input_embeddings()(input_ids)

    def hidden(self, embeddings: Tensor, visible: Tensor | None = None, position_ids: Tensor | None = None) -> Tensor:
        """Last hidden states (B, T, h), or logits where the head is not linear; see `eeqs.llm.backend.Backend`."""
        arguments = {
            "inputs_embeds": embeddings,
            "attention_mask": None if visible is None else _additive(visible, embeddings.dtype),
            "position_ids": position_ids,
            "use_cache": False,
        }
        if self._linear_head:
            return self.model.base_model(**arguments).last_hidden_state
        return self.model(**arguments).logits

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., h)."""
        return self.model.get_output_embeddings()(hidden) if self._linear_head else hidden

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters that `logits` depends on."""
        return list(self.model.get_output_embeddings().parameters()) if self._linear_head else []

    def empty_cache(self) -> Cache:
        """Keys and values of no position yet."""
        return DynamicCache(config=self.model.config.get_text_config())

    def extend(self, embeddings: Tensor, cache: Cache, real: Tensor, position_ids: Tensor) -> Tensor:
        """Logits (B, V) after the last of new positions, whose keys and values join the cache.

        Parameters
        ----------
        embeddings : Tensor of shape (B, n, d)
            Of the new positions.
        cache : Cache
            Of the T - n positions before.
        real : Tensor of shape (B, T)
            0 at padding, of all positions.
        position_ids : Tensor of shape (B, n)
        """
        arguments = {
            "inputs_embeds": embeddings,
            "attention_mask": real,
            "position_ids": position_ids,
            "past_key_values": cache,
            "use_cache": True,
        }
        if self._linear_head:
            return self.logits(self.model.base_model(**arguments).last_hidden_state[:, -1])
        return self.model(**arguments).logits[:, -1]

    @torch.no_grad()
    def _has_linear_head(self) -> bool:
        """Try two tokens; whether decoder and head reproduce the logits of the model."""
        embeddings = self.model.get_input_embeddings()
        assert isinstance(embeddings, nn.Embedding)  # noqa: S101 - checked on construction
        if embeddings.weight.is_meta:  # the model is only being laid out: its numbers come later
            return self.model.get_output_embeddings() is not None
        training = self.model.training
        self.model.eval()
        probe = embeddings(torch.arange(2, device=embeddings.weight.device)[None])
        try:
            expected = self.model(inputs_embeds=probe, use_cache=False).logits
            head = self.model.get_output_embeddings()
            if head is None:
                return False
            found = head(self.model.base_model(inputs_embeds=probe, use_cache=False).last_hidden_state)
            return found.shape == expected.shape and bool(torch.allclose(found, expected, rtol=1e-3, atol=1e-3))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{type(self.model).__name__} does not compute logits from inputs_embeds ({error}); eeqs perturbs "
                "embeddings, so use a causal language model that takes them."
            ) from error
        finally:
            self.model.train(training)


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Mask (B, 1, T, T) to add to attention scores."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)[
        :, None
    ]
