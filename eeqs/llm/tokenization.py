"""Tokenizers: of a llama2.c checkpoint, of GPT-2, and byte-level BPE trained on given texts."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

__all__ = ["gpt2_tokenizer", "llama2c_tokenizer", "train_byte_bpe"]

_END = "<|endoftext|>"
_SPECIAL = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]


def llama2c_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer of a llama2.c checkpoint.

    Parameters
    ----------
    path : Path
        Such as ``tok512.bin``: int32 longest token, then for each token float32 score, int32 length, bytes.

    Returns
    -------
    tokenizers.Tokenizer
        SentencePiece BPE with byte fallback: the pair whose merger has the best score merges first. A space is put in
        front of the text, as in training, and taken away in decoding; no special tokens are added.

    Raises
    ------
    ValueError
        The file is damaged, truncated or of another kind.

    Notes
    -----
    Pairs that merge into the same piece have ranks of their own here and one score there, so a text in which two such
    pairs share a token, as in ``aa|a|aa``, could be cut in another place; both cuts give the same text.
    """
    tokens, scores = _read_pieces(Path(path))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    ranked = sorted(
        (-scores[index], index, token[:cut], token[cut:])
        for token, index in vocabulary.items()
        for cut in range(1, len(token))
        if index >= len(_SPECIAL) and token[:cut] in vocabulary and token[cut:] in vocabulary
    )
    merges = [(left, right) for _, _, left, right in ranked]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)  # noqa: S106
    )
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def gpt2_tokenizer(folder: Path) -> Tokenizer:
    """Read the byte-level BPE of GPT-2.

    Parameters
    ----------
    folder : Path
        Holds ``encoder.json``, tokens to numbers, and ``vocab.bpe``, a line of version and then merges by rank.

    Raises
    ------
    ValueError
        A file is damaged, or the merges do not make the tokens.
    """
    vocabulary_path, merges_path = Path(folder) / "encoder.json", Path(folder) / "vocab.bpe"
    try:
        vocabulary: dict[str, int] = json.loads(vocabulary_path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{vocabulary_path} is not JSON, or is truncated ({error}).") from error
    lines = merges_path.read_text("utf-8").split("\n")[1:]
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines if line)]
    made = {left + right for left, right in merges} | set(pre_tokenizers.ByteLevel.alphabet())
    odd = sorted(made.symmetric_difference(vocabulary).difference([_END]))
    if odd:
        raise ValueError(
            f"{merges_path} and {vocabulary_path} do not belong together, or one is truncated: {len(odd)} tokens are "
            f"in one only, such as {odd[0]!r}."
        )
    return _byte_level(models.BPE(vocab=vocabulary, merges=merges))


def train_byte_bpe(texts: Iterable[str], vocab_size: int, end: str = _END) -> Tokenizer:
    """Train a byte-level BPE; give it the training split only.

    Parameters
    ----------
    texts : iterable of str
        Documents.
    vocab_size : int
        Tokens, at least 257: 256 bytes and the end of a document.
    end : str
        Token of the end of a document; the same characters in a text are text.

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
    tokenizer.encode_special_tokens = True  # not what the name suggests: it splits them like any other text
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
        (longest,) = struct.unpack_from("<i", content)
        while place < len(content):
            score, length = struct.unpack_from("<fi", content, place)
            (piece,) = struct.unpack_from(f"<{length}s", content, place + 8)
            tokens.append(piece.decode("utf-8"))
            scores.append(score)
            place += 8 + length
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a llama2.c tokenizer, or is truncated ({error}).") from error
    # What a file that ends between two tokens, or begins as another, does not have.
    if tokens[3 : len(_SPECIAL)] != _SPECIAL[3:] or max(len(token.encode()) for token in tokens) != longest:
        raise ValueError(
            f"{path} is not a llama2.c tokenizer, or is truncated: its {len(tokens)} tokens are not three special "
            f"ones, 256 bytes, and pieces of up to {longest} bytes."
        )
    tokens[: len(_SPECIAL)] = _SPECIAL  # the file has line breaks around <s> and </s>
    if len(set(tokens)) < len(tokens):
        raise ValueError(f"{path} has a token twice; it is not a llama2.c tokenizer.")
    return tokens, scores
