"""Documents as tokens: the bytes that predicted tokens stand for, and what is refused or left out by name."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eeqs.engine.errors import DataError
from eeqs.llm.bits import bits_per_byte
from eeqs.llm.byte_tokenizer import ByteTokenizer
from eeqs.llm.corpus import Document
from eeqs.llm.tokens import TokenisedDocument, tokenise

BYTES = ByteTokenizer()
TEXTS = st.text(min_size=1, max_size=40).filter(lambda text: text.strip())


class Chunks:
    """A tokenizer of up to ``size`` bytes a token, made up as it goes; it may cut characters."""

    def __init__(self, size: int) -> None:
        self.size, self.pieces = size, list[bytes]()

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        data, start = text.encode(), len(self.pieces)
        self.pieces += [data[place : place + self.size] for place in range(0, len(data), self.size)]
        return list(range(start, len(self.pieces)))

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        assert not skip_special_tokens
        return b"".join(self.pieces[token] for token in ids).decode(errors="replace")


@given(st.text(max_size=40))
def test_bytes_give_the_text_back(text: str) -> None:
    ids = BYTES.encode(text)
    assert bytes(ids) == text.encode()
    assert BYTES.decode(ids) == text
    framed = BYTES.encode(text, add_special_tokens=True)
    assert framed == [256, *ids, 256]
    assert BYTES.decode(framed) == text
    assert BYTES.decode(framed, skip_special_tokens=False) == f"<|end|>{text}<|end|>"
    assert max(framed) < BYTES.vocab_size


@given(TEXTS, st.integers(1, 7))
def test_after_a_beginning_the_predicted_tokens_are_the_text(text: str, size: int) -> None:
    tokenizer = Chunks(size)
    (document,) = tokenise([Document("a", text)], tokenizer, bos=10_000)
    assert int(document.ids[0]) == 10_000
    assert tokenizer.decode(document.ids[1:].tolist(), skip_special_tokens=False) == text
    assert document.n_bytes == len(text.encode())


@given(TEXTS, st.integers(1, 7))
def test_without_one_the_first_characters_are_given(text: str, size: int) -> None:
    tokenizer = Chunks(size)
    given_bytes, place = 0, 0
    while given_bytes < min(size, len(text.encode())):  # whole characters, until the first token is covered
        given_bytes, place = given_bytes + len(text[place].encode()), place + 1
    if given_bytes == len(text.encode()):
        with pytest.raises(DataError, match="none of 1 documents has a token to predict"):
            tokenise([Document("a", text)], tokenizer)
        return
    (document,) = tokenise([Document("a", text)], tokenizer)
    assert document.n_bytes == len(text.encode()) - given_bytes


@given(TEXTS, st.integers(1, 7))
def test_bits_per_byte_are_comparable_between_tokenizers(text: str, size: int) -> None:
    # The uniform law on bytes is 8 bits a byte, however the bytes are cut into tokens.
    tokenizer = Chunks(size)
    (document,) = tokenise([Document("a", text)], tokenizer, bos=10_000)
    widths = torch.tensor([len(tokenizer.pieces[token]) for token in document.ids[1:].tolist()])
    log_probability = -(widths * math.log(256.0)).sum()
    assert float(bits_per_byte(log_probability, document.n_bytes)) == pytest.approx(8.0)


def test_documents_too_short_are_left_out_by_name() -> None:
    documents = [Document("short", "x"), Document("one character", "€"), Document("good", "xy")]
    found = tokenise(documents, BYTES)
    assert found.left_out == ("short", "one character")
    assert [document.id for document in found] == ["good"]
    assert (len(found), found[0].ids.tolist(), found[0].n_bytes) == (1, [120, 121], 1)
    assert found[:1] == found.documents
    whole = tokenise(documents, BYTES, BYTES.end)
    assert whole.left_out == ()
    assert [document.n_bytes for document in whole] == [1, 3, 2]
    with pytest.raises(DataError, match=r"none of 2 documents has a token to predict; .* bos"):
        tokenise(documents[:2], BYTES)


class Lowering(ByteTokenizer):
    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return super().encode(text.lower(), add_special_tokens=add_special_tokens)


def test_what_cannot_be_compared_or_read_is_refused() -> None:
    documents = [Document("a", "small"), Document("b", "LARGE")]
    with pytest.raises(DataError, match='"b" does not survive the tokenizer'):
        tokenise(documents, Lowering())
    with pytest.raises(DataError, match='document "a" has token 115 and the model a vocabulary of 100'):
        tokenise(documents, BYTES, vocab_size=100)
    with pytest.raises(DataError, match='two documents are called "a"'):
        tokenise([*documents, documents[0]], BYTES)
    for bos, vocab_size in ((-1, None), (257, 257)):
        with pytest.raises(ValueError, match=f"bos is {bos}"):
            tokenise(documents, BYTES, bos, vocab_size=vocab_size)
    assert len(tokenise(documents, BYTES, 256, vocab_size=257)) == 2


@pytest.mark.parametrize(
    ("ids", "n_bytes", "message"),
    [
        (torch.tensor([1]), 1, "has 1 tokens"), (torch.tensor([1, 2]), 0, "predict 0 bytes"),
        (torch.zeros(2, 2, dtype=torch.int64), 1, r"shape \(2, 2\)"), (torch.zeros(3), 1, r"float32 of shape \(3,\)"),
    ],
)  # fmt: skip
def test_a_tokenised_document_predicts_something(ids: torch.Tensor, n_bytes: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TokenisedDocument("a", ids, n_bytes)
