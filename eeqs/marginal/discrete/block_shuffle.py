r"""Word-order noise that keeps short phrases together, and the full shuffle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eeqs.marginal.discrete.choices import Choices
from eeqs.marginal.discrete.rewrite import Rewrite
from eeqs.marginal.discrete.settings import check_count

__all__ = ["BlockShuffle"]


@dataclass(frozen=True)
class BlockShuffle(Rewrite[Any]):
    r"""Cut the tokens into blocks of n, the last one possibly shorter, and permute the blocks uniformly.

    Every order of the :math:`\lceil L / n \rceil` blocks is equally likely. n = 1 shuffles all tokens; n of at least
    the length is the identity.

    Parameters
    ----------
    size : int
        n >= 1, tokens a block.

    Raises
    ------
    TypeError, ValueError
        If ``size`` is no integer of at least one.

    References
    ----------
    Sinha, Jia, Hupkes, Pineau, Williams & Kiela (2021) Masked language modeling and the distributional hypothesis:
    order word matters pre-training for little, EMNLP, train on text whose n-grams are permuted, n = 1 to 4.
    """

    size: int = 1

    def __post_init__(self) -> None:
        check_count("size", self.size, 1)

    def rewrite(self, tokens: list[Any], choices: Choices) -> list[Any]:
        """Permute the blocks."""
        blocks = [tokens[start : start + self.size] for start in range(0, len(tokens), self.size)]
        return [token for block in choices.sample(blocks, len(blocks)) for token in block]
