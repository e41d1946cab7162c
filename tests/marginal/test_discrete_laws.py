"""The law of every discrete perturbation, once more by other means: the published procedure with each redraw spelled
out, or an integral of the continuous procedure."""

from collections import Counter, defaultdict
from itertools import chain, permutations, product
from math import prod

import numpy as np
import pytest
import torch
from numpy.polynomial import Polynomial
from scipy.spatial.distance import cdist
from scipy.special import softmax

from eeqs.marginal.discrete import (
    EDA,
    BlockShuffle,
    LocalShuffle,
    RandomDeletion,
    RandomInsertion,
    RandomSwap,
    SemanticNeighbour,
    SynonymReplacement,
    Typos,
    cosine_distance,
    nearest,
    squared_distance,
)

SYNONYMS = {"big": ["large", "huge"], "dog": ["hound"], "large": ["big"], "the": ["ye"], "saw": ["saw"]}
STOP = frozenset({"the", "a"})
SENTENCE = ["the", "big", "dog", "saw", "a", "large", "big", "cat"]


def after(law, step):
    """Law of the outcome of ``step(x)`` when x has the given law."""
    result = defaultdict(float)
    for x, p in law.items():
        for y, q in step(x).items():
            result[y] += p * q
    return dict(result)


def repeated(tokens, n, step):
    law = {tuple(tokens): 1.0}
    for _ in range(n):
        law = after(law, step)
    return law


def uniform(items):
    return {item: count / len(items) for item, count in Counter(items).items()}


def synonyms_of(word):
    return [other for other in SYNONYMS.get(word, []) if other != word and word not in STOP]


def replacement_law(tokens, n):
    """Go through the distinct words that are not stop words in random order until n have been replaced."""

    def replace(words, word):
        return uniform([tuple(other if w == word else w for w in words) for other in synonyms_of(word)])

    def replaced(order):
        law = {tuple(tokens): 1.0}
        for word in [word for word in order if synonyms_of(word)][:n]:
            law = after(law, lambda words, word=word: replace(words, word))
        return law

    return after(uniform(list(permutations(sorted(set(tokens) - STOP)))), replaced)


def insertion_law(tokens, n):
    """Draw words until one has a synonym; the tenth draw gives up, whatever it is."""

    def found(words, draw):
        if draw == 10:
            return {None: 1.0}
        return after(uniform(words), lambda word: uniform(synonyms_of(word)) or found(words, draw + 1))

    def insert(words):
        places = range(len(words))
        return after(
            found(words, 1),
            lambda new: uniform([words if new is None else (*words[:i], new, *words[i:]) for i in places]),
        )

    return repeated(tokens, n, insert)


def swap_law(tokens, n):
    """Draw a second index until it differs; the fourth draw gives up, whatever it is."""
    places = range(len(tokens))

    def second(first, draw):
        if draw == 4:
            return {first: 1.0}
        return after(uniform(places), lambda j: {j: 1.0} if j != first else second(first, draw + 1))

    def swapped(words, i, j):
        return tuple(words[j if m == i else i if m == j else m] for m in places)

    def swap(words):
        return after(uniform(places), lambda i: after(second(i, 1), lambda j: {swapped(words, i, j): 1.0}))

    return repeated(tokens, n, swap)


def deletion_law(tokens, rate):
    masks = product([True, False], repeat=len(tokens))
    return after(
        {mask: prod(1 - rate if keep else rate for keep in mask) for mask in masks},
        lambda mask: (
            {tuple(w for w, keep in zip(tokens, mask, strict=True) if keep): 1.0}
            if any(mask)
            else uniform([(w,) for w in tokens])
        ),
    )


def eda_law(tokens):
    laws = [replacement_law(tokens, 1), insertion_law(tokens, 1), swap_law(tokens, 1), deletion_law(tokens, 0.1)]
    return after(uniform(range(4)), lambda which: laws[which])


def neighbour_law(tokens, distance, k, temperature, rate):
    def one(i):
        near = [int(j) for j in np.argsort(distance[i]) if j != i][:k]
        return {i: 1 - rate, **dict(zip(near, rate * softmax(-distance[i][near] / temperature), strict=True))}

    law = {(): 1.0}
    for i in tokens:
        law = after(law, lambda head, i=i: {(*head, j): p for j, p in one(i).items()})
    return law


def typo_law(tokens, rate):
    """Four kinds of error at a letter, with the adjacent keys typed by hand."""
    keys = {"o": "ipkl", "T": "RYFG"}

    def ways(word, first):
        """Probability, what is written, and what is left to type."""
        head, tail = word[0], word[1:]
        if head not in keys:
            return [(1.0, head, tail)]
        kinds = [[(key, tail) for key in keys[head]], [(head + head, tail)]]
        kinds += [[(tail[0] + head, tail[1:])]] if tail and tail[0] != head else []
        kinds += [] if first else [[("", tail)]]
        errors = [(rate / len(kinds) / len(kind), *error) for kind in kinds for error in kind]
        return [(1 - rate, head, tail), *errors]

    def typed(word, first=True):
        law = defaultdict(float)
        for p, text, left in ways(word, first) if word else ():
            for end, q in typed(left, first=False).items():
                law[text + end] += p * q
        return law if word else {"": 1.0}

    words = [typed(word) for word in tokens]
    return {outcome: prod(w[o] for w, o in zip(words, outcome, strict=True)) for outcome in product(*words)}


def order_probability(order, width):
    """P(keys i + U(0, width) increase along ``order``): integrals of polynomials between integers."""
    below = [Polynomial([1.0])] * (len(order) + width - 1)
    for i in order:
        total, up_to = 0.0, []
        for m, polynomial in enumerate(below):
            integral = (polynomial * ((i <= m < i + width) / width)).integ(lbnd=m)
            up_to.append(integral + total)
            total += integral(m + 1)
        below = up_to
    return total


def local_law(tokens, reach):
    orders = permutations(range(len(tokens)))
    law = {order: order_probability(order, reach + 1) for order in orders}
    return after({order: p for order, p in law.items() if p > 0}, lambda order: {tuple(tokens[i] for i in order): 1.0})


def block_law(tokens, size):
    blocks = [tokens[i : i + size] for i in range(0, len(tokens), size)]
    return uniform([tuple(chain(*order)) for order in permutations(blocks)])


TABLE = np.random.default_rng(5).normal(size=(6, 3))


def neighbour(k, temperature, rate, distance=squared_distance):
    return SemanticNeighbour(nearest(torch.as_tensor(TABLE), k, distance), temperature, rate)


LAWS = {
    "synonym_replacement": (SynonymReplacement(SYNONYMS, 0.1, STOP), SENTENCE, replacement_law(SENTENCE, 1)),
    # "big" may become "large" and then, as an occurrence of "large", "big" again.
    "synonym_replacement, 2": (SynonymReplacement(SYNONYMS, 0.3, STOP), SENTENCE, replacement_law(SENTENCE, 2)),
    "random_insertion": (RandomInsertion(SYNONYMS, 0.1, STOP), SENTENCE, insertion_law(SENTENCE, 1)),
    "random_insertion, 2": (RandomInsertion(SYNONYMS, 0.5, STOP), SENTENCE[:4], insertion_law(SENTENCE[:4], 2)),
    "random_swap": (RandomSwap(0.1), SENTENCE, swap_law(SENTENCE, 1)),
    "random_swap, 3": (RandomSwap(0.8), [7, 7, 1, 2], swap_law([7, 7, 1, 2], 3)),
    "random_deletion": (RandomDeletion(0.3), SENTENCE, deletion_law(SENTENCE, 0.3)),
    "eda": (EDA(SYNONYMS, stop_words=STOP), SENTENCE, eda_law(SENTENCE)),
    "semantic_neighbour": (
        neighbour(3, 0.7, 0.4),
        [0, 4, 0, 5],
        neighbour_law([0, 4, 0, 5], cdist(TABLE, TABLE, "sqeuclidean"), 3, 0.7, 0.4),
    ),
    "semantic_neighbour, cosine": (
        neighbour(2, 0.1, 0.9, cosine_distance),
        [3, 1],
        neighbour_law([3, 1], cdist(TABLE, TABLE, "cosine"), 2, 0.1, 0.9),
    ),
    "typos": (Typos(0.2), ["oo-", "To"], typo_law(["oo-", "To"], 0.2)),
    "local_shuffle": (LocalShuffle(2), ["a", "b", "c", "d", "e"], local_law(["a", "b", "c", "d", "e"], 2)),
    "local_shuffle, 1": (LocalShuffle(1), ["a", "b", "a", "d"], local_law(["a", "b", "a", "d"], 1)),
    "block_shuffle": (BlockShuffle(2), [1, 2, 3, 4, 5, 6, 7], block_law([1, 2, 3, 4, 5, 6, 7], 2)),
    "block_shuffle, full": (BlockShuffle(), [1, 1, 2, 3], block_law([1, 1, 2, 3], 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAWS)
def test_the_law_is_that_of_the_published_procedure(name):
    member, tokens, expected = LAWS[name]
    law = member.outcomes(tokens)
    assert len(law) >= 4
    assert set(law) == set(expected)
    # Probabilities are products of at most 20 factors and sums of at most 10^4 terms: 1e-12 is generous rounding.
    np.testing.assert_allclose([law[key] for key in expected], list(expected.values()), rtol=1e-12)


def test_closed_forms():
    sentence = ["so", "it", "goes", "on"]
    # Two neighbours change places when U_0 > 1 + U_1 on [0, k + 1)^2, a triangle: k^2 / (2 (k + 1)^2).
    for reach in (1, 2, 3):
        assert LocalShuffle(reach).outcomes(["a", "b"])["b", "a"] == pytest.approx(reach**2 / (2 * (reach + 1) ** 2))
    assert RandomSwap(0.1).outcomes(sentence)[tuple(sentence)] == pytest.approx(4**-3)
    assert RandomDeletion(0.1).outcomes(sentence)[tuple(sentence)] == pytest.approx(0.9**4)
    one_in_four = RandomInsertion({"goes": ["walks"]}, stop_words=frozenset())
    assert one_in_four.outcomes(sentence)[tuple(sentence)] == pytest.approx(0.75**9)


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_local_shuffle_moves_no_token_further_than_its_reach(reach):
    law = LocalShuffle(reach).outcomes(range(5))
    furthest = [max(abs(place - token) for place, token in enumerate(order)) for order in law]
    assert max(furthest) == reach


def test_a_wrong_detail_of_the_procedure_is_seen():
    # Ten useful attempts in place of nine, and two redraws in place of three, differ by more than rounding.
    law = RandomInsertion(SYNONYMS, 0.1, STOP).outcomes(SENTENCE)
    share = 1 - law[tuple(SENTENCE)]
    assert share == pytest.approx(1 - 0.5**9, rel=1e-12)
    assert share != pytest.approx(1 - 0.5**10, rel=1e-12)
    law = RandomSwap(0.1).outcomes(range(4))
    assert law[0, 1, 2, 3] != pytest.approx(4**-2, rel=1e-12)
