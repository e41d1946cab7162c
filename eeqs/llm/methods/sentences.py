"""Text as sentences, words and what is between them, so that words can be edited and all else stays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from eeqs.marginal.discrete.protocol import DiscretePerturbation

__all__ = ["rewritten", "sentences"]

_END = re.compile(r"[.!?]+[\"'\u201d\u2019)\]]*\s+|\n\s*")
# A placeholder such as <unk> is one word.
_WORD = re.compile(r"<\w+>|\w+(?:['\u2019-]\w+)*")


class _Word(str):
    """A word in lower case, as tables of synonyms have it, that knows its own spelling and its place."""

    __slots__ = ("place", "spelling")
    place: int
    spelling: str

    def __new__(cls, spelling: str, place: int) -> _Word:
        word = super().__new__(cls, spelling.lower())
        word.spelling, word.place = spelling, place
        return word


def sentences(text: str) -> list[str]:
    """Cut a text after every sentence and line; the pieces, joined, are the text."""
    cuts = [0, *(match.end() for match in _END.finditer(text)), len(text)]
    return [text[start:stop] for start, stop in pairwise(cuts) if stop > start]


def rewritten(sentence: str, operation: DiscretePerturbation[str], rng: np.random.Generator) -> str:
    """Apply a random operation to the words of a sentence.

    Parameters
    ----------
    sentence : str
    operation : DiscretePerturbation
        Replaces, swaps, inserts or deletes words, one kind at a time; sees words in lower case. A word put in for
        another takes over its capitals.
    rng : numpy.random.Generator

    Returns
    -------
    str
        The sentence itself, to the character, when no word is edited.
    """
    found = list(_WORD.finditer(sentence))
    words = [_Word(match.group(), place) for place, match in enumerate(found)]
    starts = [match.start() for match in found] + [len(sentence)]
    gaps = [sentence[stop:start] for stop, start in zip([0, *(match.end() for match in found)], starts, strict=True)]
    edited = operation(words, rng)
    if len(edited) == len(words):
        spelt = [_capitals(new, old) for new, old in zip(edited, words, strict=True)]
        return gaps[0] + "".join(word + gap for word, gap in zip(spelt, gaps[1:], strict=True))
    if len(edited) < len(words):
        return _without(edited, gaps)
    ends = [(w.spelling, gaps[w.place + 1]) if isinstance(w, _Word) else (w, " ") for w in edited]
    return gaps[0] + "".join(word + gap for word, gap in ends)


def _capitals(new: str, old: _Word) -> str:
    if isinstance(new, _Word):
        return new.spelling
    if old.spelling.isupper() and len(old) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if old.spelling[:1].isupper() else new


def _without(kept: Sequence[str], gaps: list[str]) -> str:
    """Join the words that are left; the gaps about deleted ones become one."""
    places = [word.place for word in kept if isinstance(word, _Word)]
    spelt = [word.spelling for word in kept if isinstance(word, _Word)]
    bounds = [-1, *places, len(gaps) - 1]
    runs = [gaps[last + 1 : this + 1] for last, this in pairwise(bounds)]
    first, *others = runs
    # Before the first word the blank goes, elsewhere that before the deleted word: the end of a line stays.
    return _closed(first, first[0]) + "".join(
        word + _closed(run, run[-1]) for word, run in zip(spelt, others, strict=True)
    )


def _closed(run: list[str], blank: str) -> str:
    """One gap from several: all that is not blank, or else the given one."""
    visible = [gap for gap in run if gap.strip()]
    return "".join(visible) if visible else blank
