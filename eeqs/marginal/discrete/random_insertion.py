r"""Random insertion of synonyms, the second operation of EDA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from eeqs.marginal.discrete.choices import Choices
from eeqs.marginal.discrete.rewrite import Rewrite
from eeqs.marginal.discrete.settings import check_rate, n_edits
from eeqs.marginal.discrete.stop_words import STOP_WORDS
from eeqs.marginal.discrete.synonyms import check_tables, substitutes

__all__ = ["ATTEMPTS", "RandomInsertion"]

# The released code gives up at its tenth draw of a word, before looking at what it drew.
ATTEMPTS = 9


@dataclass(frozen=True)
class RandomInsertion(Rewrite[str]):
    r"""Insert :math:`n = \max(1, \lfloor \alpha L \rfloor)` times a random synonym of a random word.

    An insertion draws words of the sentence as it then stands, with replacement, until one is no stop word and has
    a synonym, up to nine times, and leaves the sentence as it is when none has. If a share f of the words would do,
    it succeeds with probability :math:`1 - (1 - f)^9`, and the word is then uniform among those that do. The synonym is
    uniform over the sorted synonyms, and goes before a word drawn uniformly, hence never to the end.

    Parameters
    ----------
    synonyms : mapping of str to sequence of str
        `read_synonyms` reads one. A word is looked up as it is: lower-case both first.
    alpha : float
        Insertions as a share of the words, in [0, 1]; zero is the identity.
    stop_words : set of str
        Words whose synonyms are never inserted.

    Raises
    ------
    TypeError, ValueError
        If a setting has another type, or alpha is outside [0, 1].

    References
    ----------
    Wei & Zou (2019) EMNLP-IJCNLP, section 2, and the code released with it. The code takes the first of an unordered
    set of synonyms and does not look at stop words; here it is as in the paper.
    """

    synonyms: Mapping[str, Sequence[str]]
    alpha: float = 0.1
    stop_words: Set[str] = STOP_WORDS

    def __post_init__(self) -> None:
        check_tables(self.synonyms, self.stop_words)
        check_rate("alpha", self.alpha)

    def rewrite(self, tokens: list[str], choices: Choices) -> list[str]:
        """Insert one synonym after the other."""
        found = [substitutes(word, self.synonyms, self.stop_words) for word in tokens]
        for _ in range(n_edits(self.alpha, len(tokens))):
            able = [others for others in found if others]
            if choices.flip(1 - (1 - len(able) / len(tokens)) ** ATTEMPTS):
                others = able[choices.uniform(len(able))]
                synonym = others[choices.uniform(len(others))]
                place = choices.uniform(len(tokens))
                tokens.insert(place, synonym)
                found.insert(place, substitutes(synonym, self.synonyms, self.stop_words))
        return tokens
