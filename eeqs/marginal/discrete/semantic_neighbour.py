r"""Replacement of tokens by near ones in an embedding space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

from eeqs.marginal.discrete.choices import Choices
from eeqs.marginal.discrete.neighbours import Neighbours
from eeqs.marginal.discrete.rewrite import Rewrite
from eeqs.marginal.discrete.settings import check_rate

__all__ = ["SemanticNeighbour"]


@dataclass(frozen=True, eq=False)
class SemanticNeighbour(Rewrite[int]):
    r"""Replace every token with probability ``rate``, independently, by one of its k nearest neighbours.

    Token i becomes j with probability

    .. math:: \pi(j \mid i) = e^{-D_{ij} / \tau} \Big/ \sum_{l \in N_k(i)} e^{-D_{il} / \tau}, \qquad j \in N_k(i),

    when it is replaced, where N_k(i) are the k nearest other tokens and D is the distance they were found by. The
    temperature tau is in the units of D; as it falls the nearest takes all, as it grows all k become equally likely.

    Parameters
    ----------
    neighbours : Neighbours
        From `nearest`, computed once for a table; tokens are its row numbers.
    temperature : float
        tau > 0.
    rate : float
        Probability of replacing a token, in [0, 1]; zero is the identity.

    Raises
    ------
    TypeError, ValueError
        If a setting is out of range, or a token is no row of the table.

    References
    ----------
    Cen, Zhu, Shen & Shi (2026) Perturbation is all you need for extrapolating language models, arXiv 2605.04344,
    condition on a semantic neighbour of the prefix.
    """

    neighbours: Neighbours
    temperature: float
    rate: float

    def __post_init__(self) -> None:
        if not isinstance(self.neighbours, Neighbours):
            raise TypeError(f"neighbours is a {type(self.neighbours).__name__}; pass nearest(table, k).")
        if not isinstance(self.temperature, Real) or not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}; pass a positive finite number.")
        check_rate("rate", self.rate)

    def rewrite(self, tokens: list[int], choices: Choices) -> list[int]:
        """Replace position by position."""
        size = len(self.neighbours.ids)
        for token in tokens:
            if not isinstance(token, Integral):
                raise TypeError(f"Token {token!r} is a {type(token).__name__}; pass token ids, so encode words first.")
            if not 0 <= token < size:
                raise ValueError(f"Token {token} is outside the embedding table; its ids are 0 to {size - 1}.")
        return [self._neighbour(token, choices) if choices.flip(self.rate) else token for token in tokens]

    def _neighbour(self, token: int, choices: Choices) -> int:
        distances = self.neighbours.distances[token].tolist()
        # Relative to the nearest: the largest weight is one, however small the temperature.
        weights = [math.exp((min(distances) - distance) / self.temperature) for distance in distances]
        return int(self.neighbours.ids[token, choices.weighted(weights)])
