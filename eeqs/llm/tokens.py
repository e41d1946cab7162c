"""Documents as tokens, with the bytes that their predicted tokens stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.llm.corpus import Document, check_unique

__all__ = ["TextTokenizer", "Tokenised", "TokenisedDocument", "tokenise"]


class TextTokenizer(Protocol):
    """What `tokenise` asks of a tokenizer; those of tokenizers and transformers have it."""

    def encode(self, text: str, /, *, add_special_tokens: bool) -> Any:
        """Tokens of a text: a list of int, or an object with one as ``ids``."""
        ...

    def decode(self, ids: list[int], /, *, skip_special_tokens: bool) -> str:
        """Text of tokens."""
        ...


@dataclass(frozen=True, eq=False)
class TokenisedDocument:
    """Tokens of a document: the first is given, the others are predicted.

    Parameters
    ----------
    id : str
        Name of the document.
    ids : Tensor of shape (T,)
        int64 tokens, T at least 2.
    n_bytes : int
        Bytes of the text that tokens 2 to T stand for, at least 1. Bits per byte divide by it.

    Raises
    ------
    DataError
        There are fewer than two tokens, or no bytes are predicted.
    """

    id: str
    ids: Tensor
    n_bytes: int

    def __post_init__(self) -> None:
        if self.ids.ndim != 1 or self.ids.dtype != torch.int64:
            raise DataError(
                f'document "{self.id}": ids are {self.ids.dtype} of shape {tuple(self.ids.shape)}, not (T,).'
            )
        if len(self.ids) < 2 or self.n_bytes < 1:
            raise DataError(
                f'document "{self.id}" has {len(self.ids)} tokens that predict {self.n_bytes} bytes; it needs two '
                "tokens and a byte, so put a token for the beginning (bos) in front, or leave the document out."
            )


@dataclass(frozen=True, eq=False)
class Tokenised(Sequence[TokenisedDocument]):
    """Tokenised documents, a sequence; and the names of those that are too short to predict anything.

    Attributes
    ----------
    documents : tuple of TokenisedDocument
    left_out : tuple of str
        Ids of documents of which no token can be predicted.
    """

    documents: tuple[TokenisedDocument, ...]
    left_out: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.documents)

    def __iter__(self) -> Iterator[TokenisedDocument]:
        return iter(self.documents)

    @overload
    def __getitem__(self, index: int) -> TokenisedDocument: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TokenisedDocument, ...]: ...
    def __getitem__(self, index: int | slice) -> TokenisedDocument | tuple[TokenisedDocument, ...]:
        return self.documents[index]


def tokenise(
    documents: Iterable[Document], tokenizer: TextTokenizer, bos: int | None = None, *, vocab_size: int | None = None
) -> Tokenised:
    """Turn documents into tokens.

    Parameters
    ----------
    documents : iterable of Document
    tokenizer : TextTokenizer
        Decoding what it encodes must give the text back: bits per byte count the bytes of the text, whatever the
        tokenizer, and are comparable only between models of the same text. Special tokens are not added.
    bos : int, optional
        Token to put before every document, so that its whole text is predicted. Without it the first token is given,
        and the characters that it begins are not counted in ``n_bytes``.
    vocab_size : int, optional
        Number of tokens of the model that will read them.

    Returns
    -------
    Tokenised
        One entry a document, less those named in ``left_out``.

    Raises
    ------
    DataError
        An id occurs twice, a text does not survive the tokenizer, a token is outside the vocabulary of the model, or
        every document is too short.
    """
    if bos is not None and (bos < 0 or (vocab_size is not None and bos >= vocab_size)):
        raise ValueError(f"bos is {bos}; pass a token of the model, whose vocabulary is {vocab_size}.")
    documents = list(documents)
    check_unique(document.id for document in documents)
    kept: list[TokenisedDocument] = []
    left_out: list[str] = []
    for document in documents:
        ids = _encoded(document, tokenizer, vocab_size)
        n_bytes = document.n_bytes - (0 if bos is not None else _given_bytes(document, ids, tokenizer))
        ids = ids if bos is None else [bos, *ids]
        if len(ids) < 2 or n_bytes == 0:
            left_out.append(document.id)
        else:
            kept.append(TokenisedDocument(document.id, torch.tensor(ids), n_bytes))
    if not kept:
        raise DataError(
            f"none of {len(documents)} documents has a token to predict; pass longer ones, or a bos to put in front."
        )
    return Tokenised(tuple(kept), tuple(left_out))


def _encoded(document: Document, tokenizer: TextTokenizer, vocab_size: int | None) -> list[int]:
    encoding = tokenizer.encode(document.text, add_special_tokens=False)
    ids = list(getattr(encoding, "ids", encoding))
    if vocab_size is not None and max(ids) >= vocab_size:
        raise DataError(
            f'document "{document.id}" has token {max(ids)} and the model a vocabulary of {vocab_size}; use the '
            "tokenizer that the model was trained with."
        )
    if tokenizer.decode(ids, skip_special_tokens=False) != document.text:
        raise DataError(
            f'document "{document.id}" does not survive the tokenizer: decoding its tokens gives another text, so its '
            "bits per byte would be those of that text. Use a byte-level tokenizer, or switch off its normalisation."
        )
    return ids


def _given_bytes(document: Document, ids: list[int], tokenizer: TextTokenizer) -> int:
    """Bytes of the characters that the first token begins: where it ends inside one, of that whole character."""
    # The beginning of a character decodes to one replacement character, so that characters can be counted.
    begun = len(tokenizer.decode(ids[:1], skip_special_tokens=False))
    return len(document.text[:begun].encode())
