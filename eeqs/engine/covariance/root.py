"""What a covariance sees of a solved equation, and what it must provide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.errors import DataError
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

    def replicate(self, r: int) -> Root:
        """View replicate r as one data set."""
        keep = torch.tensor([r], device=self.theta.device)
        return Root(self.problem.rows(keep).squeeze(), self.theta[r], self.names)

    def require_one_data_set(self, label: str) -> None:
        """Raise for replicates."""
        if self.batched:
            raise DataError(f"{label} is for one data set; call it on every replicate, or use HC or CR0 to CR1S.")

    def require_memory(self, label: str) -> None:
        """Raise for replicates and for rows that come in batches."""
        self.require_one_data_set(label)
        if self.problem.streamed:
            raise DataError(
                f"{label} needs all rows at once, and this data comes in batches; load it, or use HC1 or CR1."
            )

    def cluster_name(self, by: Any, code: int) -> str:
        """Cluster of a code, for messages."""
        if self.problem.streamed:  # the labels are gone
            return f'cluster number {code} of "{by}"'
        labels = self.problem.raw[by] if isinstance(by, str) else by
        array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
        where = f' of "{by}"' if isinstance(by, str) else ""
        return f"cluster {pd.factorize(array)[1][code]}{where}"


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
