"""Batches of rows without end, whose place in the data is two numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.llm.packing import Rows

__all__ = ["Stream"]

_FIELDS = ("input_ids", "labels", "attention_mask", "segment_ids")


class Stream:
    """Batches of one size, epoch after epoch, each epoch in an order of its own.

    Parameters
    ----------
    rows : callable
        ``rows(epoch)`` gives the `Rows` of an epoch, all of one length; a function of the epoch only.
    size : int
        Rows a batch. A batch takes from the next epoch what the last one leaves open.
    seed : int
        The order of an epoch is a function of it and the epoch.

    Notes
    -----
    `place` is all there is to resume from: the epoch, and the rows of it already taken.
    """

    def __init__(self, rows: Callable[[int], Rows], size: int, seed: int) -> None:
        self._rows, self._size, self._seed = rows, size, seed
        self.place = (0, 0)
        self._held: tuple[int, Rows, Tensor] | None = None

    def __next__(self) -> dict[str, Tensor]:
        """Return the next batch: the tensors (size, T) of `Rows` that a loss takes."""
        parts, missing = [], self._size
        while missing:
            epoch, taken = self.place
            rows, order = self._epoch(epoch)
            index = order[taken : taken + missing]
            parts.append(rows.select(index))
            missing -= len(index)
            ended = taken + len(index) == len(order)
            self.place = (epoch + 1, 0) if ended else (epoch, taken + len(index))
        return {name: torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS}

    def _epoch(self, epoch: int) -> tuple[Rows, Tensor]:
        if self._held is None or self._held[0] != epoch:
            rows = self._rows(epoch)
            if not len(rows):
                raise DataError(f"epoch {epoch} has no rows; pass longer or more documents.")
            # Two primes keep the orders of (seed, epoch) and (seed + 1, epoch - 1) apart.
            generator = torch.Generator().manual_seed((1_000_003 * self._seed + 7_919 * epoch) % 2**62)
            self._held = (epoch, rows, torch.randperm(len(rows), generator=generator))
        return self._held[1], self._held[2]
