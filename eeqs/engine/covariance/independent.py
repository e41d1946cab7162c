"""Meat of independent observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from eeqs.engine.covariance.root import Root
from eeqs.engine.errors import DataError

__all__ = ["Independent"]


@dataclass(frozen=True)
class Independent:
    r"""Independent observations: :math:`B = f\, n^{-1} \sum_i \psi_i \psi_i^\top`.

    Attributes
    ----------
    kind : {"HC0", "HC1"}
        Factor f: 1 for HC0 (White 1980), :math:`n / (n - p)` for HC1.
    """

    kind: str = "HC0"

    def __post_init__(self) -> None:
        if self.kind not in ("HC0", "HC1"):
            raise ValueError(f'unknown covariance "{self.kind}"; independent observations have "HC0" and "HC1".')

    @property
    def label(self) -> str:
        """Name for tables."""
        return self.kind

    @property
    def groups(self) -> tuple[Any, ...]:
        """No clusters."""
        return ()

    def meat(self, root: Root) -> Tensor:
        """Meat (p, p), or (R, p, p) for replicates."""
        n, p = root.n, root.theta.shape[-1]
        if self.kind == "HC1" and n <= p:
            raise DataError(f"HC1 divides by n - p, but there are {n:g} observations and {p} parameters; use HC0.")
        factor = n / (n - p) if self.kind == "HC1" else 1.0
        if root.batched:
            values = root.values()
            return factor * (values.mT @ values) / n
        total = sum(
            values.mT @ (values if rows.counts is None else rows.counts[:, None] * values)
            for values, rows in root.blocks()
        )
        assert isinstance(total, Tensor)  # noqa: S101 - data has rows
        return factor * total / n
