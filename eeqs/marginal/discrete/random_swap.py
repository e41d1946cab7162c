r"""Random swap, the third operation of EDA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eeqs.marginal.discrete.choices import Choices
from eeqs.marginal.discrete.rewrite import Rewrite
from eeqs.marginal.discrete.settings import check_rate, n_edits

__all__ = ["ATTEMPTS", "RandomSwap"]

ATTEMPTS = 3


@dataclass(frozen=True)
class RandomSwap(Rewrite[Any]):
    r"""Swap the tokens at two random positions, :math:`n = \max(1, \lfloor \alpha L \rfloor)` times.

    A swap draws one position, then a second one, again while it equals the first, up to three times, and leaves the
    tokens when it never differs. So it succeeds with probability :math:`1 - L^{-3}`, and the pair is then uniform.

    Parameters
    ----------
    alpha : float
        Swaps as a share of the tokens, in [0, 1]; zero is the identity.

    Raises
    ------
    TypeError, ValueError
        If alpha is no number in [0, 1].

    References
    ----------
    Wei & Zou (2019) EMNLP-IJCNLP, section 2, and the code released with it.
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        check_rate("alpha", self.alpha)

    def rewrite(self, tokens: list[Any], choices: Choices) -> list[Any]:
        """Swap one pair after the other."""
        length = len(tokens)
        for _ in range(n_edits(self.alpha, length)):
            if choices.flip(1 - length**-ATTEMPTS):
                first = choices.uniform(length)
                second = (first + 1 + choices.uniform(length - 1)) % length
                tokens[first], tokens[second] = tokens[second], tokens[first]
        return tokens
