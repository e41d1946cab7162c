r"""Bread, meat and mean of a psi, with what the jackknife over blocks of rows needs.

Rows are independent, so functions of the sums over rows have standard errors by leaving out one block at a time; two
such functions of the same rows, as the numerator and the denominator of an efficiency, share them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from scipy import special
from torch import Tensor

from eeqs.engine.door import as_problem, check_psi
from eeqs.engine.psi import EstimatingFunction

__all__ = ["BLOCKS", "Blocks", "Sums", "average", "block_sums", "false_alarm", "jackknife"]

BLOCKS = 20


@dataclass(frozen=True)
class Sums:
    """Means over rows of a psi and its derivatives.

    Attributes
    ----------
    mean : Tensor of shape (p,)
    bread, meat : Tensor of shape (p, p)
        Mean of d psi / d theta and of psi psi^T.
    with_score : Tensor of shape (p, p)
        Mean of psi s^T with a reference score s; of psi psi^T where there is none.
    """

    mean: Tensor
    bread: Tensor
    meat: Tensor
    with_score: Tensor


Blocks: TypeAlias = tuple[list[Sums], list[int]]


def block_sums(
    psi: EstimatingFunction, theta: Tensor, data: Mapping[str, Tensor], score: Tensor | None = None
) -> Blocks:
    """Means of psi at ``theta`` (p,) over each of `BLOCKS` blocks of rows, and the sizes of these.

    Parameters
    ----------
    psi : EstimatingFunction
    theta : Tensor of shape (p,)
    data : mapping of Tensor
        Columns, n rows each.
    score : Tensor of shape (n, p), optional
        Reference score of every row. A psi that jumps takes its bread from it, as minus the mean of psi s^T.
    """
    columns = {name: leaf.tensor_split(BLOCKS) for name, leaf in data.items() if name in (psi.columns or data)}
    found: list[Sums] = []
    sizes: list[int] = []
    for b in range(BLOCKS):
        problem = as_problem(psi, {name: parts[b] for name, parts in columns.items()})
        check_psi(problem, theta, equations=len(theta))
        values = problem.values(theta)
        own = values if score is None else score.tensor_split(BLOCKS)[b]
        with_score = values.mT @ own / len(values)
        bread = -with_score if psi.root is not None and score is not None else problem.jacobian(theta)
        found.append(Sums(values.mean(dim=0), bread, values.mT @ values / len(values), with_score))
        sizes.append(len(values))
    return found, sizes


def jackknife(function: Callable[..., Tensor], *blocks: Blocks) -> tuple[Tensor, Tensor]:
    """Value of a function of the means over all rows, and its standard error by leaving out a block at a time.

    Parameters
    ----------
    function : callable
        ``function(sums, ...) -> Tensor``, one argument for each of ``blocks``, which share their rows.
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
        mean([s.with_score for s in parts]),
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
