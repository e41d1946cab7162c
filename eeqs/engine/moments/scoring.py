r"""Fisher scoring for starting values of regressions whose score equations mislead Newton's method from afar.

A step of scoring is always uphill on the likelihood, so halving it until the likelihood grows leads to a maximum from
anywhere; the norm of the score, which a root finder follows, has minima that are not roots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Curve", "ascend"]

_STEPS, _HALVINGS = 50, 12
# Growth of the log-likelihood at which the last digits are left to the solver.
_GROWTH = 1e-6


class Curve(NamedTuple):
    """Log-likelihood of every row up to a constant, its slope along the index, and its expected curvature, (..., n)."""

    value: Tensor
    slope: Tensor
    weight: Tensor


def ascend(curve: Callable[[Tensor], Curve], design: Tensor, offset: Tensor, theta: Tensor) -> Tensor:
    """Climb from ``theta`` (..., p) close to the maximum of the likelihood, for one data set or replicates.

    Parameters
    ----------
    curve : callable
        ``curve(index) -> Curve`` for the linear index (..., n); a value that is NaN is outside the model.
    design : Tensor of shape (..., n, p)
    offset : Tensor of shape (..., n)
    theta : Tensor of shape (..., p)

    References
    ----------
    McCullagh & Nelder (1989) Generalized Linear Models, section 2.5.
    """

    def at(point: Tensor) -> tuple[Tensor, Curve]:
        rows = curve((design @ point.unsqueeze(-1)).squeeze(-1) + offset)
        return rows.value.sum(dim=-1, keepdim=True).nan_to_num(nan=-torch.inf), rows

    height, rows = at(theta)
    for _ in range(_STEPS):
        step = _scoring_step(rows, design)
        for _ in range(_HALVINGS):
            trial, trial_rows = at(theta + step)
            higher = trial > height
            if bool(higher.all()):
                break
            step = torch.where(higher, step, step / 2)
        growth = torch.where(higher, trial - height, 0.0)
        theta = torch.where(higher, theta + step, theta)
        height, rows = torch.where(higher, trial, height), Curve(*map(torch.where, [higher] * 3, trial_rows, rows))
        if bool((growth <= _GROWTH).all()):
            break
    return theta


def _scoring_step(rows: Curve, design: Tensor) -> Tensor:
    """Score (..., p) over expected information, by the pseudo-inverse in the units of the columns."""
    information = design.mT @ (rows.weight.unsqueeze(-1) * design)
    size = information.diagonal(dim1=-2, dim2=-1).sqrt()
    size = torch.where(size > 0, size, 1.0)
    scaled = information / size.unsqueeze(-1) / size.unsqueeze(-2)
    score = (design.mT @ rows.slope.unsqueeze(-1)).squeeze(-1) / size
    return (torch.linalg.pinv(scaled, hermitian=True) @ score.unsqueeze(-1)).squeeze(-1) / size
