"""Meat of independent observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.covariance.leverage import adjusted_psi
from eeqs.engine.covariance.root import Root
from eeqs.engine.errors import DataError

__all__ = ["Independent"]

# Power of (I - H_i)^-1 that multiplies psi_i.
_POWERS = {"HC0": 0.0, "HC1": 0.0, "HC2": 0.5, "HC3": 1.0}


@dataclass(frozen=True)
class Independent:
    r"""Independent observations: :math:`B = f\, n^{-1} \sum_i \tilde\psi_i \tilde\psi_i^\top`.

    Attributes
    ----------
    kind : {"HC0", "HC1", "HC2", "HC3"}
        HC0 (White 1980): :math:`\tilde\psi_i = \psi_i` and f = 1. HC1: f is :math:`n / (n - p)`. HC2 and HC3:
        :math:`\tilde\psi_i = (I - H_i)^{-1/2} \psi_i` and :math:`(I - H_i)^{-1} \psi_i`, with the leverage
        :math:`H_i = n^{-1} (\partial \psi_i / \partial \theta) A^{-1}` and f = 1; in least squares they are those of
        MacKinnon & White (1985, J. Econometrics 29). HC3 times (n - 1)/n is there the leave-one-out jackknife, and
        one Newton step towards it elsewhere.

    Notes
    -----
    With frequency weights every kind is that of the rows repeated.

    Raises
    ------
    ValueError
        If the kind is unknown.
    DataError
        From `meat`: HC1 without more observations than parameters; HC2 and HC3 with a row whose leverage is one.
    PsiError
        From `meat`: HC2 and HC3 of a step function.
    """

    kind: str = "HC0"

    def __post_init__(self) -> None:
        if self.kind not in _POWERS:
            raise ValueError(f'unknown covariance "{self.kind}"; independent observations have {list(_POWERS)}.')

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
        n, p, power = root.n, root.theta.shape[-1], _POWERS[self.kind]
        if self.kind == "HC1" and n <= p:
            raise DataError(f"HC1 divides by n - p, but there are {n:g} observations and {p} parameters; use HC0.")
        factor = n / (n - p) if self.kind == "HC1" else 1.0
        if root.batched and power:
            return torch.stack([self.meat(root.replicate(r)) for r in range(len(root.theta))])
        if root.batched:
            values = root.values()
            return factor * (values.mT @ values) / n
        blocks = adjusted_psi(root, power) if power else root.blocks()
        total = sum(
            values.mT @ (values if rows.counts is None else rows.counts[:, None] * values) for values, rows in blocks
        )
        assert isinstance(total, Tensor)  # noqa: S101 - data has rows
        return factor * total / n
