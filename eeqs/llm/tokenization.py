"""Tokenizers: of a llama2.c checkpoint, of GPT-2, and byte-level BPE trained on given texts."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

__all__ = ["gpt2_tokenizer", "llama2c_tokenizer", "train_byte_bpe"]

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def llama2c_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer of a llama2.c checkpoint.

    Parameters
    ----------
    path : Path
        Such as ``tok512.bin``: int32 longest token, then for each token float32 score, int32 length, bytes.

    Returns
    -------
    tokenizers.Tokenizer
        SentencePiece BPE with byte fallback: the pair whose merger has the best score merges first. Text begins with a
        space, as the model was trained; no special tokens are added.

    Raises
    ------
    ValueError
        The file is damaged.
    """
    tokens, scores = _read_pieces(Path(path))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    ranked = sorted(
        (-scores[index], index, token[:cut], token[cut:])
        for token, index in vocabulary.items()
        for cut in range(1, len(token))
        if index > 258 and token[:cut] in vocabulary and token[cut:] in vocabulary
    )
    merges = [(left, right) for _, _, left, right in ranked]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)  # noqa: S106
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def gpt2_tokenizer(folder: Path) -> Tokenizer:
    """Read the byte-level BPE of GPT-2.

    Parameters
    ----------
    folder : Path
        Holds ``encoder.json`` and ``vocab.bpe``.
    """
    vocabulary = json.loads((Path(folder) / "encoder.json").read_text("utf-8"))
    lines = (Path(folder) / "vocab.bpe").read_text("utf-8").splitlines()[1:]
    merges = [tuple(line.split(" ")) for line in lines if line]
    return _byte_level(models.BPE(vocab=vocabulary, merges=merges))


def train_byte_bpe(texts: Iterable[str], vocab_size: int, end: str = "<|endoftext|>") -> Tokenizer:
    """Train a byte-level BPE; give it the training split only.

    Parameters
    ----------
    texts : iterable of str
        Documents.
    vocab_size : int
        Tokens, at least 257: 256 bytes and the end of a document.
    end : str
        Token of the end of a document.

    Raises
    ------
    ValueError
        Fewer tokens than bytes.
    """
    if vocab_size < 257:
        raise ValueError(f"vocab_size is {vocab_size}; byte-level BPE has 256 bytes and the token {end!r}.")
    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _read_pieces(path: Path) -> tuple[list[str], list[float]]:
    content = path.read_bytes()
    tokens, scores, place = [], [], 4
    try:
        while place < len(content):
            score, length = struct.unpack_from("<fi", content, place)
            (piece,) = struct.unpack_from(f"<{length}s", content, place + 8)
            tokens.append(piece.decode("utf-8"))
            scores.append(score)
            place += 8 + length
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a llama2.c tokenizer, or is truncated ({error}).") from error
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    return special + [token.replace(" ", _SPACE) for token in tokens[len(special) :]], scores
