"""Refits of one data set under many sets of row weights, for the jackknife and the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.covariance.root import Root
from eeqs.engine.errors import DataError, PsiError, Status
from eeqs.engine.evaluate import Problem
from eeqs.engine.linalg import invert
from eeqs.engine.psi import EstimatingFunction
from eeqs.engine.solve import solve_problem
from eeqs.engine.tree import map_tree
from eeqs.engine.weights import weight

__all__ = ["Units", "refit", "units"]

# Numbers in psi or in one weighted design of a chunk of refits: 4 MiB, which stay in cache.
_CHUNK_NUMBERS = 2**19

# Mean of psi, in standard errors, up to which theta is a root.
_ROOT_DISTANCE = 1e-3
# Newton step, relative to theta, at a root where psi vanishes for every row.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Units:
    """What is left out or drawn: rows or clusters.

    Attributes
    ----------
    codes : Tensor of shape (n,)
        Unit of every row.
    sizes : Tensor of shape (G,)
        How many equal units each stands for: the frequency weights of rows, one for clusters that have observations.
    counts : Tensor of shape (n,)
        Frequency weight of every row, one without them.
    """

    codes: Tensor
    sizes: Tensor
    counts: Tensor

    def row_weights(self, drawn: Tensor) -> Tensor:
        """Weights (R, n) of the rows from how often each unit is drawn (R, G)."""
        share = drawn / torch.where(self.sizes > 0, self.sizes, 1.0)
        return share[:, self.codes] * self.counts

    def sums(self, values: Tensor) -> Tensor:
        """Sum values (n, p) within one unit each (G, p)."""
        counted = (self.counts / self.sizes[self.codes].clamp_min(1))[:, None] * values
        return values.new_zeros(len(self.sizes), values.shape[1]).index_add_(0, self.codes, counted)


def units(root: Root, by: Any) -> Units:
    """Rows, or clusters of the labels ``by``, of data in memory."""
    blocks = list(root.problem.blocks(() if by is None else (by,)))
    ones = [torch.ones(rows.n, dtype=torch.float64, device=root.theta.device) for rows in blocks]
    counts = torch.cat([one if rows.counts is None else rows.counts for one, rows in zip(ones, blocks, strict=True)])
    if by is None:
        return Units(torch.arange(len(counts), device=counts.device), counts, counts)
    codes = torch.cat([rows.codes[0] for rows in blocks])
    observations = counts.new_zeros(int(codes.max()) + 1).index_add_(0, codes, counts)
    return Units(codes, (observations > 0).to(counts), counts)


def refit(root: Root, count: int, weights: Callable[[int, int], Tensor]) -> tuple[Tensor, tuple[Status, ...]]:
    """Solve again from the root theta under ``count`` sets of weights.

    Parameters
    ----------
    root : Root
    count : int
    weights : callable
        ``weights(start, stop) -> (stop - start, n)``, asked for in order.

    Returns
    -------
    theta : Tensor of shape (count, p)
    status : tuple of Status

    Notes
    -----
    A psi whose rows are weighted one by one is solved for many sets of weights at once, in chunks, on data that all of
    them share. A psi with a root finder of its own, in numpy, or whose rows depend on each other is solved on one
    resampled data set after the other, which takes whole-number weights.
    """
    psi, n, p = root.problem.psi, root.problem.n, len(root.theta)
    _check_root(root)
    together = psi.root is None and psi.separable and not psi.numerical
    size = max(1, _CHUNK_NUMBERS // (n * p))
    shared = _shared(psi) if together else psi
    thetas, statuses = [], []
    for start in range(0, count, size):
        drawn = weights(start, min(start + size, count))
        if together:
            problem = _Reweighted(shared, (drawn, root.problem.data), n, len(drawn), root.problem.device)
            solution = solve_problem(problem, root.theta.expand(len(drawn), p))
            thetas.append(solution.theta)
            statuses.extend(solution.status)
        else:
            for subset in _resampled(root.problem, drawn):
                solution = solve_problem(subset, root.theta)
                thetas.append(solution.theta[None])
                statuses.append(solution.status)
    return torch.cat(thetas), tuple(statuses)


def _check_root(root: Root) -> None:
    """Raise where theta is no root, for refits would not spread around it: under a restriction, for instance."""
    if root.problem.psi.root is not None:  # the mean of a step function does not vanish at its root
        return
    at = root.problem.moments(root.theta, jacobian=False)
    distance = np.abs(at.mean / np.where(at.rms > 0, at.rms, 1)).max() * root.n**0.5
    size = root.bread.abs().amax(0)
    step = invert(root.bread, root.names) @ torch.from_numpy(at.mean).to(root.theta)
    perfect = bool(torch.linalg.vector_norm(size * step) <= _ROUNDING * torch.linalg.vector_norm(size * root.theta))
    if not (distance <= _ROOT_DISTANCE or perfect):  # where psi vanishes for every row, so do its standard errors
        raise DataError(
            f"refits spread around a root, and at this theta the mean of psi is {distance:.3g} standard errors from "
            "zero; pass the estimate, or a covariance without refits."
        )


class _Reweighted(Problem):
    """Replicates that share their data and differ in their weights: data is (weights (R, n), shared)."""

    def _map(self, function: Callable[[Tensor, Any], Tensor]) -> Callable[[Tensor, Any], Tensor]:
        return torch.func.vmap(function, in_dims=(0, (0, None)))

    def rows(self, keep: Tensor) -> Problem:
        weights, shared = self.data
        return replace(self, data=(weights.index_select(0, keep), shared), replicates=len(keep))


def _shared(psi: EstimatingFunction) -> EstimatingFunction:
    """Weighted psi of prepared data (weights, data)."""
    weighted = weight(replace(psi, counts=None), "")
    closed = None if weighted.linear is None or psi.penalty is not None else weighted.linear.mean_jacobian
    return replace(weighted, mean_jacobian=closed)


def _resampled(problem: Problem, weights: Tensor) -> Iterator[Problem]:
    """Yield data sets in which every row occurs as often as its weight says."""
    if bool((weights != weights.round()).any()):
        raise PsiError("this psi takes no weights, so rows can only be drawn whole; use weights=multinomial.")
    if problem.psi.counts is not None or (not problem.psi.separable and bool((weights > 1).any())):
        raise PsiError(
            "rows of this psi depend on each other, so a row that is drawn twice or has a frequency weight would be "
            "taken for a neighbour of itself; use Jackknife without frequency weights."
        )
    for row in weights:
        chosen = torch.repeat_interleave(torch.arange(problem.n, device=problem.device), row.long())
        data = map_tree(lambda leaf: leaf.index_select(0, chosen), problem.data)  # noqa: B023 - called at once
        yield Problem(problem.psi, data, len(chosen), None, problem.device)
