"""How text becomes the tokens of a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from eeqs.engine.errors import DataError
from eeqs.llm.cli.console import note
from eeqs.llm.corpus import Document
from eeqs.llm.packing import Rows, pack
from eeqs.llm.tokenization import gpt2_tokenizer, llama2c_tokenizer, train_byte_bpe
from eeqs.llm.tokens import Tokenised, tokenise

__all__ = ["Vocabulary", "beside_llama2c", "byte_bpe", "tokenizer_at"]

_END = "<|endoftext|>"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A tokenizer and the model's special tokens.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
    size : int
        Tokens of the model.
    bos : int, optional
        Put before every document.
    stop : int, optional
        Ends a generated text.

    Raises
    ------
    DataError
        The tokenizer has more tokens than the model.
    """

    tokenizer: Tokenizer
    size: int
    bos: int | None = None
    stop: int | None = None

    def __post_init__(self) -> None:
        count = self.tokenizer.get_vocab_size()
        if count > self.size:
            raise DataError(
                f"the tokenizer has {count} tokens and the model {self.size}: they do not belong together. Use the "
                "tokenizer that the model was trained with, or train a new model with --from-scratch."
            )

    def encode(self, documents: Sequence[Document]) -> Tokenised:
        """Tokens of documents; see `eeqs.llm.tokens.tokenise`."""
        return tokenise(documents, self.tokenizer, self.bos, vocab_size=self.size)

    def telling(self, name: str) -> Callable[[Sequence[Document]], Tokenised]:
        """Return `encode`, with a note on standard error when it first leaves out documents, too short to predict."""
        told: set[str] = set()

        def encode(documents: Sequence[Document]) -> Tokenised:
            found = self.encode(documents)
            new = [one for one in found.left_out if one not in told]
            if new:
                note(f"{name}: left out {len(new)} documents too short to predict anything, such as {new[0]}.")
            told.update(new)
            return found

        return encode

    def rows(self, documents: Sequence[Document], length: int, name: str, overlap: int = 0) -> Rows:
        """Packed tokens of documents; see `telling`."""
        return pack(list(self.telling(name)(documents)), length, overlap=overlap)

    def ids(self, text: str) -> list[int]:
        """Tokens of a prompt, after the token of the beginning."""
        return [*([] if self.bos is None else [self.bos]), *self.tokenizer.encode(text, add_special_tokens=False).ids]

    def text(self, ids: Sequence[int]) -> str:
        """Text of tokens, without special ones."""
        kept = [token for token in ids if token not in (self.bos, self.stop)]
        return self.tokenizer.decode(kept, skip_special_tokens=True)

    @property
    def digest(self) -> str:
        """Checksum of the tokenizer."""
        return hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest()


def tokenizer_at(path: Path) -> tuple[Tokenizer, int | None]:
    """Read a tokenizer from a folder of GPT-2 files or with tokenizer.json, or from the .bin file of llama2.c.

    Returns
    -------
    Tokenizer, int or None
        And the token between documents, if the files tell.

    Raises
    ------
    DataError
        There is none.
    """
    if path.is_file():
        return llama2c_tokenizer(path), 1
    if (path / "encoder.json").is_file():
        tokenizer = gpt2_tokenizer(path)
        return tokenizer, tokenizer.token_to_id(_END)
    if (path / "tokenizer.json").is_file():
        from eeqs.llm.huggingface.pretrained import pretrained_tokenizer

        tokenizer = pretrained_tokenizer(str(path))
        return tokenizer, tokenizer.token_to_id(_END)
    raise DataError(
        f"there is no tokenizer at {path}; pass a folder with encoder.json and vocab.bpe or with tokenizer.json, or "
        "the tokenizer file of a llama2.c checkpoint."
    )


def beside_llama2c(path: Path) -> Tokenizer:
    """Read the only tok*.bin in the folder of a llama2.c checkpoint.

    Raises
    ------
    DataError
        There is none, or several.
    """
    found = sorted(path.parent.glob("tok*.bin"))
    if len(found) != 1:
        raise DataError(f"there are {len(found)} files tok*.bin beside {path}; pass one of them with --tokenizer.")
    return llama2c_tokenizer(found[0])


def byte_bpe(documents: Sequence[Document], size: int) -> tuple[Tokenizer, int | None]:
    """Train a byte-level BPE on training documents; returns it and the token between documents."""
    tokenizer = train_byte_bpe((document.text for document in documents), size)
    return tokenizer, tokenizer.token_to_id(_END)
