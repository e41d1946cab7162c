"""Models that the study ``ood`` starts from, with their tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from eeqs.llm.backend import Backend
from eeqs.llm.corpus import Document, data_folder
from eeqs.llm.tokens import TextTokenizer, TokenisedDocument, tokenise

__all__ = ["GPT2_SMALL", "STORIES", "Base"]


@dataclass(frozen=True)
class Base:
    """A model before training.

    Attributes
    ----------
    backend : callable
        ``backend(seed)`` builds it; the seed draws initial weights, if it has not been trained before.
    tokenizer : callable
    bos : int
        Token put before every document.
    vocab_size : int
    """

    backend: Callable[[int], Backend]
    tokenizer: Callable[[], TextTokenizer]
    bos: int
    vocab_size: int

    def encode(self, documents: Sequence[Document]) -> Sequence[TokenisedDocument]:
        """Tokenise documents; those of the last calls are remembered."""
        return _tokenised(self, tuple(documents))


@lru_cache(maxsize=16)
def _tokenised(base: Base, documents: tuple[Document, ...]) -> Sequence[TokenisedDocument]:
    return tokenise(documents, base.tokenizer(), bos=base.bos, vocab_size=base.vocab_size)


# The libraries of language models are imported where a model is built: listing studies does not take them.
def _stories(_: int) -> Backend:
    from eeqs.llm.huggingface.backend import HuggingFaceBackend
    from eeqs.llm.huggingface.llama2c import load_llama2c

    return HuggingFaceBackend(load_llama2c(data_folder() / "stories260K" / "stories260K.bin"))


def _stories_tokenizer() -> TextTokenizer:
    from eeqs.llm.tokenization import llama2c_tokenizer

    return llama2c_tokenizer(data_folder() / "stories260K" / "tok512.bin")


def _gpt2_small(seed: int) -> Backend:
    from eeqs.llm.huggingface.gpt2 import random_gpt2

    return random_gpt2(seed)


def _gpt2_tokenizer() -> TextTokenizer:
    from eeqs.llm.tokenization import gpt2_tokenizer

    return gpt2_tokenizer(data_folder() / "gpt2_bpe")


STORIES = Base(_stories, _stories_tokenizer, bos=1, vocab_size=512)
"""The Llama of 260,000 parameters that was pretrained on short stories."""
GPT2_SMALL = Base(_gpt2_small, _gpt2_tokenizer, bos=50256, vocab_size=50257)
"""A GPT-2 of 124 million parameters with random weights."""
