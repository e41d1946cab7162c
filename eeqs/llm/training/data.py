"""Training documents as rows: split in folds, rewritten and packed epoch by epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eeqs.llm.corpus import Document, folds
from eeqs.llm.methods.method import Method
from eeqs.llm.packing import Rows, pack

__all__ = ["TrainingText"]


@dataclass(frozen=True)
class TrainingText:
    """Documents to train on, and how they become rows.

    Parameters
    ----------
    documents : sequence of Document
    encode : callable
        ``encode(documents)`` tokenises; see `eeqs.llm.tokens.tokenise`.
    length : int
        Tokens a row.
    several : bool
        Whether a row may hold several documents; see `eeqs.llm.packing.pack`.
    pack : callable
        ``pack(encoded, length, several=several)`` makes the rows.
    """

    documents: Sequence[Document]
    encode: Callable[[Sequence[Document]], Sequence[Any]]
    length: int
    several: bool = True
    pack: Callable[..., Rows] = pack

    def folds(self, method: Method, seed: int) -> list[Callable[[int], Rows]]:
        """Rows of an epoch, for every fold that the equations of a method use.

        Parameters
        ----------
        method : Method
        seed : int
            Of the split into folds and of what the method rewrites.
        """
        parts = [self.documents] if method.n_folds == 1 else folds(self.documents, method.n_folds, seed)
        return [self.epochs(part, method, (seed, fold)) for fold, part in enumerate(parts)]

    def epochs(self, documents: Sequence[Document], method: Method, key: tuple[int, ...]) -> Callable[[int], Rows]:
        """Rows of an epoch of some of the documents; a function of ``key`` and the epoch."""
        if method.rewrite is None:
            rows = self._packed(documents)
            return lambda _: rows
        rewrite = method.rewrite
        return lambda epoch: self._packed(rewrite(documents, np.random.default_rng([*key, epoch])))

    def _packed(self, documents: Sequence[Document]) -> Rows:
        return self.pack(self.encode(documents), self.length, several=self.several)

    @property
    def digest(self) -> str:
        """Checksum of the documents and their form, to tell one training set from another."""
        held = hashlib.sha256(f"{self.length}|{self.several}".encode())
        for document in self.documents:
            held.update(f"|{document.id}|{document.text}".encode())
        return held.hexdigest()
