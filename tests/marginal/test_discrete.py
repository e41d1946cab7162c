"""Discrete perturbations: edge cases, published settings, tables of synonyms and keys, and refusals."""

import gzip
import inspect
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eeqs.engine.errors import DataError
from eeqs.marginal.discrete import (
    EDA,
    QWERTY,
    STOP_WORDS,
    BlockShuffle,
    LocalShuffle,
    RandomDeletion,
    RandomInsertion,
    RandomSwap,
    Rewrite,
    SynonymReplacement,
    Typos,
    adjacent_keys,
    random_insertion,
    random_swap,
    read_synonyms,
)

SYNONYMS = {"big": ["large", "huge"], "dog": ["hound"], "the": ["ye"]}
WORDS = st.lists(st.sampled_from(["big", "dog", "the", "a", "cat", "Él", ""]), max_size=9)
# The empty and the stop word are looked up and typed like any other.
MEMBERS = {
    "synonym_replacement": SynonymReplacement(SYNONYMS, 0.5),
    "random_insertion": RandomInsertion(SYNONYMS, 0.5),
    "random_swap": RandomSwap(0.5),
    "random_deletion": RandomDeletion(0.5),
    "eda": EDA(SYNONYMS),
    "typos": Typos(0.5),
    "local_shuffle": LocalShuffle(2),
    "block_shuffle": BlockShuffle(2),
}


# One word with synonyms, one word without, stop words only (one of which is in the table), and no synonyms.
@pytest.mark.parametrize(
    ("tokens", "laws"),
    [
        (
            ["big"],
            {
                "synonym_replacement": {("large",): 0.5, ("huge",): 0.5},
                "random_insertion": {("large", "big"): 0.5, ("huge", "big"): 0.5},
                "eda": {("big",): 0.5}
                | {outcome: 1 / 8 for word in ("large", "huge") for outcome in [(word,), (word, "big")]},
            },
        ),
        (["7"], {name: {("7",): 1.0} for name in ("synonym_replacement", "random_insertion", "eda", "typos")}),
        (
            ["the", "a"],
            {
                "synonym_replacement": {("the", "a"): 1.0},
                "random_insertion": {("the", "a"): 1.0},
                "random_swap": {("a", "the"): 7 / 8, ("the", "a"): 1 / 8},
                "random_deletion": {("the", "a"): 1 / 4, ("the",): 3 / 8, ("a",): 3 / 8},
            },
        ),
        (["cat", "mat"], {name: {("cat", "mat"): 1.0} for name in ("synonym_replacement", "random_insertion")}),
    ],
)
def test_edge_cases(tokens, laws):
    for name, law in laws.items():
        assert MEMBERS[name].outcomes(tokens) == pytest.approx(law)


@pytest.mark.parametrize("name", ["random_swap", "random_deletion", "local_shuffle", "block_shuffle"])
@pytest.mark.parametrize("token", ["big", 3, ("a", 1), None])
def test_one_token_of_any_kind_stays(name, token):
    assert MEMBERS[name].outcomes([token]) == {(token,): 1.0}


def test_rate_one():
    assert set(RandomDeletion(1).outcomes(["a", "b", "c"])) == {("a",), ("b",), ("c",)}
    assert SynonymReplacement({"big": ["large"], "dog": ["hound"]}, 1).outcomes(["big", "dog", "big"]) == {
        ("large", "hound", "large"): 1.0
    }
    assert {len(outcome) for outcome in RandomInsertion({"a": ["b"], "b": ["a"]}, 1, set()).outcomes(["a"] * 3)} == {6}
    assert ("a",) not in Typos(1).outcomes(["a"])


@given(words=WORDS, seed=st.integers(0, 9))
@pytest.mark.parametrize("name", ["random_swap", "local_shuffle", "block_shuffle"])
def test_shuffles_permute(name, words, seed):
    assert sorted(MEMBERS[name](words, np.random.default_rng(seed))) == sorted(words)


@given(words=WORDS, seed=st.integers(0, 9))
def test_insertion_and_deletion_keep_the_order(words, seed):
    shorter = RandomDeletion(0.5)(words, np.random.default_rng(seed))
    longer = RandomInsertion(SYNONYMS, 0.5)(words, np.random.default_rng(seed))
    for part, whole in [(shorter, words), (words, longer)]:
        rest = iter(whole)
        assert all(word in rest for word in part)
    assert longer[len(longer) - 1 :] == words[len(words) - 1 :]


@given(words=st.lists(st.text("aQz'7é", min_size=1), max_size=5), seed=st.integers(0, 99))
def test_no_word_vanishes_and_other_characters_stay(words, seed):
    typed = Typos(0.7)(words, np.random.default_rng(seed))
    assert len(typed) == len(words)
    assert all(typed)
    for character in "7é'":
        # A character moves by transposition only.
        assert "".join(typed).count(character) == "".join(words).count(character)


def defaults(member):
    signature = inspect.signature(member).parameters.values()
    return {p.name: p.default for p in signature if p.default is not inspect.Parameter.empty}


def test_published_settings():
    assert defaults(SynonymReplacement) == {"alpha": 0.1, "stop_words": STOP_WORDS}
    assert defaults(RandomInsertion) == {"alpha": 0.1, "stop_words": STOP_WORDS}
    assert defaults(RandomSwap) == {"alpha": 0.1}
    assert defaults(RandomDeletion) == {"rate": 0.1}
    assert defaults(EDA) == dict.fromkeys(["alpha_sr", "alpha_ri", "alpha_rs", "p_rd"], 0.1) | {
        "stop_words": STOP_WORDS
    }
    assert defaults(LocalShuffle) == {"reach": 3}
    assert (random_insertion.ATTEMPTS, random_swap.ATTEMPTS) == (9, 3)


@pytest.mark.parametrize(
    ("length", "alpha", "edits"), [(1, 0.1, 1), (19, 0.1, 1), (20, 0.1, 2), (39, 0.1, 3), (9, 0, 0)]
)
def test_number_of_edits(length, alpha, edits):
    words = [f"word{i}" for i in range(length)]
    replaced = SynonymReplacement({word: ["other"] for word in words}, alpha)(words, np.random.default_rng(0))
    assert replaced.count("other") == edits
    certain = RandomInsertion({word: ["other"] for word in words}, alpha)
    assert certain(words, np.random.default_rng(0)).count("other") == edits


def test_an_operation_of_rate_zero_takes_no_part_in_eda():
    only = EDA(SYNONYMS, alpha_ri=0, alpha_rs=0, p_rd=0)
    assert only.outcomes(["big", "cat"]) == SynonymReplacement(SYNONYMS).outcomes(["big", "cat"])


def test_synonyms_are_sorted_and_order_and_repetition_in_the_table_do_not_matter():
    tables = [{"big": ["huge", "large", "big"]}, {"big": ("large", "huge", "huge")}, {"big": {"large", "huge"}}]
    results = [[SynonymReplacement(t)(["big"], np.random.default_rng(s)) for s in range(20)] for t in tables]
    assert results[0] == results[1] == results[2]


def test_stop_words_of_the_user():
    assert SynonymReplacement(SYNONYMS, stop_words={"big", "dog"}).outcomes(["the", "big"]) == {("ye", "big"): 1.0}


def test_stop_words():
    # Function words of every class, and no content word.
    assert {"the", "of", "and", "he", "who", "is", "not", "myself", "would", "these"} <= STOP_WORDS
    assert STOP_WORDS.isdisjoint({"dog", "run", "good", "house", "quickly", ""})
    assert all(word == word.lower() for word in STOP_WORDS)


def written(path, text):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def test_reading_synonyms(tmp_path):
    path = written(tmp_path / "table.tsv.gz", "big\tlarge huge\ncafé\tbistro\n")
    assert read_synonyms(path) == {"big": ("large", "huge"), "café": ("bistro",)}
    assert SynonymReplacement(read_synonyms(str(path))).outcomes(["café"]) == {("bistro",): 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("big\tlarge\nsmall\n", r"line 2: 'small' is not a word, a tab"),
        ("big\tlarge\n\n", "line 2: ''"),
        ("\tlarge\n", "line 1"),
        ("big\t \n", "line 1"),
        ("big\tlarge\nbig\thuge\n", "line 2: 'big' comes a second time"),
    ],
)
def test_malformed_tables_are_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_synonyms(written(tmp_path / "table.tsv.gz", text))


def test_keyboard():
    # Typed by hand from a US keyboard.
    assert {key: set(QWERTY[key]) for key in "qgpmz"} == {
        "q": set("wa"), "g": set("fhtyvb"), "p": set("ol"), "m": set("nkj"), "z": set("asx"),
    }  # fmt: skip
    assert set(QWERTY) == set("abcdefghijklmnopqrstuvwxyz")
    assert all(key in QWERTY[other] for key, others in QWERTY.items() for other in others)
    azerty = adjacent_keys(["azertyuiop", "qsdfghjklm", "wxcvbn"], [0, 0.25, 0.75])
    assert set(azerty["a"]) == set("zq")
    assert Typos(1, azerty).outcomes(["a"]) == pytest.approx({("aa",): 0.5, ("z",): 0.25, ("q",): 0.25})


def test_typos_keep_the_case():
    outcomes = {word for (word,) in Typos(1).outcomes(["Q"])}
    assert outcomes == {"QQ", "W", "A"}


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda rate: SynonymReplacement(SYNONYMS, rate), "alpha"),
        (lambda rate: RandomInsertion(SYNONYMS, rate), "alpha"),
        (RandomSwap, "alpha"),
        (RandomDeletion, "rate"),
        (Typos, "rate"),
        *[(lambda rate, name=name: EDA(SYNONYMS, **{name: rate}), name) for name in ("alpha_sr", "alpha_ri", "p_rd")],
    ],
)
@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan, math.inf])
def test_rates_outside_the_unit_interval(make, name, rate):
    with pytest.raises(ValueError, match=f"^{name} is {rate}; pass a number in"):
        make(rate)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RandomSwap("0.1"), TypeError, "alpha is a str"),
        (lambda: LocalShuffle(-1), ValueError, "reach is -1"),
        (lambda: LocalShuffle(1.5), TypeError, "reach is a float"),
        (lambda: BlockShuffle(0), ValueError, "size is 0"),
        (lambda: SynonymReplacement([("big", "large")]), TypeError, "synonyms is a list"),
        (lambda: EDA(SYNONYMS, stop_words="the a"), TypeError, "stop_words is a str"),
        (lambda: SynonymReplacement({"big": "large"}).outcomes(["big"]), TypeError, r"such as \['large'\]"),
        (lambda: Typos(0.1).outcomes(["big", 7]), TypeError, "Token 7 is a int; typos need words"),
        (lambda: RandomSwap().outcomes("a sentence"), TypeError, "tokens is a str; pass a list"),
        (lambda: RandomSwap().outcomes([1], limit=0), ValueError, "limit is 0"),
        (Rewrite, TypeError, "abstract"),
    ],
)
def test_bad_settings_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("generator", [0, np.random, random, torch.Generator()])
def test_other_generators_are_refused(generator):
    with pytest.raises(TypeError, match=r"pass numpy.random.default_rng\(seed\)"):
        RandomSwap()(["a", "b"], generator)
