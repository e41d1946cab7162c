"""Documents: from JSON lines, from the folder of data sets EEQS_DATA, from the Hugging Face hub; and their folds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from eeqs.engine.errors import DataError

__all__ = ["Document", "data_folder", "dataset", "folds", "hub_dataset", "read_documents"]

VARIABLE = "EEQS_DATA"


@dataclass(frozen=True)
class Document:
    """A text under a name; the cluster of every standard error.

    Parameters
    ----------
    id : str
        Name, unique in a corpus.
    text : str

    Raises
    ------
    DataError
        The text is blank, or has an unpaired surrogate and hence no UTF-8 form.
    """

    id: str
    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise DataError(f'document "{self.id}" is empty; leave it out of the corpus.')
        try:
            self.text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f'document "{self.id}" has an unpaired surrogate at character {error.start}, which UTF-8 cannot hold; '
                "write the character itself, or remove it."
            ) from error

    @property
    def n_bytes(self) -> int:
        """Length of the text in UTF-8."""
        return len(self.text.encode())


def read_documents(path: Path | str, limit: int | None = None, *, fields: Sequence[str] = ("text",)) -> list[Document]:
    """Read JSON lines, one document a line.

    Parameters
    ----------
    path : Path or str
        UTF-8 lines such as ``{"id": "a", "text": "..."}``.
    limit : int, optional
        Stop after so many documents.
    fields : sequence of str
        Fields whose texts, joined by newlines, are the document: ``("question", "answer")`` for problems with
        solutions. A line without ``id`` is named after the file and the line number.

    Returns
    -------
    list of Document
        In the order of the file.

    Raises
    ------
    DataError
        The file is missing or has no documents; a line is not UTF-8, not JSON, lacks a field, is empty or repeats an
        id. File and line are named.
    """
    path = Path(path)
    _check_limit(limit)
    if not path.is_file():
        raise DataError(f"there is no file {path}; give the path of a file of JSON lines.")
    with path.open("rb") as stream:
        return _collected(islice(_records(path, stream), limit), str(path), path.stem, fields)


def data_folder() -> Path:
    """Return the folder of data sets, which the environment variable EEQS_DATA names.

    Raises
    ------
    DataError
        It is not set, or is no folder.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise DataError(f"{VARIABLE} is not set; set it to the folder of the data sets.")
    if not Path(folder).is_dir():
        raise DataError(f"{VARIABLE} is {folder}, which is no folder; set it to the folder of the data sets.")
    return Path(folder)


def dataset(name: str, limit: int | None = None, *, fields: Sequence[str] = ("text",)) -> list[Document]:
    """Read a data set of the folder that the environment variable EEQS_DATA names.

    Parameters
    ----------
    name : str
        Such as ``"wikitext2.train"``, for the file ``wikitext2.train.jsonl``.
    limit, fields
        As in `read_documents`.

    Raises
    ------
    DataError
        EEQS_DATA is not set or is no folder, there is no such data set, or `read_documents` refuses the file.
    """
    folder = data_folder()
    path = folder / f"{name}.jsonl"
    if not path.is_file():
        known = ", ".join(sorted(found.name.removesuffix(".jsonl") for found in folder.glob("*.jsonl")))
        raise DataError(f'there is no data set "{name}" in {folder}; it has {known or "no JSON lines at all"}.')
    return read_documents(path, limit, fields=fields)


def hub_dataset(
    name: str,
    split: str,
    limit: int | None = None,
    *,
    configuration: str | None = None,
    fields: Sequence[str] = ("text",),
) -> list[Document]:
    """Read a data set of the Hugging Face hub; needs the library datasets and a network or its cache.

    Parameters
    ----------
    name, split : str
        Such as ``"openai/gsm8k"`` and ``"test"``.
    configuration : str, optional
        Where the data set has several.
    limit, fields
        As in `read_documents`; with a limit the data set is streamed.

    Raises
    ------
    DataError
        The library is not installed, the data set cannot be had, or a record is not a document; see `read_documents`.
    """
    _check_limit(limit)
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(f'reading "{name}" by name needs the library datasets: pip install datasets.') from error
    origin = f"{name}/{split}"
    try:
        loaded = load_dataset(name, configuration, split=split, streaming=limit is not None)
        records = [(f"record {index}", index, record) for index, record in enumerate(islice(loaded, limit))]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{origin} cannot be read from the Hugging Face hub ({error}); check name, configuration, split and the "
            "network, or read a file of JSON lines."
        ) from error
    return _collected(records, origin, origin, fields)


class _Sized(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def n_bytes(self) -> int: ...


SizedT = TypeVar("SizedT", bound=_Sized)


def folds(documents: Sequence[SizedT], n: int, seed: int) -> list[list[SizedT]]:
    """Split documents at random into folds of nearly equal length.

    The documents, in the order of their length, are taken n at a time, and each n go to the n folds in random order:
    the numbers of bytes of two folds differ by at most the longest document's, those of documents by at most one.

    Parameters
    ----------
    documents : sequence of Document or TokenisedDocument
        With unique ids; the split does not depend on their order.
    n : int
        Number of folds, at least 2.
    seed : int
        At least 0; another seed gives other folds.

    Returns
    -------
    list of list
        The folds, each in the order of ``documents``.

    Raises
    ------
    ValueError
        Fewer than 2 folds.
    DataError
        Fewer documents than folds, or an id twice.
    """
    if n < 2:
        raise ValueError(f"n is {n}; split into 2 folds or more.")
    if len(documents) < n:
        raise DataError(
            f"{len(documents)} documents cannot fill {n} folds; pass more documents or ask for fewer folds."
        )
    check_unique(document.id for document in documents)
    rng = np.random.default_rng(seed)
    ranked = sorted(documents, key=lambda document: (-document.n_bytes, document.id))
    place: dict[str, int] = {}
    for start in range(0, len(ranked), n):
        for document, fold in zip(ranked[start : start + n], rng.permutation(n).tolist(), strict=False):
            place[document.id] = fold
    return [[document for document in documents if place[document.id] == fold] for fold in range(n)]


def check_unique(names: Iterable[str]) -> None:
    """Refuse two documents of the same name: as clusters they would be one."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f'two documents are called "{name}"; ids are unique.')
        seen.add(name)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; read at least one document.")


def _records(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[str, int, Any]]:
    """Place, line number and content of every line."""
    for number, line in enumerate(lines, 1):
        try:
            yield f"line {number}", number, json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}, line {number}: byte {error.start} is not UTF-8 ({error.reason}); save the file in UTF-8."
            ) from error
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number}: not JSON ({error}); every line holds one object such as "
                '{"id": "a", "text": "..."}.'
            ) from error


def _collected(
    records: Iterable[tuple[str, int, Any]], origin: str, stem: str, fields: Sequence[str]
) -> list[Document]:
    documents: list[Document] = []
    places: dict[str, str] = {}
    for place, number, record in records:
        text = _text(record, f"{origin}, {place}", fields)
        name = str(record.get("id", f"{stem}:{number}"))
        if name in places:
            raise DataError(f'{origin}: {places[name]} and {place} are both called "{name}"; ids are unique.')
        places[name] = place
        try:
            documents.append(Document(name, text))
        except DataError as error:
            raise DataError(f"{origin}, {place}: {error}") from error
    if not documents:
        raise DataError(f"{origin} has no documents.")
    return documents


def _text(record: object, place: str, fields: Sequence[str]) -> str:
    if not isinstance(record, Mapping):
        raise DataError(f"{place}: a {type(record).__name__}, not an object with {', '.join(fields)}.")
    for field in fields:
        if not isinstance(record.get(field), str):
            raise DataError(
                f'{place}: there is no text in "{field}"; the record has {", ".join(map(str, record))}. Name the '
                'fields that make up the document, as in fields=("question", "answer").'
            )
    return "\n".join(record[field] for field in fields)
