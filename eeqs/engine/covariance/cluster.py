"""Meat of observations that are dependent within clusters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.covariance.root import Root
from eeqs.engine.data import cluster_codes
from eeqs.engine.errors import DataError

__all__ = ["Cluster", "cluster_sums"]

# Small-sample factor of the meat, from n observations, p parameters and G groups.
_FACTORS: dict[str, Callable[[float, int, Any], Any]] = {
    "CR0": lambda n, p, groups: 1.0,  # noqa: ARG005
    "CR1": lambda n, p, groups: groups / (groups - 1),  # noqa: ARG005
    "CR1S": lambda n, p, groups: groups / (groups - 1) * (n - 1) / (n - p),
}


@dataclass(frozen=True)
class Cluster:
    r"""Clusters g: :math:`B = f\, n^{-1} \sum_g (\sum_{i \in g} \psi_i) (\sum_{i \in g} \psi_i)^\top`.

    Attributes
    ----------
    by : str or array of shape (n,)
        Column of cluster labels, of any type, or the labels themselves.
    kind : {"CR1", "CR0", "CR1S"}
        Factor f for G clusters: 1 for CR0, :math:`G/(G-1)` for CR1, and :math:`G/(G-1) \cdot (n-1)/(n-p)`, that of
        Stata's regress, for CR1S. Names as in Pustejovsky & Tipton (2018, JBES 36).
    """

    by: Any
    kind: str = "CR1"

    def __post_init__(self) -> None:
        if self.kind not in _FACTORS:
            raise ValueError(f'unknown clustered covariance "{self.kind}"; use one of {list(_FACTORS)}.')

    @property
    def label(self) -> str:
        """Name for tables."""
        return f"{self.kind}({self.by if isinstance(self.by, str) else 'labels'})"

    @property
    def groups(self) -> tuple[Any, ...]:
        """The one set of labels."""
        return (self.by,)

    def meat(self, root: Root) -> Tensor:
        """Meat (p, p), or (R, p, p) for replicates."""
        n, p = root.n, root.theta.shape[-1]
        if self.kind == "CR1S" and n <= p:
            raise DataError(f"CR1S divides by n - p, but there are {n:g} observations and {p} parameters; use CR1.")
        if root.batched:
            return _batched_meat(root, self.by, _FACTORS[self.kind])
        sums = cluster_sums(root, self.by)
        return _FACTORS[self.kind](n, p, len(sums)) * (sums.mT @ sums) / n


def cluster_sums(root: Root, by: Any) -> Tensor:
    """Sum psi within clusters (G, p), in the order in which their labels first occur."""
    sums = torch.zeros(0, root.theta.shape[-1], dtype=root.theta.dtype, device=root.theta.device)
    for values, rows in root.blocks((by,)):
        missing = int(rows.codes[0].max()) + 1 - len(sums)
        if missing > 0:
            sums = torch.cat([sums, sums.new_zeros(missing, sums.shape[1])])
        sums.index_add_(0, rows.codes[0], values if rows.counts is None else rows.counts[:, None] * values)
    return sums


def _batched_meat(root: Root, by: Any, factor: Callable[[float, int, Any], Any]) -> Tensor:
    """Meat (R, p, p) of replicates whose labels are shared (n,) or their own (R, n)."""
    values = root.values()
    n, p = values.shape[-2:]
    codes = cluster_codes(root.problem.raw, by).to(values.device)
    if codes.shape not in (values.shape[:-1], values.shape[-2:-1]):
        raise DataError(f"cluster labels have shape {tuple(codes.shape)}; psi has {tuple(values.shape[:-1])} rows.")
    codes = codes.expand(values.shape[:-1])
    sums = values.new_zeros(*values.shape[:-2], int(codes.max()) + 1, p)
    sums.scatter_add_(-2, codes.unsqueeze(-1).expand(values.shape), values)
    present = torch.zeros(sums.shape[:-1], dtype=torch.bool, device=values.device).scatter_(-1, codes, value=True)
    scale = torch.as_tensor(factor(n, p, present.sum(-1).to(values.dtype)), dtype=values.dtype, device=values.device)
    return scale[..., None, None] * (sums.mT @ sums) / n
