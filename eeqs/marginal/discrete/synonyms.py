"""Synonyms: reading a table of them, and which of them stand in for a word."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence, Set
from os import PathLike

from eeqs.engine.errors import DataError

__all__ = ["check_tables", "read_synonyms", "substitutes"]


def read_synonyms(path: str | PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Read a gzipped table of synonyms: a line has a word, a tab, and its synonyms with blanks between.

    Parameters
    ----------
    path : str or path
        For example single words from Open English WordNet.

    Returns
    -------
    dict of str to tuple of str
        In the order of the file.

    Raises
    ------
    DataError
        If a line is not of this form or a word comes twice, with the number of the line.
    """
    table: dict[str, tuple[str, ...]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            word, _, rest = line.partition("\t")
            if not word or not rest.split():
                raise DataError(f"{path}, line {number}: {line.rstrip()!r} is not a word, a tab and its synonyms.")
            if word in table:
                raise DataError(f"{path}, line {number}: {word!r} comes a second time; merge its synonyms.")
            table[word] = tuple(rest.split())
    return table


def check_tables(synonyms: Mapping[str, Sequence[str]], stop_words: Set[str]) -> None:
    """Raise unless the synonyms are a mapping and the stop words a set."""
    if not isinstance(synonyms, Mapping):
        raise TypeError(f"synonyms is a {type(synonyms).__name__}; pass a mapping from a word to its synonyms.")
    if not isinstance(stop_words, Set):
        raise TypeError(f"stop_words is a {type(stop_words).__name__}; pass a frozenset of words.")


def substitutes(word: str, synonyms: Mapping[str, Sequence[str]], stop_words: Set[str]) -> list[str]:
    """Sorted synonyms of a word other than itself; none for a stop word. Words are looked up as they are."""
    found = () if word in stop_words else synonyms.get(word, ())
    if isinstance(found, str):
        raise TypeError(f"The synonyms of {word!r} are one string; pass a sequence, such as [{found!r}].")
    return sorted(set(found) - {word})
