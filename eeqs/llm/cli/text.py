"""Documents by the names that the command line takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eeqs.engine.errors import DataError
from eeqs.llm.corpus import Document, dataset, hub_dataset, read_documents

__all__ = ["Corpus", "corpus"]

_HUB = "hub:"


@dataclass(frozen=True)
class Corpus:
    """Documents and what they are called.

    Parameters
    ----------
    name : str
    documents : sequence of Document
    """

    name: str
    documents: Sequence[Document]

    @property
    def n_bytes(self) -> int:
        """Bytes of all documents."""
        return sum(document.n_bytes for document in self.documents)

    @property
    def digest(self) -> str:
        """Checksum of ids and texts."""
        held = hashlib.sha256()
        for document in self.documents:
            held.update(f"{len(document.id)}|{document.id}|{document.n_bytes}|{document.text}".encode())
        return held.hexdigest()


def corpus(name: str, limit_bytes: int | None = None) -> Corpus:
    """Read documents.

    Parameters
    ----------
    name : str
        The path of a file of JSON lines; or a data set of the folder EEQS_DATA, such as ``wikitext2.train``; or
        ``hub:NAME@SPLIT`` or ``hub:NAME@CONFIGURATION/SPLIT`` on the Hugging Face hub, the split ``train`` by default.
        ``#question,answer`` after it names the fields that make up a document, in place of ``text``.
    limit_bytes : int, optional
        Stop before the document, in the order of the file, with which there would be more bytes than this.

    Raises
    ------
    DataError
        The documents cannot be read, or the first is longer than the limit.
    """
    place, _, listed = name.partition("#")
    fields = tuple(listed.split(",")) if listed else ("text",)
    if place.startswith(_HUB):
        hub, _, part = place.removeprefix(_HUB).partition("@")
        configuration, _, split = part.rpartition("/")
        documents = hub_dataset(hub, split or "train", configuration=configuration or None, fields=fields)
        label = Path(hub).name + (f"@{part.replace('/', '_')}" if part else "")
        return _limited(label, documents, limit_bytes)
    if place.endswith(".jsonl") or Path(place).is_file():
        documents = read_documents(place, fields=fields)
    else:
        documents = dataset(place, fields=fields)
    return _limited(Path(place).name.removesuffix(".jsonl"), documents, limit_bytes)


def _limited(name: str, documents: Sequence[Document], limit_bytes: int | None) -> Corpus:
    if limit_bytes is None:
        return Corpus(name, documents)
    kept, total = [], 0
    for document in documents:
        total += document.n_bytes
        if total > limit_bytes:
            break
        kept.append(document)
    if not kept:
        raise DataError(
            f'{name}: its first document, "{documents[0].id}", has {documents[0].n_bytes} bytes, more than the limit '
            f"of {limit_bytes}; raise the limit."
        )
    return Corpus(name, kept)
