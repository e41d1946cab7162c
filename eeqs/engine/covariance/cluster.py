"""Meat of observations that are dependent within clusters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.covariance.leverage import inverse_power, leverages, row_jacobians
from eeqs.engine.covariance.root import Root
from eeqs.engine.data import cluster_codes
from eeqs.engine.errors import DataError

__all__ = ["Cluster", "GroupSums", "cluster_jacobians", "cluster_sums", "small_sample_factor"]

# Small-sample factor of the meat, from n observations, p parameters and G groups.
_FACTORS: dict[str, Callable[[float, int, Any], Any]] = {
    "CR0": lambda n, p, groups: 1.0,  # noqa: ARG005
    "CR1": lambda n, p, groups: groups / (groups - 1),  # noqa: ARG005
    "CR1S": lambda n, p, groups: groups / (groups - 1) * (n - 1) / (n - p),
}
# Power of (I - H_g)^-1 that multiplies the sums of psi.
_POWERS = {"CR2": 0.5, "CR3": 1.0}


@dataclass(frozen=True)
class Cluster:
    r"""Clusters g: :math:`B = f\, n^{-1} \sum_g \tilde\psi_g \tilde\psi_g^\top`, sums of psi within clusters.

    Attributes
    ----------
    by : str or array of shape (n,)
        Column of cluster labels, of any type, or the labels themselves.
    kind : {"CR1", "CR0", "CR1S", "CR2", "CR3"}
        :math:`\tilde\psi_g = \psi_g = \sum_{i \in g} \psi_i` with, for G clusters, the factor f = 1 for CR0,
        :math:`G/(G-1)` for CR1, and :math:`G/(G-1) \cdot (n-1)/(n-p)`, that of Stata's regress, for CR1S. CR2 and CR3
        have f = 1 and :math:`\tilde\psi_g = (I - H_g)^{-1/2} \psi_g` and :math:`(I - H_g)^{-1} \psi_g`, with the
        leverage :math:`H_g = n^{-1} (\sum_{i \in g} \partial \psi_i / \partial \theta) A^{-1}`. Names as in
        Pustejovsky & Tipton (2018, JBES 36).

    Notes
    -----
    In least squares CR2 is the estimator of Bell & McCaffrey (2002, Survey Methodology 28) with independent
    homoskedastic errors as the working model, exactly unbiased under it, and CR3 times (G - 1)/G is the
    leave-one-cluster-out jackknife; for any other smooth psi both are the same to first order. They need the (p, p)
    Jacobian of every cluster. With frequency weights every kind is that of the rows repeated.

    Raises
    ------
    ValueError
        If the kind is unknown.
    DataError
        From `meat`: unusable labels; CR1S without more observations than parameters; CR2 and CR3 with a cluster that
        alone identifies a parameter (as a fixed effect of the cluster does), and for replicates.
    PsiError
        From `meat`: CR2 and CR3 of a step function.
    """

    by: Any
    kind: str = "CR1"

    def __post_init__(self) -> None:
        if self.kind not in _FACTORS and self.kind not in _POWERS:
            raise ValueError(f'unknown clustered covariance "{self.kind}"; use one of {[*_FACTORS, *_POWERS]}.')

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
        if self.kind in _POWERS:
            sums = self._adjusted_sums(root)
            return sums.mT @ sums / root.n
        factor = small_sample_factor(self.kind, root)
        if root.batched:
            return _batched_meat(root, self.by, factor)
        sums = cluster_sums(root, self.by)
        return factor(len(sums)) * (sums.mT @ sums) / root.n

    def _adjusted_sums(self, root: Root) -> Tensor:
        root.require_one_data_set(self.kind)
        sums, jacobians = cluster_jacobians(root, self.by)
        matrices, scale = leverages(root, jacobians)
        powers = inverse_power(matrices, _POWERS[self.kind], lambda g: root.cluster_name(self.by, g))
        return (powers @ (scale * sums)[:, :, None])[:, :, 0] / scale


def small_sample_factor(kind: str, root: Root) -> Callable[[Any], Any]:
    """Return the factor of CR0, CR1 or CR1S as a function of the number of clusters."""
    n, p = root.n, root.theta.shape[-1]
    if kind == "CR1S" and n <= p:
        raise DataError(f"CR1S divides by n - p, but there are {n:g} observations and {p} parameters; use CR1.")
    return lambda groups: _FACTORS[kind](n, p, groups)


def cluster_sums(root: Root, by: Any) -> Tensor:
    """Sum psi within clusters (G, p), in the order in which their labels first occur."""
    sums = GroupSums(root)
    for values, rows in root.blocks((by,)):
        sums.add(rows.codes[0], values, rows.counts)
    return sums.present()


class GroupSums:
    """Sums of psi within groups, over blocks of rows; a last column counts the observations."""

    def __init__(self, root: Root) -> None:
        self._sums = root.theta.new_zeros(0, root.theta.shape[-1] + 1)

    def add(self, codes: Tensor, values: Tensor, counts: Tensor | None) -> None:
        """Add a block of rows (b, p) to the groups of its codes (b,)."""
        each = torch.ones_like(values[:, 0]) if counts is None else counts
        self._sums = _add_by_code(self._sums, codes, torch.cat([each[:, None] * values, each[:, None]], 1))

    def present(self) -> Tensor:
        """Return the sums (G, p) of groups with observations, which all weights zero leave without."""
        sums = self._sums[self._sums[:, -1] > 0, :-1]
        if len(sums) < 2:
            raise DataError("only one cluster has frequency weights above zero; clustering needs at least two.")
        return sums


def cluster_jacobians(root: Root, by: Any) -> tuple[Tensor, Tensor]:
    """Sum psi (G, p) and its Jacobians (G, p, p) within clusters."""
    p, groups = root.theta.shape[-1], 0
    sums, totals = root.theta.new_zeros(0, p), root.theta.new_zeros(0, p, p)
    for values, jacobians, rows in row_jacobians(root, (by,)):
        counts = torch.ones_like(values[:, 0]) if rows.counts is None else rows.counts
        sums = _add_by_code(sums, rows.codes[0], counts[:, None] * values)
        totals = _add_by_code(totals, rows.codes[0], counts[:, None, None] * jacobians)
        groups = max(groups, int(rows.codes[0].max()) + 1)
    return sums[:groups], totals[:groups]


def _add_by_code(sums: Tensor, codes: Tensor, values: Tensor) -> Tensor:
    """Add values (b, ...) to the rows of sums that codes (b,) name, in place; new codes append rows, and spare ones."""
    missing = int(codes.max()) + 1 - len(sums)
    if missing > 0:  # at least doubling keeps the copies from growing with the number of blocks
        sums = torch.cat([sums, sums.new_zeros(max(missing, len(sums)), *sums.shape[1:])])
    return sums.index_add_(0, codes, values)


def _batched_meat(root: Root, by: Any, factor: Callable[[Any], Any]) -> Tensor:
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
    scale = torch.as_tensor(factor(present.sum(-1).to(values.dtype)), dtype=values.dtype, device=values.device)
    return scale[..., None, None] * (sums.mT @ sums) / n
