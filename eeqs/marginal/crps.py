r"""Surrogate loss of the energy score, for a response that can be simulated.

.. math:: \mathrm{ES}(F, y) = E\,|y - Y| - \tfrac12 E\,|Y - Y'|, \qquad Y, Y' \sim F \text{ independent},

which in one dimension is the continuous ranked probability score. It needs no density.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["energy_loss"]


def energy_loss(simulated: Tensor, y: Tensor, group_size: int = 1) -> Tensor:
    r"""Unbiased estimate of the energy score, one an observation, from K simulated responses in G groups of m.

    .. math:: \frac1K \sum_k |y - y_k| - \frac{1}{2 K (K - m)} \sum_{g \ne h} \sum_{j \in g,\, k \in h} |y_j - y_k|

    Parameters
    ----------
    simulated : Tensor of shape (K, n)
        Responses simulated from latents and noise held fixed, so that their gradient is that of the simulator; draws
        of a group one after the other.
    y : Tensor of shape (n,)
    group_size : int
        Draws m in a group. Groups are independent of each other; the draws in one may be dependent (antithetic,
        quasi-Monte Carlo), so only pairs across groups enter. With m = 1 these are all pairs.

    Returns
    -------
    Tensor of shape (n,)
        Value and gradient have the energy score and its gradient as expectations, at every parameter. At ties the
        gradient of an absolute difference is zero. The cost is O(K log K).

    Raises
    ------
    ValueError
        If K is not a multiple of ``group_size``, there are fewer than two groups, or the shapes do not agree.

    References
    ----------
    Gneiting & Raftery (2007) Journal of the American Statistical Association 102; Shen & Meinshausen (2024).
    """
    K = simulated.shape[0] if simulated.ndim else 0
    if group_size < 1 or K % group_size or 2 * group_size > K:
        raise ValueError(
            f"{K} simulated responses in groups of {group_size}; the energy score needs two whole groups at least, "
            "independent of each other."
        )
    if simulated.shape[1:] != y.shape:
        raise ValueError(f"simulated has shape {tuple(simulated.shape)}; pass (K, n) for y of shape {tuple(y.shape)}.")
    pairs = _pair_sum(simulated)
    if group_size > 1:
        pairs = pairs - _pair_sum(simulated.unflatten(0, (-1, group_size)).movedim(1, 0)).sum(dim=0)
    return (simulated - y).abs().mean(dim=0) - pairs / (K * (K - group_size))


def _pair_sum(x: Tensor) -> Tensor:
    r"""Compute :math:`\sum_{j < k} |x_j - x_k| = \sum_i (2 i - K - 1)\, x_{(i)}` over the first axis (Gini)."""
    K = x.shape[0]
    # Sorted forwards and backwards, tied values change places: on average each has the middle rank of its tie.
    increasing = (x.sort(dim=0, stable=True).values + x.flip(0).sort(dim=0, stable=True).values) / 2
    rank = torch.arange(1 - K, K, 2, dtype=x.dtype, device=x.device)
    return torch.tensordot(rank, increasing, dims=1)
