"""Bytes as tokens: no vocabulary to read or to train, nothing to install."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["ByteTokenizer"]


class ByteTokenizer:
    """The UTF-8 bytes of a text as tokens 0..255, and a token that separates documents.

    Attributes
    ----------
    end : int
        256, the token before and after a document; `encode` does not add it.
    vocab_size : int
        257.
    """

    end = 256
    vocab_size = 257

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Bytes of a text, between two `end` if special tokens are asked for."""
        ids = list(text.encode())
        return [self.end, *ids, self.end] if add_special_tokens else ids

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Text of tokens; bytes that form no character become U+FFFD."""
        pieces, text = [], bytearray()
        for token in ids:
            if token != self.end:
                text.append(token)
            elif not skip_special_tokens:
                pieces += [text.decode(errors="replace"), "<|end|>"]
                text = bytearray()
        return "".join([*pieces, text.decode(errors="replace")])
