r"""Typing errors in the letters of words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eeqs.marginal.discrete.choices import Choices
from eeqs.marginal.discrete.keyboard import QWERTY
from eeqs.marginal.discrete.rewrite import Rewrite
from eeqs.marginal.discrete.settings import check_rate

__all__ = ["Typos"]


@dataclass(frozen=True)
class Typos(Rewrite[str]):
    """Mistype every letter with probability ``rate``, from left to right, in one of four ways with equal probability.

    Substitution by a uniformly drawn adjacent key, in the same case; transposition with the next character, which is
    then not mistyped itself (where there is one and it differs); omission (except of the first letter of a word, so
    that no word vanishes); doubling. Characters that are not on the keyboard stay.

    Parameters
    ----------
    rate : float
        Probability of an error at a letter, in [0, 1]; zero is the identity.
    keyboard : mapping of str to str
        Letters in lower case, and those on adjacent keys; `adjacent_keys` makes one from the rows.

    Raises
    ------
    TypeError, ValueError
        If the rate is no number in [0, 1], or a token is no string.

    References
    ----------
    Keyboard errors and transpositions are noises of Belinkov & Bisk (2018) Synthetic and natural noise both break
    neural machine translation, ICLR; Pruthi, Dhingra & Lipton (2019) Combating adversarial misspellings with robust
    word recognition, ACL, add omitted and added characters.
    """

    rate: float
    keyboard: Mapping[str, str] = field(default_factory=lambda: QWERTY)

    def __post_init__(self) -> None:
        check_rate("rate", self.rate)

    def rewrite(self, tokens: list[str], choices: Choices) -> list[str]:
        """Mistype word by word."""
        other = next((token for token in tokens if not isinstance(token, str)), None)
        if other is not None:
            raise TypeError(
                f"Token {other!r} is a {type(other).__name__}; typos need words, so decode token ids first."
            )
        return [self._mistype(word, choices) for word in tokens]

    def _mistype(self, word: str, choices: Choices) -> str:
        typed, i = "", 0
        while i < len(word):
            read, written = 1, word[i]
            if word[i].lower() in self.keyboard and choices.flip(self.rate):
                errors = self._errors(word, i)
                read, versions = errors[choices.uniform(len(errors))]
                written = versions[choices.uniform(len(versions))]
            typed, i = typed + written, i + read
        return typed

    def _errors(self, word: str, i: int) -> list[tuple[int, list[str]]]:
        """Possible errors at position i: characters consumed, and what may be written instead."""
        letter, following = word[i], word[i + 1 : i + 2]
        adjacent = self.keyboard[letter.lower()]
        errors = [(1, [letter * 2])]
        if adjacent:
            errors.append((1, list(adjacent.upper() if letter.isupper() else adjacent)))
        if following and following != letter:
            errors.append((2, [following + letter]))
        if i > 0:
            errors.append((1, [""]))
        return errors
