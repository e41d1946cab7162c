"""A discrete perturbation from one procedure: the same code draws and enumerates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, final

import numpy as np

from eeqs.marginal.discrete.choices import Choices, Drawn
from eeqs.marginal.discrete.enumeration import MOST_PATHS, law

__all__ = ["Rewrite"]

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Rewrite(ABC, Generic[T]):
    """Base of the members: a subclass is a frozen dataclass of settings and writes `rewrite`.

    An empty sequence stays empty under every member.
    """

    @abstractmethod
    def rewrite(self, tokens: list[T], choices: Choices) -> list[T]:
        """Perturb ``tokens``, a non-empty list of its own, taking every random decision from ``choices``."""

    @final
    def __call__(self, tokens: Sequence[T], generator: np.random.Generator) -> list[T]:
        """Draw one perturbed copy of ``tokens``.

        Parameters
        ----------
        tokens : sequence of hashables
            Words or token ids; left as it is.
        generator : numpy.random.Generator
            The only source of randomness.

        Returns
        -------
        list

        Raises
        ------
        TypeError
            If ``tokens`` is one string or no sequence of hashables, or ``generator`` is no numpy generator.
        """
        if not isinstance(generator, np.random.Generator):
            raise TypeError(f"generator is a {type(generator).__name__}; pass numpy.random.default_rng(seed).")
        return self._apply(_checked(tokens), Drawn(generator))

    @final
    def outcomes(self, tokens: Sequence[T], limit: int = MOST_PATHS) -> dict[tuple[T, ...], float]:
        """Give the exact law of the perturbed copy, by enumeration.

        Parameters
        ----------
        tokens : sequence of hashables
            Words or token ids.
        limit : int
            Most paths of random choices to walk; several paths may lead to one outcome.

        Returns
        -------
        dict of tuple to float
            Every sequence that can result, with its probability; they sum to one up to rounding.

        Raises
        ------
        TypeError
            If ``tokens`` is one string or no sequence of hashables.
        ValueError
            If there are more paths than ``limit``, with their number.
        """
        given = _checked(tokens)
        name = f"{type(self).__name__} on {len(given)} token{'s' * (len(given) != 1)}"
        return law(lambda choices: self._apply(given, choices), limit, name)

    def _apply(self, tokens: tuple[T, ...], choices: Choices) -> list[T]:
        return self.rewrite(list(tokens), choices) if tokens else []


def _checked(tokens: Sequence[T]) -> tuple[T, ...]:
    if isinstance(tokens, str | bytes) or not isinstance(tokens, Sequence):
        raise TypeError(
            f"tokens is a {type(tokens).__name__}; pass a list or tuple of words or token ids, "
            "such as text.split() or ids.tolist()."
        )
    given = tuple(tokens)
    try:
        hash(given)
    except TypeError as error:
        raise TypeError(f"tokens must be hashable ({error}); pass one sequence of words or token ids.") from error
    return given
