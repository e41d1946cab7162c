"""Random streams: reproducible, order-independent, distinct, and faithful to the generators they feed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simulations.seeds import from_text, replicate_seed, to_text, torch_generator

WORD = st.integers(0, 2**32 - 1)
# The first 16 bytes of `printf 'n=10' | sha256sum`, as little-endian words.
GOLDEN = np.frombuffer(bytes.fromhex("3f2502489c10dd7ddf386643f5b37ce6"), dtype="<u4").tolist()


def _normal(seed: int, stream: str, replicate: int) -> float:
    return float(
        torch.randn(1, generator=torch_generator(replicate_seed(seed, stream, replicate)), dtype=torch.float64)
    )


def test_stream_is_fixed_for_all_time() -> None:
    """A golden value: stored tables name their seeds, so the map must never change."""
    assert replicate_seed(7, "n=10", 3).entropy == [7, *GOLDEN, 3]


def test_order_does_not_matter() -> None:
    forward = [_normal(0, "a", i) for i in range(20)]
    backward = [_normal(0, "a", i) for i in reversed(range(20))]
    assert forward == backward[::-1]


@given(WORD, st.text(max_size=8), WORD, WORD, st.text(max_size=8), WORD)
def test_different_triples_give_different_streams(s: int, a: str, i: int, t: int, b: str, j: int) -> None:
    one, other = replicate_seed(s, a, i), replicate_seed(t, b, j)
    assert ((s, a, i) == (t, b, j)) == (one.generate_state(4).tolist() == other.generate_state(4).tolist())


@given(WORD, st.text(max_size=8), WORD)
def test_text_recovers_the_stream(seed: int, stream: str, replicate: int) -> None:
    sequence = replicate_seed(seed, stream, replicate)
    text = to_text(sequence)
    sequence.spawn(2)
    assert to_text(sequence) == text
    assert (from_text(text).generate_state(8) == sequence.generate_state(8)).all()


@pytest.mark.parametrize(("seed", "replicate"), [(-1, 0), (2**32, 0), (0, -1), (0, 2**32)])
def test_out_of_range_is_refused(seed: int, replicate: int) -> None:
    with pytest.raises(ValueError, match=r"use an integer in \[0, 2\*\*32\)"):
        replicate_seed(seed, "a", replicate)


def test_torch_generator_is_numpys_twister_on_the_same_words() -> None:
    sequence = replicate_seed(1, "n=10", 2)
    reference = np.random.MT19937()
    state = reference.state
    words = sequence.generate_state(624)
    words[0] |= 0x80000000
    state["state"] = {"key": words, "pos": 624}
    reference.state = state
    # torch fills a random 63-bit integer from two outputs of the twister, high word first.
    high, low = reference.random_raw(2000).reshape(1000, 2).T
    drawn = torch.empty(1000, dtype=torch.int64).random_(generator=torch_generator(sequence)).numpy().astype("u8")
    assert (drawn == ((high << 32 | low) & np.uint64(2**63 - 1))).all()


def test_whole_state_comes_from_the_sequence() -> None:
    """``manual_seed`` alone keeps 32 bits: seeds that differ above them share a stream, which this must not."""
    low, high = (torch.Generator().manual_seed(seed) for seed in (5, 5 + 2**32))
    assert torch.equal(torch.rand(4, generator=low), torch.rand(4, generator=high))
    states = [torch_generator(replicate_seed(0, "a", i)).get_state()[24 : 24 + 8 * 624] for i in range(2)]
    assert (states[0].view(torch.int64) == states[1].view(torch.int64)).sum() < 5


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Standardised correlation: standard normal for independent pairs."""
    return float(np.corrcoef(x, y)[0, 1] * len(x) ** 0.5)


def test_neighbouring_streams_are_independent() -> None:
    draws = np.array([_normal(0, "a", i) for i in range(2001)])
    other = np.array([_normal(0, "b", i) for i in range(2001)])
    shifted = np.array([_normal(1, "a", i) for i in range(2001)])
    assert abs(draws.mean()) < 4 / 2001**0.5
    assert abs(draws.var() - 1) < 4 * (2 / 2001) ** 0.5
    for x, y in ((draws[1:], draws[:-1]), (draws, other), (draws, shifted)):
        assert abs(_correlation(x, y)) < 4
    # Planted: a stream shared by both cells for one replicate in eight.
    shared = np.where(np.arange(2001) % 8 == 0, draws, other)
    assert abs(_correlation(draws, shared)) > 4
