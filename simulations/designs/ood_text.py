"""Real text for the study ``ood``: WikiText-2 to train on, and test documents from inside and outside its domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from eeqs.llm.corpus import Document, dataset

__all__ = ["DOMAINS", "IN_DOMAIN", "Domain", "cut", "train_documents", "validation_documents"]


@dataclass(frozen=True)
class Domain:
    """Test documents.

    Attributes
    ----------
    name : str
        In tables and figures.
    data : str
        Data set in the folder EEQS_DATA.
    fields : tuple of str
        What of a record is its text.
    """

    name: str
    data: str
    fields: tuple[str, ...] = ("text",)

    def documents(self, count: int, n_bytes: int) -> list[Document]:
        """Return the first ``n_bytes`` of ``count`` documents, evenly spread over the data set."""
        found = _read(self.data, self.fields)
        step = max(1, len(found) // count)
        return [cut(document, n_bytes) for document in found[::step][:count]]


IN_DOMAIN = Domain("WikiText-2", "wikitext2.test")
DOMAINS = (
    IN_DOMAIN,
    Domain("English paragraphs", "xquad_en.test"),
    Domain("stories", "stories.test"),
    Domain("math", "gsm8k.test", ("question", "answer")),
    Domain("German paragraphs", "xquad_de.test"),
    Domain("Python code", "python_code.test"),
)
"""From near to far; German and English paragraphs are translations of each other."""


def train_documents(n_bytes: int | None, document_bytes: int) -> list[Document]:
    """Training articles of WikiText-2: all, or the beginnings of so many that they have ``n_bytes`` together."""
    found = _read("wikitext2.train", ("text",))
    if n_bytes is None:
        return list(found)
    return [cut(document, document_bytes) for document in found[: n_bytes // document_bytes]]


def validation_documents(count: int, document_bytes: int) -> list[Document]:
    """Beginnings of validation articles of WikiText-2."""
    return Domain("validation", "wikitext2.valid").documents(count, document_bytes)


def cut(document: Document, n_bytes: int) -> Document:
    """Return a document's first bytes, less a character that would be cut in two."""
    return Document(document.id, document.text.encode()[:n_bytes].decode(errors="ignore"))


@lru_cache(maxsize=16)
def _read(name: str, fields: tuple[str, ...]) -> Sequence[Document]:
    return dataset(name, fields=fields)
