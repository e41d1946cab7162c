r"""Working correlations of generalised estimating equations: inverses in linear time, moments of pairs.

Residuals come sorted by cluster, and by time within clusters. No cluster is visited on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["AR1", "Correlation", "Exchangeable", "Independence", "Layout", "Pairs"]


class Layout(NamedTuple):
    """Rows sorted by cluster: codes 0..G-1 (n,), cluster sizes (n,), and the time since the previous row (n,).

    The time is zero at the first row of a cluster.
    """

    codes: Tensor
    sizes: Tensor
    gaps: Tensor

    def sums(self, values: Tensor) -> Tensor:
        """Sum of the cluster, at every of its rows (n,)."""
        return torch.zeros_like(values).scatter_add(0, self.codes, values).gather(0, self.codes)


class Pairs(NamedTuple):
    """Products of residuals, their correlations and their number, each (n,), shared out over rows."""

    products: Tensor
    correlations: Tensor
    number: Tensor


class Correlation(Protocol):
    r"""A working correlation R of the rows of a cluster, with one parameter :math:`\alpha`.

    Attributes
    ----------
    time : str or None
        Column of times, where R depends on them.
    """

    @property
    def time(self) -> str | None: ...  # noqa: D102

    def solve(self, alpha: Tensor, residuals: Tensor, layout: Layout) -> Tensor:
        """Multiply residuals (n,) by the inverse of R."""

    def pairs(self, alpha: Tensor, residuals: Tensor, layout: Layout) -> Pairs:
        """Return the pairs of rows from which alpha is estimated."""


@dataclass(frozen=True)
class Independence:
    """No correlation, and no parameter."""


@dataclass(frozen=True)
class Exchangeable:
    r"""One correlation :math:`\alpha` between any two rows of a cluster.

    :math:`R^{-1} r = \{r - \alpha\, (1 + (n_g - 1) \alpha)^{-1}\, 1 1^\top r\} / (1 - \alpha)` for a cluster of
    :math:`n_g` rows.
    """

    @property
    def time(self) -> None:
        """No times."""
        return

    def solve(self, alpha: Tensor, residuals: Tensor, layout: Layout) -> Tensor:
        """Multiply residuals (n,) by the inverse of R."""
        share = alpha / (1 + (layout.sizes - 1) * alpha)
        return (residuals - share * layout.sums(residuals)) / (1 - alpha)

    def pairs(self, alpha: Tensor, residuals: Tensor, layout: Layout) -> Pairs:
        """All pairs of a cluster; every row has half of its own."""
        number = (layout.sizes - 1) / 2
        return Pairs(residuals * (layout.sums(residuals) - residuals) / 2, alpha * number, number)


@dataclass(frozen=True)
class AR1:
    r"""Correlation :math:`\alpha^{|t - s|}` between two times, whose inverse is tridiagonal.

    Attributes
    ----------
    time : str, optional
        Column of whole numbers, distinct within clusters, in any order and with gaps. Without it, rows of a cluster
        are in the order of time and equally spaced.
    """

    time: str | None = None

    def solve(self, alpha: Tensor, residuals: Tensor, layout: Layout) -> Tensor:
        """Multiply residuals (n,) by the inverse, through the innovations of neighbours."""
        link = _link(alpha, layout)
        innovation = (residuals - link * _shifted(residuals)) / (1 - link.square())
        after = torch.cat([(link * innovation)[1:], torch.zeros_like(residuals[:1])])
        return innovation - after

    def pairs(self, alpha: Tensor, residuals: Tensor, layout: Layout) -> Pairs:
        """Neighbours in time; the later row has the pair."""
        number = (layout.gaps > 0).to(residuals.dtype)
        return Pairs(number * residuals * _shifted(residuals), _link(alpha, layout), number)


def _link(alpha: Tensor, layout: Layout) -> Tensor:
    """Correlation (n,) with the previous row of the cluster, zero where there is none."""
    first = layout.gaps == 0
    return torch.where(first, 0.0, alpha ** torch.where(first, 1.0, layout.gaps))


def _shifted(values: Tensor) -> Tensor:
    """Value of the previous row (n,)."""
    return torch.cat([torch.zeros_like(values[:1]), values[:-1]])
