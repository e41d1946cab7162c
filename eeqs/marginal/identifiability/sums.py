r"""Bread, meat and mean of a psi, with what the jackknife over blocks of embeddings needs.

Where classes are few, the expectation over the response is taken exactly: every class is a row, weighted by its
probability. What is left are the embeddings and the draws, over which functions of the sums have standard errors by
leaving out one block at a time; numerator and denominator of an efficiency share their embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from scipy import special
from torch import Tensor

from eeqs.engine.derivative import jacobian_of_mean
from eeqs.engine.door import as_problem, check_psi
from eeqs.engine.psi import EstimatingFunction

__all__ = ["BLOCKS", "Blocks", "Sample", "Sums", "average", "block_sums", "false_alarm", "jackknife"]

BLOCKS = 20


@dataclass(frozen=True)
class Sums:
    """Means over rows of a psi and its derivatives.

    Attributes
    ----------
    mean : Tensor of shape (p,)
    bread, meat : Tensor of shape (p, p)
        Mean of d psi / d theta and of psi psi^T.
    with_score : Tensor of shape (p, p) or None
        Mean of psi s^T with the exact score s.
    """

    mean: Tensor
    bread: Tensor
    meat: Tensor
    with_score: Tensor | None

    @property
    def slope(self) -> Tensor:
        r"""Bread by the identity :math:`A = -E\, \psi s^\top` where there is an exact score, which is less noisy."""
        return self.bread if self.with_score is None else -self.with_score


Blocks: TypeAlias = tuple[list[Sums], list[int]]


@dataclass(frozen=True)
class Sample:
    """Embeddings with the responses that each may have, and their probabilities.

    Attributes
    ----------
    prefix : Tensor of shape (n, d)
    y, weight : Tensor of shape (n, c)
        All classes with their probabilities, or one simulated response with weight one.
    score : Tensor of shape (n, c, p) or None
        Exact score of every response.
    """

    prefix: Tensor
    y: Tensor
    weight: Tensor
    score: Tensor | None = None

    def columns(self, z: Tensor | None) -> dict[str, Tensor]:
        """Columns of the n c rows, with draws (n, ...) that all responses of an embedding share."""
        width = self.y.shape[1]
        rows = {"x": self.prefix.repeat_interleave(width, dim=0), "y": self.y.flatten()}
        return rows if z is None else {**rows, "z": z.repeat_interleave(width, dim=0)}

    def split(self) -> list[Sample]:
        """Cut into `BLOCKS` blocks of embeddings."""
        scores = [None] * BLOCKS if self.score is None else self.score.tensor_split(BLOCKS)
        leaves = (leaf.tensor_split(BLOCKS) for leaf in (self.prefix, self.y, self.weight))
        return [Sample(x, y, weight, score) for x, y, weight, score in zip(*leaves, scores, strict=True)]


def block_sums(
    psi: EstimatingFunction, theta: Tensor, sample: Sample, z: Tensor | None, *, differentiate: bool = True
) -> Blocks:
    """Means of psi at ``theta`` (p,) over each of `BLOCKS` blocks of embeddings, and the sizes of these.

    Not to ``differentiate`` saves most of the time where there is an exact score; the bread is then the `Sums.slope`,
    as it is for a psi that jumps.
    """
    draws = [None] * BLOCKS if z is None else z.tensor_split(BLOCKS)
    found = [_sums(psi, theta, part, own, differentiate) for part, own in zip(sample.split(), draws, strict=True)]
    return found, [len(part.prefix) for part in sample.split()]


def _sums(psi: EstimatingFunction, theta: Tensor, sample: Sample, z: Tensor | None, differentiate: bool) -> Sums:
    weight = sample.weight.flatten() / len(sample.prefix)
    problem = as_problem(psi, sample.columns(z))
    check_psi(problem, theta, equations=len(theta))
    values = problem.values(theta)
    weighted = weight[:, None] * values
    with_score = None if sample.score is None else weighted.mT @ sample.score.flatten(0, 1)
    if with_score is not None and (psi.root is not None or not differentiate):
        bread = -with_score
    else:
        bread = jacobian_of_mean(psi.psi, theta, problem.data, weight)
    return Sums(weighted.sum(dim=0), bread, weighted.mT @ values, with_score)


def jackknife(function: Callable[..., Tensor], *blocks: Blocks) -> tuple[Tensor, Tensor]:
    """Value of a function of the means over all rows, and its standard error by leaving out a block at a time.

    Parameters
    ----------
    function : callable
        ``function(sums, ...) -> Tensor``, one argument for each of ``blocks``, which share their embeddings.
    """
    whole = function(*(average(parts, sizes) for parts, sizes in blocks))
    without = torch.stack([function(*(average(*_left_out(b, *pair)) for pair in blocks)) for b in range(BLOCKS)])
    return whole, np.sqrt(BLOCKS - 1) * without.std(dim=0, correction=0)


def _left_out(b: int, parts: list[Sums], sizes: list[int]) -> Blocks:
    return parts[:b] + parts[b + 1 :], sizes[:b] + sizes[b + 1 :]


def average(parts: list[Sums], sizes: list[int]) -> Sums:
    """Means over all rows, from those of blocks of different sizes."""
    share = torch.tensor(sizes, dtype=torch.float64, device=parts[0].mean.device) / sum(sizes)

    def mean(values: list[Tensor]) -> Tensor:
        return torch.tensordot(share, torch.stack(values), dims=1)

    return Sums(
        mean([s.mean for s in parts]),
        mean([s.bread for s in parts]),
        mean([s.meat for s in parts]),
        None if parts[0].with_score is None else mean([s.with_score for s in parts if s.with_score is not None]),
    )


def false_alarm(value: Tensor, error: Tensor) -> float:
    """P-value of all entries being zero: Bonferroni over t tests with one degree of freedom less than blocks."""
    varies = error > 0
    if bool((value[~varies] != 0).any()):
        return 0.0
    if not bool(varies.any()):
        return 1.0
    largest = float((value[varies] / error[varies]).abs().max())
    return min(1.0, 2 * int(varies.sum()) * float(special.stdtr(BLOCKS - 1, -largest)))
