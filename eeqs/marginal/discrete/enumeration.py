"""The exact law of a random procedure, by walking every path of its choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

from eeqs.marginal.discrete.choices import Choices
from eeqs.marginal.discrete.settings import check_count

__all__ = ["MOST_PATHS", "law"]

T = TypeVar("T", bound=Hashable)

# About a second of work for a dozen tokens.
MOST_PATHS = 100_000
_PROBES = 32


class _Walk(Choices):
    """One path through the tree of choices: ``pick(depth, branches)`` says which branch, the walk its probability."""

    def __init__(self, pick: Callable[[int, int], int]) -> None:
        self._pick = pick
        self.probability = 1.0
        self.taken: list[int] = []
        self.branches: list[int] = []

    def uniform(self, n: int) -> int:
        self.probability /= n
        return self._step(n)

    def weighted(self, weights: Sequence[float]) -> int:
        possible = [i for i, weight in enumerate(weights) if weight > 0]
        chosen = possible[self._step(len(possible))]
        self.probability *= weights[chosen] / math.fsum(weights)
        return chosen

    def _step(self, branches: int) -> int:
        branch = self._pick(len(self.taken), branches)
        self.taken.append(branch)
        self.branches.append(branches)
        return branch


def law(program: Callable[[Choices], Sequence[T]], limit: int, name: str) -> dict[tuple[T, ...], float]:
    """Enumerate the outcomes of a random procedure.

    Parameters
    ----------
    program : callable
        ``program(choices) -> outcome``; it takes its random decisions from ``choices`` only.
    limit : int
        Most paths to walk.
    name : str
        What is enumerated, for the error message.

    Returns
    -------
    dict of tuple to float
        Probability of every outcome; they sum to one up to rounding.

    Raises
    ------
    ValueError
        If there are more paths than ``limit``, with their number as estimated from a few random paths. More than
        ten times the limit is refused before any is walked.
    """
    check_count("limit", limit, 1)
    size = _log10_paths(program)
    found: dict[tuple[T, ...], float] = {}
    script: list[int] = []
    # Tenfold, because the estimate is exact for a tree of equal branches and rough for others.
    hopeless = size > math.log10(limit) + 1
    for _ in range(0 if hopeless else limit):
        walk = _Walk(_follow(script))
        outcome = tuple(program(walk))
        found[outcome] = found.get(outcome, 0.0) + walk.probability
        script = _next(walk)
        if not script:
            return found
    about = f"{10**size:,.0f}" if size < 12 else f"10^{size:.0f}"
    count = f"about {about} paths of choices, more than" if size > math.log10(limit) else "more paths of choices than"
    raise ValueError(
        f"The law of {name} has {count} the limit of {limit:,}; "
        "enumerate a shorter sequence or fewer edits, raise limit, or draw from the law instead."
    )


def _follow(script: list[int]) -> Callable[[int, int], int]:
    return lambda depth, _: script[depth] if depth < len(script) else 0


def _next(walk: _Walk) -> list[int]:
    """Choices that lead to the path after this one in depth-first order; none after the last."""
    taken = walk.taken
    while taken and taken[-1] == walk.branches[len(taken) - 1] - 1:
        taken.pop()
    return [*taken[:-1], taken[-1] + 1] if taken else []


def _log10_paths(program: Callable[[Choices], Sequence[T]]) -> float:
    """Knuth's (1975, Mathematics of Computation 29) unbiased estimate of the number of leaves of a tree of choices."""
    probe = np.random.default_rng(0)
    sizes = []
    for _ in range(_PROBES):
        walk = _Walk(lambda _, branches: int(probe.integers(branches)))
        program(walk)
        sizes.append(math.fsum(map(math.log10, walk.branches)))
    largest = max(sizes)
    return largest + math.log10(math.fsum(10 ** (size - largest) for size in sizes) / _PROBES)
