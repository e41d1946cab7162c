"""Meat of observations that are dependent along two dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.covariance.cluster import GroupSums, small_sample_factor
from eeqs.engine.covariance.root import Root
from eeqs.engine.errors import DataError

__all__ = ["TwoWay"]

# Negative eigenvalue, relative to the variance of one-way clustering, that is more than rounding.
_NEGATIVE = -1e-9
# A pair of codes, each below this, is one integer.
_MOST_CODES = 2**31


@dataclass(frozen=True)
class TwoWay:
    r"""Two sets of clusters, by inclusion and exclusion: :math:`B = f_1 B_1 + f_2 B_2 - f_{12} B_{12}`.

    Every term is the meat of one-way clustering, by ``by1``, by ``by2`` and by their intersections, with the
    small-sample factor of its own number of clusters (Cameron, Gelbach & Miller 2011, JBES 29).

    Attributes
    ----------
    by1, by2 : str or array of shape (n,)
        Columns of cluster labels, or the labels.
    kind : {"CR1", "CR0", "CR1S"}
        Factor, as in `Cluster`.
    intersection : bool
        Subtract the third term. Without it, :math:`f_1 B_1 + f_2 B_2` is never negative and conservative (Davezies,
        D'Haultfoeuille & Guyonvarch 2021, Annals of Statistics 49).

    Raises
    ------
    ValueError
        If the kind is unknown.
    DataError
        From `meat`: unusable labels, replicates, or a difference that is not positive semi-definite, so that some
        combination of the parameters would have a negative variance. It is not repaired: setting eigenvalues to zero
        gives an answer that depends on the units of the columns.
    """

    by1: Any
    by2: Any
    kind: str = "CR1"
    intersection: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ("CR0", "CR1", "CR1S"):
            raise ValueError(f'unknown two-way covariance "{self.kind}"; use CR0, CR1 or CR1S.')

    @property
    def label(self) -> str:
        """Name for tables."""
        names = [by if isinstance(by, str) else "labels" for by in self.groups]
        return f"{self.kind}({(' and ' if self.intersection else ' plus ').join(names)})"

    @property
    def groups(self) -> tuple[Any, ...]:
        """Two sets of labels."""
        return (self.by1, self.by2)

    def meat(self, root: Root) -> Tensor:
        """Meat (p, p)."""
        root.require_one_data_set(self.label)
        factor = small_sample_factor(self.kind, root)
        first, second, both = (factor(len(sums)) * (sums.mT @ sums) / root.n for sums in _sums(root, self.groups))
        if not self.intersection:
            return first + second
        difference = first + second - both
        self._check(root, difference, first + second)
        return difference

    def _check(self, root: Root, difference: Tensor, upper: Tensor) -> None:
        unit = upper.diagonal().sqrt()
        unit = torch.where(unit > 0, unit, 1.0)
        values, vectors = torch.linalg.eigh(difference / unit[:, None] / unit)
        if float(values[0]) < _NEGATIVE:
            share = vectors[:, 0].abs()
            involved = [name for name, part in zip(root.names, share.tolist(), strict=True) if part > 0.1 * share.max()]
            raise DataError(
                f"two-way clustering by {self.label} gives a negative variance in the equations of "
                f"{', '.join(involved)}: too few clusters, or fixed effects of one of the two. Use "
                "TwoWay(..., intersection=False), which is conservative, or Cluster by the larger dependence."
            )


def _sums(root: Root, groups: tuple[Any, ...]) -> list[Tensor]:
    """Sum psi within the clusters of both sets and of their intersections, in one pass."""
    sums = [GroupSums(root) for _ in range(3)]
    known: dict[int, int] = {}
    for values, rows in root.blocks(groups):
        codes = (*rows.codes, _pair_codes(rows.codes[0], rows.codes[1], known))
        for one, code in zip(sums, codes, strict=True):
            one.add(code, values, rows.counts)
    return [one.present() for one in sums]


def _pair_codes(first: Tensor, second: Tensor, known: dict[int, int]) -> Tensor:
    """Code (b,) of every pair of codes; ``known`` carries them from block to block."""
    pairs, inverse = torch.unique(first * _MOST_CODES + second, return_inverse=True)
    table = [known.setdefault(pair, len(known)) for pair in pairs.tolist()]
    return torch.tensor(table, device=first.device)[inverse]
