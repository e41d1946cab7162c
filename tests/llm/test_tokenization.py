"""Tokenizers: greedy merging written again, any text back from its tokens, published ids, damaged files."""

import json
import os
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeqs.llm.corpus import Document
from eeqs.llm.tokens import tokenise

pytest.importorskip("tokenizers")

from tokenizers import Tokenizer

from eeqs.llm.tokenization import gpt2_tokenizer, llama2c_tokenizer, train_byte_bpe

DATA = Path(os.environ["EEQS_DATA"]) if "EEQS_DATA" in os.environ else None
END = "<|endoftext|>"
TRAINING = ["the cat sat on the mat", "dass der Bär über die Brücke ging", "for x in range(10): print(x)"] * 3

SPECIAL = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256))]
PIECES = [" t", "he", " a", " the", "nd", "th", " and", "at", "ing", "in", "  ", "<s", "0x", "..", "é.", " é",
          *" etaonihdg.é<sx0>41"]  # fmt: skip


def _write(path: Path, pieces: list[str]) -> Path:
    tokens = [*((0.0, token) for token in SPECIAL), *((-float(rank), piece) for rank, piece in enumerate(pieces))]
    encoded = [(score, token.encode()) for score, token in tokens]
    content = struct.pack("<i", max(len(token) for _, token in encoded))
    path.write_bytes(content + b"".join(struct.pack("<fi", score, len(one)) + one for score, one in encoded))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


@pytest.fixture(scope="module", params=["written", *(["real"] if DATA else [])])
def pieces_file(request: pytest.FixtureRequest, folder: Path) -> Path:
    return DATA / "stories260K" / "tok512.bin" if request.param == "real" else _write(folder / "tok.bin", PIECES)


def _read(path: Path) -> tuple[dict[str, int], list[str], list[float]]:
    content, place, tokens, scores = path.read_bytes(), 4, [], []
    while place < len(content):
        score, length = struct.unpack_from("<fi", content, place)
        tokens.append(content[place + 8 : place + 8 + length].decode())
        scores.append(score)
        place += 8 + length
    return {token: index for index, token in enumerate(tokens)}, tokens, scores


def _greedy(table: tuple[dict[str, int], list[str], list[float]], text: str) -> list[int]:
    """Characters, or their bytes; then, again and again, the neighbours whose concatenation scores best, first ones
    first: llama2.c, and Kudo & Richardson (2018)."""
    index, tokens, scores = table
    ids = [index[" "]] if text else []
    for character in text:
        ids += [index[character]] if character in index else [3 + byte for byte in character.encode()]
    while True:
        joined = [index.get(tokens[one] + tokens[two]) for one, two in pairwise(ids)]
        ranked = [(scores[found], -place) for place, found in enumerate(joined) if found is not None]
        if not ranked:
            return ids
        place = -max(ranked)[1]
        ids[place : place + 2] = [joined[place]]


FREE = st.text(max_size=30)
LIKELY = st.text(" etaonihdg.é<sx0>41\n\u2581", max_size=60)


@given(st.data())
def test_llama2c_merges_greedily_by_score(pieces_file: Path, data: st.DataObject) -> None:
    table, tokenizer = _read(pieces_file), llama2c_tokenizer(pieces_file)
    for strategy in (FREE, LIKELY):
        for _ in range(10):
            text = data.draw(strategy)
            assert tokenizer.encode(text).ids == _greedy(table, text)
            assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_llama2c_merges_a_story_greedily(pieces_file: Path) -> None:
    text = "Once upon a time, there was a little girl in the red hat. “And then?” she said — nothing.\n\nThe end" * 3
    assert llama2c_tokenizer(pieces_file).encode(text).ids == _greedy(_read(pieces_file), text)


def test_tokens_that_look_special_are_text(pieces_file: Path) -> None:
    tokenizer = llama2c_tokenizer(pieces_file)
    for text in ("<s>", "</s>", "<unk>", "<0x41>"):
        assert min(tokenizer.encode(text).ids) > 2
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize("kept", [0, 3, 700, -1, -5])
def test_a_truncated_llama2c_tokenizer_is_refused(folder: Path, tmp_path: Path, kept: int) -> None:
    whole = _write(folder / "whole.bin", PIECES).read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[:kept])
    with pytest.raises(ValueError, match=r"cut\.bin is not a llama2\.c tokenizer, or is truncated"):
        llama2c_tokenizer(tmp_path / "cut.bin")


def test_llama2c_tokenizers_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="token twice"):
        llama2c_tokenizer(_write(tmp_path / "twice.bin", ["a", "b", "a"]))
    header = struct.pack("<i", 9)
    (tmp_path / "other.bin").write_bytes(header + struct.pack("<fi", 0.0, 9) + b"something")
    with pytest.raises(ValueError, match="its 1 tokens are not three special ones, 256 bytes"):
        llama2c_tokenizer(tmp_path / "other.bin")


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_byte_bpe(TRAINING, 300)


@pytest.fixture(scope="module")
def gpt2_folder(folder: Path, trained: Tokenizer) -> Path:
    """The trained merges in the files of GPT-2."""
    model = json.loads(trained.to_str())["model"]
    (folder / "encoder.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""]
    (folder / "vocab.bpe").write_text("\n".join(lines), "utf-8")
    return folder


@given(text=st.text(max_size=60))
def test_byte_level_tokenizers_give_any_text_back(trained: Tokenizer, gpt2_folder: Path, text: str) -> None:
    ids = trained.encode(text).ids
    assert trained.decode(ids, skip_special_tokens=False) == text
    assert gpt2_tokenizer(gpt2_folder).encode(text).ids == ids


def test_training_is_deterministic_and_keeps_to_its_size(trained: Tokenizer) -> None:
    assert trained.to_str() == train_byte_bpe(iter(TRAINING), 300).to_str()
    assert trained.get_vocab_size() <= 300
    assert len(trained.encode(TRAINING[0]).ids) < len(TRAINING[0]) / 1.5
    assert trained.token_to_id(END) == 0
    with pytest.raises(ValueError, match="vocab_size is 256"):
        train_byte_bpe(TRAINING, 256)


def test_the_end_of_a_document_cannot_be_written_in_one(trained: Tokenizer) -> None:
    ids = trained.encode(f"a{END}b").ids
    assert trained.token_to_id(END) not in ids
    assert trained.decode(ids) == f"a{END}b"


@given(texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4))
def test_tokenised_documents_decode_to_their_texts(trained: Tokenizer, pieces_file: Path, texts: list[str]) -> None:
    documents = [Document(str(index), text) for index, text in enumerate(texts)]
    for tokenizer, bos in ((trained, trained.token_to_id(END)), (llama2c_tokenizer(pieces_file), 1)):
        found = tokenise(documents, tokenizer, bos, vocab_size=tokenizer.get_vocab_size())
        assert not found.left_out
        for document, whole in zip(found, documents, strict=True):
            assert tokenizer.decode(document.ids[1:].tolist(), skip_special_tokens=False) == whole.text
            assert document.n_bytes == whole.n_bytes


def test_without_a_beginning_the_first_token_is_given(trained: Tokenizer) -> None:
    (document,) = tokenise([Document("a", "the cat sat")], trained)
    given_text, rest = (trained.decode(part) for part in (document.ids[:1].tolist(), document.ids[1:].tolist()))
    assert given_text + rest == "the cat sat"
    assert document.n_bytes == len(rest.encode())


def test_damaged_gpt2_files_are_refused(gpt2_folder: Path, tmp_path: Path) -> None:
    encoder, merges = (gpt2_folder / name for name in ("encoder.json", "vocab.bpe"))
    (tmp_path / "vocab.bpe").write_bytes(merges.read_bytes())
    (tmp_path / "encoder.json").write_bytes(encoder.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"encoder\.json is not JSON, or is truncated"):
        gpt2_tokenizer(tmp_path)
    (tmp_path / "encoder.json").write_bytes(encoder.read_bytes())
    (tmp_path / "vocab.bpe").write_text("\n".join(merges.read_text("utf-8").split("\n")[:-3]), "utf-8")
    with pytest.raises(ValueError, match="do not belong together, or one is truncated: 2 tokens are in one only"):
        gpt2_tokenizer(tmp_path)


if DATA:

    def test_gpt2_has_its_published_ids() -> None:
        tokenizer = gpt2_tokenizer(DATA / "gpt2_bpe")
        for text, ids in (("Hello world", [15496, 995]), ("hello world", [31373, 995])):
            assert tokenizer.encode(text).ids == ids
        for text in (END, "Brücke €\n\n\t日本 👩‍🚀\u2028"):
            assert tokenizer.decode(tokenizer.encode(text).ids) == text
        assert tokenizer.token_to_id(END) == 50256
        assert tokenizer.get_vocab_size() == 50257
