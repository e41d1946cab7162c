r"""The logarithm of a simulated mixture without its bias, by a randomised level."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from eeqs.marginal.random_cost.score import Block, RandomCostScore

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["multilevel"]


def multilevel(base: int = 4, *, rate: float = 1.5) -> RandomCostScore:
    r"""Log of the simulated mixture plus one randomly chosen term of its bias, weighted by the chance of that term.

    With :math:`\bar p_K` the mean of :math:`p(y \mid z_k)` over K independent draws and b = ``base``,

    .. math:: \log q = E \log \bar p_b + \sum_{l \ge 0} E \Delta_l, \qquad
              \Delta_l = \log \bar p_{2^{l+1} b} - \tfrac12 (\log \bar p'_{2^l b} + \log \bar p''_{2^l b})
              = \log\cosh \tfrac12 (\log \bar p' - \log \bar p''),

    where the primes are the two halves of the same draws (antithetic, so that :math:`\Delta_l` is of second order). One
    level L is drawn with :math:`P(L = l) = (1 - 2^{-r})\, 2^{-r l}`, r = ``rate``, and :math:`\Delta_L / P(L)` has the
    sum as its mean. The first term averages :math:`\log \bar p_b` over the disjoint runs of b draws in level L.

    Parameters
    ----------
    base : int
        Draws b of the lowest term. Variance falls faster than 1 / b at first: the level corrects a smaller bias.
    rate : float
        Between 1, below which the mean cost is infinite, and 2, above which the variance is:
        :math:`E \Delta_l^2` is of order :math:`4^{-l}`.

    Returns
    -------
    RandomCostScore
        Unbiased for -log q and its gradient at every parameter, with mean cost
        :math:`2 b (1 - 2^{-r}) / (1 - 2^{1-r})` (4.4 b for r = 1.5). The cost has no variance: P(cost > c) is of order
        :math:`c^{-r}`, so of n observations the dearest takes some :math:`n^{1/r}\, b` draws, held at once.

    Raises
    ------
    ValueError
        If ``base`` is not positive or ``rate`` is not strictly between 1 and 2.

    Notes
    -----
    The order of :math:`\Delta_l` supposes that :math:`p(y \mid z) / q(y)` is not often near zero for all draws of a
    half; otherwise the variance is large, and a larger base pays. Log-probabilities must be finite.

    References
    ----------
    Rhee & Glynn (2015) Operations Research 63, the single-term estimator; Blanchet & Glynn (2015) Winter Simulation
    Conference, for functions of means with antithetic halves; Luo et al. (2020) ICLR, for log-likelihoods.
    """
    if base < 1:
        raise ValueError(f"base is {base}; average over at least one draw.")
    if not 1 < rate < 2:
        raise ValueError(
            f"rate is {rate}; pass 1 < rate < 2: at 1 and below the mean cost is infinite, at 2 and above the variance."
        )

    def sampler(
        model: Marginal, prefix: Tensor, y: Tensor, generator: torch.Generator, _theta: Tensor | None, most: int
    ) -> Iterator[Block]:
        level = _levels(len(y), rate, generator, y.device)
        for chosen in level.unique().tolist():
            size, probability = base * 2 ** (chosen + 1), (1 - 2**-rate) * 2 ** (-rate * chosen)
            loss = partial(_debiased_loss, base=base, probability=probability)
            for rows in (level == chosen).nonzero()[:, 0].split(max(1, most // size)):
                yield Block(rows, model.draw(prefix[rows], size, generator), torch.full_like(rows, size), loss)

    return RandomCostScore(
        "multilevel",
        r"-\overline{\log \bar p_b} - \Delta_L / P(L)",
        r"2 b (1 - 2^{-r}) / (1 - 2^{1-r})",
        sampler,
    )


def _levels(n: int, rate: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """Levels (n,) with P(L >= l) = 2^(-rate l), by inversion of a uniform number in (0, 1]."""
    u = 1 - torch.rand(n, generator=generator, dtype=torch.float64, device=device)
    return (-u.log2() / rate).floor().long()


def _debiased_loss(log_p: Tensor, *, base: int, probability: float) -> Tensor:
    """Loss (b,) from the log-probabilities (2^(L+1) base, b) of one level, whose probability is given."""
    lowest = log_p.unflatten(0, (-1, base)).logsumexp(dim=1) - math.log(base)
    first, second = log_p.unflatten(0, (2, -1)).logsumexp(dim=1)
    gap = first - second
    # log cosh(gap / 2). The softplus is exact beyond 40, and smooth at zero, which an absolute value would not be.
    correction = functional.softplus(gap, threshold=40.0) - gap / 2 - math.log(2)
    return -lowest.mean(dim=0) - correction / probability
