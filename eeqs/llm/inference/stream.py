"""Packed documents as a stream of windows that the engine reads batch by batch, each with latents of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from eeqs.engine.errors import DataError
from eeqs.llm.packing import Rows
from eeqs.llm.perturbed import IGNORED
from eeqs.marginal.draws import Draws
from eeqs.marginal.protocols import Perturbation

__all__ = ["DOCUMENT", "Corpus", "document_stream"]

DOCUMENT = "document"
"""Column of a stream with the name of the document of a window: the clusters of all covariances."""

Corpus: TypeAlias = Rows | Callable[[], Iterable[Rows]]
"""Packed rows, or a function that returns a fresh iterator over them for a corpus larger than memory."""

# Larger batches would be cut into blocks by the engine, in which windows are no longer padded to the longest of theirs.
_MOST_WINDOWS = 256


def document_stream(
    corpus: Corpus, perturbation: Perturbation, draws: Draws, *, seed: int = 0, batch_size: int = 32
) -> Callable[[], Iterator[dict[str, Any]]]:
    """Make the data of `eeqs.llm.inference.perturbation_psi`: a row is a window of a document.

    The latents of a window are a function of (seed, name of its document, its tokens). They are therefore the same in
    every pass over the data, so that the solver sees a smooth function, and independent from one document to another,
    two of the same text included.

    Parameters
    ----------
    corpus : Rows, or callable returning an iterable of Rows
        From `eeqs.llm.packing.pack`. Rows of several windows are taken apart, which changes no prediction.
    perturbation : Perturbation
        Gives dimension and law of the latents.
    draws : Draws
        K draws a position.
    seed : int
        Another seed gives other latents.
    batch_size : int
        Windows a batch, at most 256. Memory is that of one batch, whatever the number of documents.

    Returns
    -------
    callable
        ``stream() -> iterator`` over batches, mappings of ``input_ids`` and ``labels`` (b, T), ``z`` (b, K, T, q) in
        float64 and ``document`` (b,) of names.

    Raises
    ------
    ValueError
        If ``batch_size`` or ``seed`` is out of range.
    DataError
        When read: no token of a batch of rows is predicted, or a window is predicted from its first position.

    Notes
    -----
    A CPU generator keeps 32 bits of its seed, so two of many windows may by chance share their draws; see
    `eeqs.llm.latents.row_latents`.
    """
    if not 1 <= batch_size <= _MOST_WINDOWS or seed < 0:
        raise ValueError(
            f"batch_size is {batch_size}, seed {seed}; pass 1 to {_MOST_WINDOWS} windows, and a seed >= 0."
        )

    def stream() -> Iterator[dict[str, Any]]:
        for rows in (corpus,) if isinstance(corpus, Rows) else corpus():
            places = [place for row in range(len(rows)) for place in _places(rows, row)]
            if not places:
                raise DataError("no token of the rows is predicted; documents need two tokens or more.")
            # Windows of one length waste no positions on padding.
            places.sort(key=lambda place: -place.width)
            for start in range(0, len(places), batch_size):
                yield _batch(rows, places[start : start + batch_size], perturbation, draws, seed)

    return stream


class _Place(NamedTuple):
    """Where a window stands in the rows."""

    row: int
    start: int
    width: int


def _places(rows: Rows, row: int) -> Iterator[_Place]:
    """Windows of a row that predict something."""
    segments, counts = rows.segment_ids[row].cpu().unique_consecutive(return_counts=True)
    start = 0
    for segment, width in zip(segments.tolist(), counts.tolist(), strict=True):
        if segment >= 0 and bool((rows.labels[row, start : start + width] != IGNORED).any()):
            yield _Place(row, start, width)
        start += width


def _batch(rows: Rows, places: list[_Place], perturbation: Perturbation, draws: Draws, seed: int) -> dict[str, Any]:
    """Columns of some windows, padded to the first and longest."""
    width = places[0].width
    names = [rows.names[int(rows.document[place.row, place.start])] for place in places]
    windows = [slice(place.start, place.start + place.width) for place in places]
    ids, labels = (
        [tensor[place.row, window] for place, window in zip(places, windows, strict=True)]
        for tensor in (rows.input_ids, rows.labels)
    )
    z = [_latents(own, perturbation, draws, name, seed) for own, name in zip(ids, names, strict=True)]
    return {
        "input_ids": torch.stack([functional.pad(own, (0, width - len(own))) for own in ids]),
        "labels": torch.stack([functional.pad(own, (0, width - len(own)), value=IGNORED) for own in labels]),
        "z": torch.stack([functional.pad(own, (0, 0, 0, width - own.shape[1])) for own in z]).to(rows.input_ids.device),
        DOCUMENT: np.array(names, dtype=object),
    }


def _latents(tokens: Tensor, perturbation: Perturbation, draws: Draws, name: str, seed: int) -> Tensor:
    """Latents (K, T, q) of a window of T tokens."""
    content = tokens.cpu().numpy().tobytes() + f"|{seed}|{name}".encode()
    word = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
    generator = torch.Generator().manual_seed(word >> 1)
    z = draws.sample(len(tokens), perturbation.latent_dim, generator, law=perturbation.latent_law)
    return z.flatten(1, -2).transpose(0, 1)
