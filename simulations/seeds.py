"""Random streams that depend on (study seed, stream, replicate) only: never on workers, order or resumption."""

import hashlib
import json

import numpy as np
import torch
from numpy.random import SeedSequence

WORDS = slice(3, 3 + 624)
"""Place of the Mersenne Twister's words in the state of a CPU `torch.Generator`, in units of 8 bytes."""


def replicate_seed(seed: int, stream: str, replicate: int) -> SeedSequence:
    """Return the stream of one replicate.

    The entropy is six 32-bit words: the seed, the first 128 bits of the SHA-256 of `stream`, the replicate.
    Their fixed width keeps different triples from running together into the same words.

    Parameters
    ----------
    seed, replicate : int
        In [0, 2**32).
    stream : str
        `Cell.stream`.

    Raises
    ------
    ValueError
        `seed` or `replicate` out of range.
    """
    for name, value in (("seed", seed), ("replicate", replicate)):
        if not 0 <= value < 2**32:
            raise ValueError(f"{name} is {value}: use an integer in [0, 2**32)")
    words = np.frombuffer(hashlib.sha256(stream.encode()).digest()[:16], dtype="<u4").tolist()
    return SeedSequence([int(seed), *words, int(replicate)])


def to_text(sequence: SeedSequence) -> str:
    """Write the entropy of a replicate's stream as JSON."""
    return json.dumps(sequence.entropy)


def from_text(text: str) -> SeedSequence:
    """Recover a replicate's stream from the ``seed`` column of a table."""
    return SeedSequence(json.loads(text))


def torch_generator(sequence: SeedSequence) -> torch.Generator:
    """Return a CPU generator whose whole state comes from `sequence`.

    ``torch.Generator.manual_seed`` keeps only the low 32 bits of its argument (the Mersenne Twister's
    ``init_genrand``; Matsumoto & Nishimura 1998), so among 65,000 replicates two share a stream with
    probability 0.4. Filling the 624 words of the state avoids that, as numpy's ``MT19937(SeedSequence)`` does.
    """
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    words = sequence.generate_state(624)
    words[0] |= 0x80000000  # the one bit of the first word in use: the state is never all zero
    state.numpy().view(np.uint64)[WORDS] = words
    generator.set_state(state)
    return generator
