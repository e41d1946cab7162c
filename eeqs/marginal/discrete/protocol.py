"""What a discrete perturbation must provide."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

__all__ = ["DiscretePerturbation"]

T = TypeVar("T", bound=Hashable)


@runtime_checkable
class DiscretePerturbation(Protocol[T]):
    """A random map from a sequence of tokens to a sequence of tokens, with nothing to learn.

    A token is a word, a token id or any other hashable; nothing here splits or joins strings.
    """

    def __call__(self, tokens: Sequence[T], generator: np.random.Generator) -> list[T]:
        """Draw one perturbed copy of ``tokens``; the generator alone decides which."""
        ...

    def outcomes(self, tokens: Sequence[T]) -> dict[tuple[T, ...], float]:
        """Give the law of the perturbed copy: every sequence that can result, with its probability."""
        ...
