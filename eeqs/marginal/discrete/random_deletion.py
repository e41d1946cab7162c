r"""Random deletion, the fourth operation of EDA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eeqs.marginal.discrete.choices import Choices
from eeqs.marginal.discrete.rewrite import Rewrite
from eeqs.marginal.discrete.settings import check_rate

__all__ = ["RandomDeletion"]


@dataclass(frozen=True)
class RandomDeletion(Rewrite[Any]):
    r"""Delete every token with probability p, independently.

    When all would go, with probability :math:`p^L`, one of them stays, drawn uniformly; so a single token is never
    deleted.

    Parameters
    ----------
    rate : float
        p in [0, 1]; zero is the identity. The paper sets p to its alpha of the other operations.

    Raises
    ------
    TypeError, ValueError
        If the rate is no number in [0, 1].

    References
    ----------
    Wei & Zou (2019) EMNLP-IJCNLP, section 2, and the code released with it.

    Examples
    --------
    >>> RandomDeletion(0.5).outcomes(["so", "long"])
    {('so', 'long'): 0.25, ('so',): 0.375, ('long',): 0.375}
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        check_rate("rate", self.rate)

    def rewrite(self, tokens: list[Any], choices: Choices) -> list[Any]:
        """Keep what is not deleted."""
        kept = [token for token in tokens if not choices.flip(self.rate)]
        return kept or [tokens[choices.uniform(len(tokens))]]
