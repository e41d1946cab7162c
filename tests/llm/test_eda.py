"""EDA on text: what is not edited stays to the character, and edits come at the published rates."""

import gzip
import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeqs.engine.errors import DataError
from eeqs.llm.corpus import Document
from eeqs.llm.methods.eda import augmented, eda, published_setting, wordnet_synonyms
from eeqs.llm.methods.sentences import rewritten, sentences
from eeqs.marginal.discrete import EDA, RandomDeletion, RandomInsertion, RandomSwap, SynonymReplacement

SYNONYMS = {f"w{i}": [f"s{i}"] for i in range(40)}
TEXT = ' = Heading = \n \n The <unk> @-@ dog\'s tail (it wagged) cost 3.5 , he said . "Why?" Nobody knew!\n\tEnd'


class Stay:
    def __call__(self, tokens, _generator):
        return list(tokens)

    def outcomes(self, tokens):
        return {tuple(tokens): 1.0}


def rng(seed=0):
    return np.random.default_rng(seed)


@given(st.text() | st.text("aB1'-.!?\"() \n\t<>é漢"))
def test_text_is_its_sentences_and_a_sentence_its_words_and_gaps(text):
    pieces = sentences(text)
    assert "".join(pieces) == text
    assert all(pieces)
    still = (Stay(), SynonymReplacement({}), RandomInsertion({}), RandomDeletion(0.0), EDA({}, 0, 0, 0, 0))
    assert all(rewritten(piece, operation, rng()) == piece for piece in pieces for operation in still)


def test_sentences_and_lines():
    assert sentences('He left. "Why?" she asked.\nNo one') == ["He left. ", '"Why?" ', "she asked.\n", "No one"]
    assert sentences("3.5 pounds") == ["3.5 pounds"]


class Fixed:
    """An operation with one outcome."""

    def __init__(self, change):
        self.change = change

    def __call__(self, tokens, _generator):
        return self.change(list(tokens))

    def outcomes(self, tokens):
        return {tuple(self.change(list(tokens))): 1.0}


@pytest.mark.parametrize(
    ("sentence", "change", "expected"),
    [
        ("Big dogs, BIG (cat).\n", lambda w: ["large" if x == "big" else x for x in w], "Large dogs, LARGE (cat).\n"),
        ("One two, three.", lambda w: [w[2], w[1], w[0]], "three two, One."),
        ("One two, three.\n", lambda w: w[:2], "One two, .\n"),
        ("One two three.\n", lambda w: w[:2], "One two.\n"),
        ("One two, three.", lambda w: [w[0], w[2]], "One, three."),
        ("One two, three.", lambda w: w[1:], "two, three."),
        ("«One» two.", lambda w: w[1:], "«» two."),
        ("One two, three.", lambda w: ["new", *w[:2], "other", w[2]], "new One two, other three."),
    ],
)
def test_edits(sentence, change, expected):
    assert rewritten(sentence, Fixed(change), rng()) == expected


def test_alpha_zero_gives_exact_copies_and_originals_stay():
    documents = [Document("a", TEXT), Document("b", "Short.")]
    copies = augmented(documents, SYNONYMS, 0.0, 2, rng())
    assert [d.text for d in copies] == [TEXT] * 3 + ["Short."] * 3
    assert len({d.id for d in copies}) == 6
    assert copies[0] is documents[0]


def test_the_generator_decides():
    documents = [Document("a", " ".join(SYNONYMS) + ".")]
    one, two, other = (augmented(documents, SYNONYMS, 0.1, 8, rng(seed)) for seed in (0, 0, 1))
    assert one == two != other


def kind(words, edited):
    """Which operation it was, told from the words alone."""
    new = sum(word.startswith("s") for word in edited)
    if len(edited) > len(words):
        return "insertion", len(edited) - len(words), new
    if new:
        return "replacement", new, 0
    if sorted(edited) == sorted(words):
        return "swap or none", sum(a != b for a, b in zip(edited, words, strict=True)), 0
    return "deletion", len(words) - len(edited), 0


def test_operations_come_with_equal_chance_and_edit_at_the_published_rate():
    """All bounds are 4.5 standard errors; 6 comparisons."""
    n, length, alpha = 4000, 40, 0.1
    words = list(SYNONYMS)
    sentence = " ".join(words) + "."
    copies = augmented([Document("a", sentence)], SYNONYMS, alpha, n, rng(3))[1:]
    seen = [kind(words, re.findall(r"\w+", copy.text)) for copy in copies]
    assert all(copy.text.endswith(".") for copy in copies)
    counts = Counter(name for name, *_ in seen)
    none = (1 - alpha) ** length  # a deletion that deletes nothing looks like a swap
    for name, share in {"insertion": 0.25, "replacement": 0.25, "deletion": 0.25 * (1 - none)}.items():
        assert abs(counts[name] / n - share) < 4.5 * math.sqrt(share * (1 - share) / n), name
    edits = int(alpha * length)
    assert {size for name, size, _ in seen if name == "replacement"} == {edits}
    assert {size for name, size, _ in seen if name == "insertion"} == {edits}
    assert {size for name, size, _ in seen if name.startswith("swap")} <= set(range(2 * edits + 1))
    deleted = sum(size for name, size, _ in seen if name == "deletion")
    mean, spread = alpha * length / 4, math.sqrt((alpha * (1 - alpha) * length + (alpha * length) ** 2) / 4)
    assert abs(deleted / n - mean) < 4.5 * spread / math.sqrt(n)


def test_swaps_leave_the_gaps():
    sentence = "a, b; c: d. "
    found = rewritten(sentence, RandomSwap(0.3), rng(1))
    assert re.sub(r"\w", "_", found) == re.sub(r"\w", "_", sentence)
    assert sorted(found) == sorted(sentence)
    assert found != sentence


@pytest.mark.parametrize(("n", "setting"), [(500, (0.05, 16)), (501, (0.05, 8)), (2000, (0.05, 8)), (2001, (0.1, 4))])
def test_published_settings(n, setting):
    assert published_setting(n) == setting
    rewrite = eda({}).rewrite
    documents = [Document("a", "Yes no. " * n)]
    assert rewrite is not None
    assert len(rewrite(documents, rng())) == 1 + setting[1]


def test_synonyms_of_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("EEQS_DATA", raising=False)
    with pytest.raises(DataError, match="EEQS_DATA is not set"):
        wordnet_synonyms()
    monkeypatch.setenv("EEQS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"wordnet_synonyms\.tsv\.gz"):
        wordnet_synonyms()
    with gzip.open(tmp_path / "wordnet_synonyms.tsv.gz", "wt", encoding="utf-8") as stream:
        stream.write("big\tlarge huge\n")
    assert wordnet_synonyms() == {"big": ("large", "huge")}


def test_bad_settings():
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        eda({}, alpha=1.5)
    with pytest.raises(ValueError, match="copies is 0"):
        eda({}, copies=0)
