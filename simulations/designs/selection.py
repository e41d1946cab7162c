"""Choosing along a path of fits by their error on a validation sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Keep", "Sample", "Selection"]

Keep: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``keep(error, best) -> (R,)`` of bool: whether to move to a fit of this error, both (R,). `torch.lt` selects."""

Sample: TypeAlias = tuple[Tensor, Tensor]
"""Inputs (R, n, d) and responses (R, n) of R replicates."""


class Selection:
    """Scans a path of fits, from the most to the least regularised, and holds the one chosen in each replicate.

    Parameters
    ----------
    keep : callable
        See `Keep`.
    """

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._best: Tensor | None = None
        self.chosen: tuple[Tensor, ...] = ()

    def offer(self, error: Tensor, *fit: Tensor) -> None:
        """Show the next fit of the path: validation errors (R,) and tensors with the replicates first."""
        if self._best is None:
            self._best, self.chosen = error.clone(), tuple(part.clone() for part in fit)
            return
        moved = self._keep(error, self._best)
        self._best = torch.where(moved, error, self._best)
        for held, part in zip(self.chosen, fit, strict=True):
            held[moved] = part[moved]
