"""Exact laws by enumeration: the tree of choices, its size, and the same choices drawn."""

from collections import Counter
from dataclasses import dataclass
from math import comb, factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeqs.marginal.discrete import BlockShuffle, Choices, RandomDeletion, Rewrite
from eeqs.marginal.discrete.choices import Drawn
from eeqs.marginal.discrete.enumeration import MOST_PATHS, law


@dataclass(frozen=True)
class UntilTails(Rewrite):
    """A tree of unequal branches: repeat the first token until a coin shows tails, at most n times."""

    def rewrite(self, tokens, choices):
        n = 1
        while n < len(tokens) and choices.flip(0.5):
            n += 1
        return tokens[:1] * n


def test_a_tree_of_unequal_branches():
    found = UntilTails().outcomes(["on"] * 5)
    assert {len(outcome): p for outcome, p in found.items()} == {1: 0.5, 2: 0.25, 3: 0.125, 4: 0.0625, 5: 0.0625}


def test_paths_that_meet_add_up():
    binomial = law(lambda choices: [sum(choices.flip(0.3) for _ in range(8))], 1000, "a sum")
    assert binomial == pytest.approx({(k,): comb(8, k) * 0.3**k * 0.7 ** (8 - k) for k in range(9)})


def test_branches_of_probability_zero_are_not_walked():
    def program(choices):
        return [choices.weighted([0.0, 2.0, 0.0, 6.0]), choices.flip(0.0), choices.flip(1.0)]

    assert law(program, 2, "two paths") == {(1, False, True): 0.25, (3, False, True): 0.75}


@given(n=st.integers(0, 6), data=st.data())
def test_samples_are_ordered_and_without_replacement(n, data):
    k = data.draw(st.integers(0, n))
    found = law(lambda choices: choices.sample(range(n), k), MOST_PATHS, "a sample")
    assert len(found) == factorial(n) // factorial(n - k)
    assert all(len(set(outcome)) == k for outcome in found)
    assert list(found.values()) == pytest.approx([1 / len(found)] * len(found))


def test_the_limit_is_exact():
    # 2^5 ways to delete, of which the empty one splits into five: 36 paths to 31 outcomes.
    assert len(RandomDeletion(0.5).outcomes(range(5), limit=36)) == 31
    with pytest.raises(ValueError, match="the limit of 35"):
        RandomDeletion(0.5).outcomes(range(5), limit=35)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomDeletion().outcomes(range(24)), r"RandomDeletion on 24 tokens has about 16,777,2\d\d paths"),
        (lambda: BlockShuffle().outcomes(range(9), limit=5), "BlockShuffle on 9 tokens has about 362,880 paths"),
        # 2000! = 10^5735.5
        (lambda: BlockShuffle().outcomes(range(2000)), r"about 10\^573[56] paths .*, more than the limit of 100,000"),
        (lambda: UntilTails().outcomes(range(60), limit=1), "the limit of 1;"),
    ],
)
def test_too_many_paths_are_refused_with_their_number(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_long_sequence_is_refused_before_it_is_walked():
    calls = Counter()

    @dataclass(frozen=True)
    class Counted(RandomDeletion):
        def rewrite(self, tokens, choices):
            calls["rewrite"] += 1
            return super().rewrite(tokens, choices)

    with pytest.raises(ValueError, match=r"Counted on 200 tokens has about 10\^60 paths"):
        Counted().outcomes(range(200))
    assert calls["rewrite"] < 100


def test_draws_follow_their_weights():
    choices = Drawn(np.random.default_rng(0))
    n, weights = 20_000, [0.0, 3.0, 0.0, 1.0, 6.0, 0.0]
    shares = np.bincount([choices.weighted(weights) for _ in range(n)], minlength=6) / n
    expected = np.array(weights) / 10
    # Five standard errors of a share; false-alarm rate below 1e-5 over three shares, with a fixed seed.
    assert (abs(shares - expected) <= 5 * np.sqrt(expected * (1 - expected) / n)).all()
    assert {choices.uniform(3) for _ in range(100)} == {0, 1, 2}
    assert not any(choices.flip(0) for _ in range(100))
    assert all(choices.flip(1) for _ in range(100))


def test_the_extreme_uniform_draws_pick_weights_that_are_positive():
    class Edge:
        def __init__(self, value):
            self.value = value

        def random(self):
            return self.value

    for weights in ([0.0, 0.1, 0.2, 0.7, 0.0], [0.0, 0.3, 0.0], [0.0, 1e-300, 5e-324, 0.0]):
        for u in (0.0, np.nextafter(1.0, 0.0)):
            assert weights[Drawn(Edge(u)).weighted(weights)] > 0


def test_choices_are_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Choices()
