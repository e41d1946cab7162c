"""Contract of every discrete perturbation: a file in eeqs/marginal/discrete needs one row here."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, dataclass, is_dataclass
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from eeqs.marginal import discrete
from eeqs.marginal.discrete import (
    EDA,
    BlockShuffle,
    DiscretePerturbation,
    LocalShuffle,
    RandomDeletion,
    RandomInsertion,
    RandomSwap,
    Rewrite,
    SemanticNeighbour,
    SynonymReplacement,
    Typos,
    nearest,
)

SYNONYMS = {"big": ["large", "huge"], "dog": ["hound"], "saw": ["glimpsed", "spied", "noticed"]}
SENTENCE = ("the", "big", "dog", "saw", "a", "big", "cat", "here", "and", "there")
NEAREST = nearest(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), 3)

SUPPORT = {"__init__", "choices", "enumeration", "keyboard", "neighbours", "protocol", "rewrite", "settings"}
SUPPORT |= {"stop_words", "synonyms"}


@dataclass(frozen=True)
class Row:
    make: Callable[[], Any]
    identity: Callable[[], Any]  # a setting that changes nothing
    tokens: Sequence = SENTENCE
    lengths: Callable[[int], Sequence[int]] = lambda n: [n]  # every length a sequence of n tokens may become


FAMILIES = {
    "synonym_replacement": Row(lambda: SynonymReplacement(SYNONYMS, 0.2), lambda: SynonymReplacement(SYNONYMS, 0)),
    "random_insertion": Row(
        lambda: RandomInsertion(SYNONYMS), lambda: RandomInsertion(SYNONYMS, 0), lengths=lambda n: [n, n + 1]
    ),
    "random_swap": Row(lambda: RandomSwap(0.2), lambda: RandomSwap(0)),
    "random_deletion": Row(lambda: RandomDeletion(0.3), lambda: RandomDeletion(0), lengths=lambda n: range(1, n + 1)),
    "eda": Row(lambda: EDA(SYNONYMS), lambda: EDA(SYNONYMS, 0, 0, 0, 0), lengths=lambda n: range(1, n + 2)),
    "semantic_neighbour": Row(
        lambda: SemanticNeighbour(NEAREST, 0.5, 0.3), lambda: SemanticNeighbour(NEAREST, 0.5, 0), [3, 1, 4, 1]
    ),
    "typos": Row(lambda: Typos(0.2), lambda: Typos(0), ["Big", "o7"]),
    "local_shuffle": Row(lambda: LocalShuffle(2), lambda: LocalShuffle(0), SENTENCE[:6]),
    "block_shuffle": Row(lambda: BlockShuffle(2), lambda: BlockShuffle(20)),
}  # fmt: skip


# A user's member, without the package's base.
@dataclass(frozen=True)
class Reversal:
    rate: float = 0.25

    def __call__(self, tokens, generator):
        return list(tokens[::-1] if generator.random() < self.rate else tokens)

    def outcomes(self, tokens):
        law = Counter({tuple(tokens): 1 - self.rate})
        law[tuple(tokens[::-1])] += self.rate
        return {outcome: p for outcome, p in law.items() if p}


# And with it: one method.
@dataclass(frozen=True)
class Truncation(Rewrite):
    rate: float = 0.75

    def rewrite(self, tokens, choices):
        return tokens[: 1 + choices.uniform(len(tokens))] if choices.flip(self.rate) else tokens


ROWS = FAMILIES | {
    "third-party reversal": Row(Reversal, lambda: Reversal(0.0)),
    "third-party truncation": Row(Truncation, lambda: Truncation(0.0), lengths=lambda n: range(1, n + 1)),
}


def draws(row, n, seed=0):
    generator = np.random.default_rng(seed)
    member = row.make()
    return [member(list(row.tokens), generator) for _ in range(n)]


def global_states():
    kind, key, *rest = np.random.get_state()  # noqa: NPY002 - to see that nobody touches it
    return random.getstate(), (kind, key.tolist(), *rest), torch.get_rng_state().tolist()


def check_generator(row):
    """The generator decides, and nothing else is read or advanced."""
    before = global_states()
    assert draws(row, 30) == draws(row, 30)
    assert global_states() == before
    assert draws(row, 30) != draws(row, 30, seed=1)


def check_law(row):
    """Draws follow the enumerated law: chi-square at level 1e-4, so 0.0011 over the 11 rows, and the seed is fixed."""
    law = row.make().outcomes(row.tokens)
    assert all(0 < p <= 1 for p in law.values())
    assert abs(fsum(law.values()) - 1) < 1e-12
    n = 4000
    counts = Counter(map(tuple, draws(row, n)))
    assert set(counts) <= set(law)
    expected = np.array([n * p for p in law.values()])
    observed = np.array([counts[outcome] for outcome in law])
    # Outcomes expected less than five times make one cell, joined to the next smallest if still rare.
    order = np.argsort(expected)
    rare = max(int((expected < 5).sum()), int(np.searchsorted(np.cumsum(expected[order]), 5)) + 1)
    pooled = [np.r_[x[order][:rare].sum(), x[order][rare:]] for x in (observed, expected)]
    assert len(pooled[0]) > 1
    assert stats.chisquare(*pooled).pvalue > 1e-4


def check_input(row):
    """The input is left alone, may be a list or a tuple, and the result is a new list."""
    given = list(row.tokens)
    generator = np.random.default_rng(0)
    for member in (row.make(), row.identity()):
        for _ in range(20):
            result = member(given, generator)
            assert type(result) is list
            assert result is not given
            assert given == list(row.tokens)
        member.outcomes(given)
        assert given == list(row.tokens)
    assert row.make()(tuple(given), np.random.default_rng(0)) == row.make()(given, np.random.default_rng(0))


def check_lengths(row):
    allowed = set(row.lengths(len(row.tokens)))
    assert {len(result) for result in draws(row, 50)} <= allowed
    assert {len(outcome) for outcome in row.make().outcomes(row.tokens)} == allowed


CHECKS = [check_generator, check_law, check_input, check_lengths]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("check", CHECKS)
def test_contract(check, name):
    check(ROWS[name])


def without_row(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.py")} ^ (set(FAMILIES) | SUPPORT)


def test_every_file_has_a_row(tmp_path):
    folder = Path(discrete.__path__[0])
    assert without_row(folder) == set()
    for path in folder.glob("*.py"):
        (tmp_path / path.name).touch()
    (tmp_path / "newcomer.py").touch()
    assert without_row(tmp_path) == {"newcomer"}


@pytest.mark.parametrize("name", ROWS)
def test_protocol(name):
    member = ROWS[name].make()
    assert isinstance(member, DiscretePerturbation)
    assert is_dataclass(member)
    with pytest.raises(FrozenInstanceError):
        member.rate = 0.5


@pytest.mark.parametrize("name", ROWS)
def test_identity_setting(name):
    row = ROWS[name]
    assert row.identity().outcomes(row.tokens) == {tuple(row.tokens): 1.0}
    assert row.identity()(row.tokens, np.random.default_rng(0)) == list(row.tokens)


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_stays_nothing(name):
    member = FAMILIES[name].make()
    assert member([], np.random.default_rng(0)) == []
    assert member.outcomes(()) == {(): 1.0}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("tokens", ["a sentence", b"bytes", np.arange(3), torch.arange(3), {1, 2}, [[1, 2]], iter([1])])
def test_tokens_that_are_no_sequence_of_hashables(name, tokens):
    member = FAMILIES[name].make()
    with pytest.raises(TypeError, match=r"^tokens "):
        member(tokens, np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"^tokens "):
        member.outcomes(tokens)


# Members that break the contract: each fails the check that is there for it.
@dataclass(frozen=True)
class ReadsGlobalState(Reversal):
    def __call__(self, tokens, generator):  # noqa: ARG002
        return list(tokens[::-1] if random.random() < self.rate else tokens)  # noqa: S311


@dataclass(frozen=True)
class AdvancesGlobalState(Reversal):
    def __call__(self, tokens, generator):
        torch.rand(1)
        return super().__call__(tokens, generator)


@dataclass(frozen=True)
class WrongLaw(Reversal):
    def outcomes(self, tokens):
        return Reversal(0.29).outcomes(tokens)


@dataclass(frozen=True)
class LawBelowOne(Reversal):
    def outcomes(self, tokens):
        return {outcome: p * (1 - 1e-9) for outcome, p in super().outcomes(tokens).items()}


@dataclass(frozen=True)
class MissedOutcome(Reversal):
    def outcomes(self, tokens):
        return {tuple(tokens): 1.0}


@dataclass(frozen=True)
class ChangesInput(Reversal):
    def __call__(self, tokens, generator):
        tokens[:] = super().__call__(tokens, generator)
        return list(tokens)


@dataclass(frozen=True)
class ReturnsInput(Reversal):
    def __call__(self, tokens, generator):
        return tokens[::-1] if generator.random() < self.rate else tokens


@dataclass(frozen=True)
class HashOrder(Reversal):
    def __call__(self, tokens, generator):
        return [sorted(set(tokens), key=hash)[generator.integers(len(set(tokens)))]]


@pytest.mark.parametrize(
    ("member", "check"),
    [
        (ReadsGlobalState, check_generator),
        (AdvancesGlobalState, check_generator),
        (WrongLaw, check_law),
        (LawBelowOne, check_law),
        (MissedOutcome, check_law),
        (ChangesInput, check_input),
        (ReturnsInput, check_input),
        (Truncation, check_lengths),
    ],
)
def test_planted_violations_fail(member, check):
    check(Row(Reversal, lambda: Reversal(0.0)))
    with pytest.raises(AssertionError):
        check(Row(member, lambda: Reversal(0.0)))


def results():
    """Draws and laws of every row, and of the member that depends on the hash seed, as text."""
    rows = ROWS | {"planted": Row(HashOrder, lambda: Reversal(0.0))}
    return {name: repr((draws(row, 20), row.make().outcomes(row.tokens))) for name, row in rows.items()}


def test_results_do_not_depend_on_the_process():
    code = f"import sys, json; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
    code += "import test_discrete_families as t; print(json.dumps(t.results()))"
    other_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    elsewhere = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": other_seed},
        cwd=Path(discrete.__path__[0]).parents[2],
        stdout=subprocess.PIPE,
        check=True,
    )
    there, here = json.loads(elsewhere.stdout), results()
    assert {name for name in here if there[name] != here[name]} == {"planted"}
