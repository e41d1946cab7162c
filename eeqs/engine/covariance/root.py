"""What a covariance sees of a solved equation, and what it must provide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from eeqs.engine.evaluate import Problem, Rows

__all__ = ["CovarianceKind", "Root"]


@dataclass(frozen=True)
class Root:
    """A root of the mean of psi.

    Attributes
    ----------
    problem : Problem
        Psi bound to the data.
    theta : Tensor of shape (p,) or (R, p)
    names : tuple of str
        Parameter names.
    """

    problem: Problem
    theta: Tensor
    names: tuple[str, ...]

    @cached_property
    def bread(self) -> Tensor:
        """Mean Jacobian (p, p) or (R, p, p)."""
        return self.problem.jacobian(self.theta)

    @property
    def n(self) -> float:
        """Observations: rows, or the sum of their frequency weights."""
        return self.problem.total()

    @property
    def batched(self) -> bool:
        """Whether theta holds replicates."""
        return self.problem.replicates is not None

    def values(self) -> Tensor:
        """Psi of all rows, (n, p) or (R, n, p)."""
        return self.problem.values(self.theta)

    def blocks(self, groups: tuple[Any, ...] = ()) -> Iterator[tuple[Tensor, Rows]]:
        """Psi (b, p) of consecutive blocks of rows of one data set, with the codes of the cluster labels."""
        for rows in self.problem.blocks(groups):
            yield self.problem.rows_of_psi(self.theta, rows), rows


class CovarianceKind(Protocol):
    """A covariance of estimates: an estimate of the variance of the sum of psi.

    Attributes
    ----------
    label : str
        Name for tables, such as "HC3" or "CR1(firm)".
    groups : tuple
        The cluster labels it needs, each a column name or an array.
    """

    @property
    def label(self) -> str: ...  # noqa: D102

    @property
    def groups(self) -> tuple[Any, ...]: ...  # noqa: D102

    def meat(self, root: Root) -> Tensor:
        r"""Meat B (p, p), so that the covariance is :math:`A^{-1} B A^{-\top} / n`."""
