"""Easy data augmentation (EDA): one of its four operations, drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from eeqs.marginal.discrete.choices import Choices
from eeqs.marginal.discrete.random_deletion import RandomDeletion
from eeqs.marginal.discrete.random_insertion import RandomInsertion
from eeqs.marginal.discrete.random_swap import RandomSwap
from eeqs.marginal.discrete.rewrite import Rewrite
from eeqs.marginal.discrete.settings import check_rate
from eeqs.marginal.discrete.stop_words import STOP_WORDS
from eeqs.marginal.discrete.synonym_replacement import SynonymReplacement

__all__ = ["EDA"]


@dataclass(frozen=True)
class EDA(Rewrite[str]):
    """Synonym replacement, random insertion, random swap or random deletion, with equal probability.

    This is the law of one augmented sentence: the released code makes equally many with each operation and shuffles
    them. An operation with rate zero takes no part; with all four at zero the sentence stays.

    Parameters
    ----------
    synonyms : mapping of str to sequence of str
        `read_synonyms` reads one. A word is looked up as it is: lower-case both first.
    alpha_sr, alpha_ri, alpha_rs : float
        Share of words to replace, insert and swap, in [0, 1].
    p_rd : float
        Probability of deleting a word, in [0, 1].
    stop_words : set of str
        Words never replaced, and whose synonyms are never inserted.

    Raises
    ------
    TypeError, ValueError
        If a setting has another type, or a rate is outside [0, 1].

    References
    ----------
    Wei & Zou (2019) EDA: easy data augmentation techniques for boosting performance on text classification tasks,
    EMNLP-IJCNLP; the rates and their names are those of the code released with it.
    """

    synonyms: Mapping[str, Sequence[str]]
    alpha_sr: float = 0.1
    alpha_ri: float = 0.1
    alpha_rs: float = 0.1
    p_rd: float = 0.1
    stop_words: Set[str] = STOP_WORDS

    def __post_init__(self) -> None:
        for name in ("alpha_sr", "alpha_ri", "alpha_rs", "p_rd"):
            check_rate(name, getattr(self, name))
        self._operations()

    def _operations(self) -> list[Rewrite[str]]:
        rates_and_operations: tuple[tuple[float, Rewrite[str]], ...] = (
            (self.alpha_sr, SynonymReplacement(self.synonyms, self.alpha_sr, self.stop_words)),
            (self.alpha_ri, RandomInsertion(self.synonyms, self.alpha_ri, self.stop_words)),
            (self.alpha_rs, RandomSwap(self.alpha_rs)),
            (self.p_rd, RandomDeletion(self.p_rd)),
        )
        return [operation for rate, operation in rates_and_operations if rate]

    def rewrite(self, tokens: list[str], choices: Choices) -> list[str]:
        """Draw the operation, then apply it."""
        operations = self._operations()
        return operations[choices.uniform(len(operations))].rewrite(tokens, choices) if operations else tokens
