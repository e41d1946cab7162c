"""Tokenised documents in rows of one length, without a position seeing another document."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.llm.corpus import check_unique
from eeqs.llm.perturbed import IGNORED
from eeqs.llm.tokens import TokenisedDocument

__all__ = ["Rows", "batches", "pack"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of windows of documents; `eeqs.llm.PerturbedLM` takes the first four tensors under these names.

    Attributes
    ----------
    input_ids : Tensor of shape (R, T)
        Tokens, 0 at padding.
    labels : Tensor of shape (R, T)
        The tokens that are predicted, each at its own place; `IGNORED` at the first token of a document, in the
        context of a window, and at padding.
    segment_ids : Tensor of shape (R, T)
        0, 1, 2, ... for the windows of a row, -1 at padding.
    attention_mask : Tensor of shape (R, T)
        1 at tokens, 0 at padding.
    document : Tensor of shape (R, T)
        Index into ``names`` of the document a token belongs to, -1 at padding.
    names : tuple of str
        Ids of the documents.
    n_bytes : Tensor of shape (D,)
        Bytes that the predicted tokens of each document stand for.
    """

    input_ids: Tensor
    labels: Tensor
    segment_ids: Tensor
    attention_mask: Tensor
    document: Tensor
    names: tuple[str, ...]
    n_bytes: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def fill(self) -> float:
        """Share of positions that hold a token."""
        return float(self.attention_mask.double().mean())

    @property
    def n_predicted(self) -> int:
        """Number of predicted tokens."""
        return int((self.labels != IGNORED).sum())

    def select(self, index: Tensor) -> Rows:
        """Return the rows of an index (B,), with all names."""
        return self._mapped(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Rows:
        """Return the same rows on a device."""
        return replace(self._mapped(lambda tensor: tensor.to(device)), n_bytes=self.n_bytes.to(device))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Rows:
        return replace(
            self,
            input_ids=change(self.input_ids),
            labels=change(self.labels),
            segment_ids=change(self.segment_ids),
            attention_mask=change(self.attention_mask),
            document=change(self.document),
        )

    def by_document(self, values: Tensor) -> Tensor:
        """Sum values (R, T) over the predicted tokens of each document: (D,), float64."""
        kept = self.labels != IGNORED
        sums = torch.zeros(len(self.names), dtype=torch.float64, device=values.device)
        return sums.index_add(0, self.document[kept], values[kept].double())


def pack(documents: Sequence[TokenisedDocument], length: int, *, several: bool = True, overlap: int = 0) -> Rows:
    """Cut documents into windows and put them in rows, each token predicted exactly once.

    A document of up to ``length`` tokens is one window. A longer one goes on in further windows, which begin with the
    last tokens before them as context.

    Parameters
    ----------
    documents : sequence of TokenisedDocument
    length : int
        Tokens a row, at least 2.
    several : bool
        Whether a row may hold several windows: the next longest goes where it leaves the least room (best fit
        decreasing). Otherwise each has a row of its own, in the order of the documents.
    overlap : int
        Tokens of context of a further window, less than ``length``; at least one in any case. Every predicted token
        sees so many before it, or its whole document: for evaluation, where it costs ``length / (length - overlap)``
        times the passes.

    Returns
    -------
    Rows

    Raises
    ------
    DataError
        There are no documents, or two have the same id.
    ValueError
        ``length`` or ``overlap`` is out of range.
    """
    if not documents:
        raise DataError("there are no documents to pack.")
    if length < 2 or not 0 <= overlap < length:
        raise ValueError(f"length is {length}, overlap {overlap}; pass a length of 2 or more and a smaller overlap.")
    names = tuple(document.id for document in documents)
    check_unique(names)
    windows = [
        _Window(index, *place)
        for index, document in enumerate(documents)
        for place in _windows(len(document.ids), length, max(overlap, 1))
    ]
    rows = _best_fit(windows, length) if several else [[window] for window in windows]
    n_bytes = torch.tensor([document.n_bytes for document in documents])
    return Rows(*_filled(rows, documents, length), names, n_bytes)


def batches(rows: Rows, size: int, generator: torch.Generator | None = None) -> Iterator[Rows]:
    """Go through the rows once, so many at a time; the last batch may be smaller.

    Parameters
    ----------
    rows : Rows
    size : int
        Rows a batch, at least 1.
    generator : torch.Generator, optional
        On the CPU; shuffles the rows, the order being a function of its state. Without it they keep their order.

    Raises
    ------
    ValueError
        ``size`` is not positive.
    """
    if size < 1:
        raise ValueError(f"size is {size}; a batch has at least one row.")
    count = len(rows)
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    return (rows.select(index) for index in order.split(size))


@dataclass(frozen=True)
class _Window:
    """Tokens start..stop of a document, of which those from ``predicted`` on are predicted."""

    document: int
    start: int
    predicted: int
    stop: int

    @property
    def width(self) -> int:
        return self.stop - self.start


def _windows(count: int, length: int, context: int) -> Iterator[tuple[int, int, int]]:
    """Start, first predicted token and stop of every window of a document."""
    start, predicted = 0, 1
    while predicted < count:
        stop = min(start + length, count)
        yield start, predicted, stop
        start, predicted = stop - context, stop


def _best_fit(windows: list[_Window], length: int) -> list[list[_Window]]:
    rows: list[list[_Window]] = []
    spaces: list[tuple[int, int]] = []  # room and number of every row, sorted
    for window in sorted(windows, key=lambda one: -one.width):
        found = bisect_left(spaces, (window.width, -1))
        if found < len(spaces):
            room, row = spaces.pop(found)
            rows[row].append(window)
        else:
            room, row = length, len(rows)
            rows.append([window])
        insort(spaces, (room - window.width, row))
    return rows


def _filled(
    rows: list[list[_Window]], documents: Sequence[TokenisedDocument], length: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Tensors (R, T) of `Rows`, in its order."""
    shape = (len(rows), length)
    input_ids, attention_mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    labels = torch.full(shape, IGNORED)
    segment_ids, document = torch.full(shape, -1), torch.full(shape, -1)
    for number, row in enumerate(rows):
        place = 0
        for segment, window in enumerate(row):
            tokens = documents[window.document].ids[window.start : window.stop]
            held = slice(place, place + window.width)
            input_ids[number, held], attention_mask[number, held] = tokens, 1
            segment_ids[number, held], document[number, held] = segment, window.document
            skipped = window.predicted - window.start
            labels[number, place + skipped : place + window.width] = tokens[skipped:]
            place += window.width
    return input_ids, labels, segment_ids, attention_mask, document
