r"""Word-order noise that moves no word far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eeqs.marginal.discrete.choices import Choices
from eeqs.marginal.discrete.rewrite import Rewrite
from eeqs.marginal.discrete.settings import check_count

__all__ = ["LocalShuffle"]


@dataclass(frozen=True)
class LocalShuffle(Rewrite[Any]):
    r"""Sort the tokens by :math:`i + U_i`, U_i independent and uniform on [0, k + 1): none moves more than k places.

    The integer part of a key :math:`i + U_i` is i plus a uniform one of 0, ..., k, and given the integer parts the
    keys that share one are in uniformly random order. So the law is discrete: draw the integer parts, and shuffle
    the tokens that share one.

    Parameters
    ----------
    reach : int
        k >= 0; zero is the identity. The paper uses 3.

    Raises
    ------
    TypeError, ValueError
        If ``reach`` is no integer of at least zero.

    References
    ----------
    Lample, Conneau, Denoyer & Ranzato (2018) Unsupervised machine translation using monolingual corpora only, ICLR,
    section 2.3.
    """

    reach: int = 3

    def __post_init__(self) -> None:
        check_count("reach", self.reach, 0)

    def rewrite(self, tokens: list[Any], choices: Choices) -> list[Any]:
        """Draw the integer parts, then the order inside each."""
        cells: list[list[Any]] = [[] for _ in range(len(tokens) + self.reach)]
        for i, token in enumerate(tokens):
            cells[i + choices.uniform(self.reach + 1)].append(token)
        return [token for cell in cells for token in choices.sample(cell, len(cell))]
