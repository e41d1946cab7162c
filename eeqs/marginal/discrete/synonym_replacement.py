r"""Synonym replacement, the first operation of EDA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from eeqs.marginal.discrete.choices import Choices
from eeqs.marginal.discrete.rewrite import Rewrite
from eeqs.marginal.discrete.settings import check_rate, n_edits
from eeqs.marginal.discrete.stop_words import STOP_WORDS
from eeqs.marginal.discrete.synonyms import check_tables, substitutes

__all__ = ["SynonymReplacement"]


@dataclass(frozen=True)
class SynonymReplacement(Rewrite[str]):
    r"""Replace :math:`n = \max(1, \lfloor \alpha L \rfloor)` distinct words by a random synonym each.

    The words are drawn without replacement from the distinct words that are no stop words and have a synonym (all of
    them if there are fewer than n). In turn, every occurrence of a drawn word becomes the same synonym, uniform
    over its sorted synonyms; a word that an earlier replacement brought in counts as an occurrence.

    Parameters
    ----------
    synonyms : mapping of str to sequence of str
        `read_synonyms` reads one. A word is looked up as it is: lower-case both first.
    alpha : float
        Share of words to replace, in [0, 1]; zero is the identity.
    stop_words : set of str
        Words never replaced.

    Raises
    ------
    TypeError, ValueError
        If a setting has another type, or alpha is outside [0, 1].

    References
    ----------
    Wei & Zou (2019) EDA: easy data augmentation techniques for boosting performance on text classification tasks,
    EMNLP-IJCNLP, section 2, and the code released with it.
    """

    synonyms: Mapping[str, Sequence[str]]
    alpha: float = 0.1
    stop_words: Set[str] = STOP_WORDS

    def __post_init__(self) -> None:
        check_tables(self.synonyms, self.stop_words)
        check_rate("alpha", self.alpha)

    def rewrite(self, tokens: list[str], choices: Choices) -> list[str]:
        """Replace the drawn words one after the other."""
        # dict.fromkeys and not set: the order of first appearance is the same in every process.
        found = {word: substitutes(word, self.synonyms, self.stop_words) for word in dict.fromkeys(tokens)}
        able = [word for word, others in found.items() if others]
        for word in choices.sample(able, min(n_edits(self.alpha, len(tokens)), len(able))):
            synonym = found[word][choices.uniform(len(found[word]))]
            tokens = [synonym if token == word else token for token in tokens]
        return tokens
