"""The model to train or to evaluate, with its tokenizer, from what the command line names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.llm.cli.vocabulary import Vocabulary, beside_llama2c, byte_bpe, tokenizer_at
from eeqs.llm.corpus import Document

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from eeqs.llm.huggingface import HuggingFaceBackend
    from eeqs.llm.huggingface.pretrained import CausalLM

__all__ = ["Kernel", "Source", "backend_of", "check_length", "context_of", "digest", "load", "on_device"]


@dataclass(frozen=True)
class Source:
    """Where a model and its tokenizer come from.

    Parameters
    ----------
    model : str
        The .bin of a llama2.c checkpoint, a Hugging Face folder, or a name on the hub.
    tokenizer : Path, optional
        Another tokenizer than the checkpoint's.
    bpe : int, optional
        Size of a byte-level BPE to train on the training documents.
    from_scratch : bool
        Take the architecture only, with random weights and the vocabulary of the tokenizer.

    Raises
    ------
    DataError
        Two tokenizers are asked for, or a new one for old weights.
    """

    model: str
    tokenizer: Path | None = None
    bpe: int | None = None
    from_scratch: bool = False

    def __post_init__(self) -> None:
        if self.tokenizer and self.bpe:
            raise DataError("give --tokenizer or --bpe, not both.")
        if self.bpe and not self.from_scratch:
            raise DataError(
                f"--bpe {self.bpe} trains a tokenizer that the weights of {self.model} do not know; add --from-scratch "
                "to train the architecture anew, or leave out --bpe."
            )


@dataclass(frozen=True, eq=False)
class Kernel:
    """A causal language model and its vocabulary."""

    model: CausalLM
    vocabulary: Vocabulary


def load(source: Source, training: Sequence[Document] = (), seed: int = 0) -> Kernel:
    """Load a model and its tokenizer.

    Parameters
    ----------
    source : Source
    training : sequence of Document
        What a BPE is trained on.
    seed : int
        Of random weights.

    Raises
    ------
    DataError
        One of them cannot be read, or they do not belong together.
    """
    tokenizer, end = _tokenizer(source, training)
    model = _model(source, tokenizer, end, seed)
    config = model.config.get_text_config()
    size = int(config.vocab_size)
    marks = [end if end is not None else _mark(getattr(config, f"{name}_token_id", None), size) for name in _MARKS]
    bos, stop = marks[0] if marks[0] is not None else marks[1], marks[1]
    return Kernel(model, Vocabulary(tokenizer, size, bos, stop))


def backend_of(model: CausalLM) -> HuggingFaceBackend:
    """Make a model a back-end.

    Raises
    ------
    DataError
        It takes no ``inputs_embeds``.
    """
    from eeqs.llm.huggingface import HuggingFaceBackend

    try:
        return HuggingFaceBackend(model)
    except TypeError as error:
        raise DataError(str(error)) from error


def context_of(model: CausalLM) -> int | None:
    """Return the number of positions that a model reads, where its configuration tells."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def check_length(model: CausalLM, length: int, what: str) -> None:
    """Refuse more tokens than a model has positions."""
    context = context_of(model)
    if context is not None and length > context:
        raise DataError(f"{what} is {length} tokens and the model reads {context}; ask for fewer.")


def on_device(name: str) -> torch.device:
    """Return a device that works.

    Raises
    ------
    DataError
        It cannot be used here.
    """
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise DataError(
            f'device "{name}" cannot be used here ({str(error).splitlines()[0]}); pass --device cpu.'
        ) from error
    return torch.device(name)


def digest(state: Mapping[str, Tensor]) -> str:
    """Checksum of the tensors of a state, by name."""
    held = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        held.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        held.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return held.hexdigest()


_MARKS = ("bos", "eos")


def _mark(token: int | Sequence[int] | None, size: int) -> int | None:
    """Return a special token of a configuration; some have several, or one that the model does not have."""
    first = token[0] if isinstance(token, Sequence) else token
    return first if first is not None and 0 <= first < size else None


def _tokenizer(source: Source, training: Sequence[Document]) -> tuple[Tokenizer, int | None]:
    """Return a tokenizer and, of one that is not the checkpoint's own, the token between documents."""
    if source.bpe:
        return byte_bpe(training, source.bpe)
    if source.tokenizer:
        return tokenizer_at(source.tokenizer)
    if source.model.endswith(".bin"):
        return beside_llama2c(Path(source.model)), None
    from eeqs.llm.huggingface.pretrained import pretrained_tokenizer

    return pretrained_tokenizer(source.model), None


def _model(source: Source, tokenizer: Tokenizer, end: int | None, seed: int) -> CausalLM:
    from eeqs.llm.huggingface import pretrained
    from eeqs.llm.huggingface.llama2c import load_llama2c

    with pretrained.quiet():
        found = load_llama2c(Path(source.model)) if source.model.endswith(".bin") else source.model
        if source.from_scratch:
            return pretrained.untrained(found, tokenizer.get_vocab_size(), end, seed)
        return pretrained.load_pretrained(found) if isinstance(found, str) else found
