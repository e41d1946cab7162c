"""Where a random procedure gets its choices from: a generator, or an enumeration of all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar, final

import numpy as np

__all__ = ["Choices", "Drawn"]

Item = TypeVar("Item")


class Choices(ABC):
    """A source of independent choices among finitely many alternatives.

    A procedure that takes every random decision from here can be sampled and enumerated by the same code.
    """

    @abstractmethod
    def uniform(self, n: int) -> int:
        """One of 0, ..., n - 1, each with probability 1 / n."""

    @abstractmethod
    def weighted(self, weights: Sequence[float]) -> int:
        """Index i with probability ``weights[i] / sum(weights)``; weights are not negative."""

    @final
    def flip(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.weighted((1 - probability, probability)) == 1

    @final
    def sample(self, items: Sequence[Item], n: int) -> list[Item]:
        """Draw n of the items without replacement, in random order; all of them make a uniform permutation."""
        pool = list(items)
        for i in range(n):
            j = i + self.uniform(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:n]


class Drawn(Choices):
    """Choices drawn from a numpy generator."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def uniform(self, n: int) -> int:
        """One of 0, ..., n - 1, each with probability 1 / n."""
        return int(self._generator.integers(n))

    def weighted(self, weights: Sequence[float]) -> int:
        """Index i with probability ``weights[i] / sum(weights)``, by inversion."""
        cumulative = list(accumulate(weights))
        return bisect_right(cumulative, self._generator.random() * cumulative[-1])
