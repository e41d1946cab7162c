"""Proportional odds: ordered classes, cut from a logistic latent by increasing thresholds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from eeqs.marginal.layout import linear

__all__ = ["Ordered"]

_LINEAR = 40.0
# Below this log-gap, 1 - exp(-gap) is the gap to rounding, and the squared reciprocal of it may overflow.
_NARROW = -40.0


class Ordered(nn.Module):
    r"""Cumulative logit, :math:`P(y \le v \mid e) = \sigma(c_{v+1} - w^\top e)` with :math:`c_1 < \dots < c_{V-1}`.

    Parameters
    ----------
    weight : Tensor of shape (d,)
        The slope w, one for all thresholds: proportional odds.
    thresholds : Tensor of shape (V - 1,)
        Strictly increasing. Held as parameters ``first``, equal to :math:`c_1`, and ``log_gaps``, equal to
        :math:`\log(c_{v+1} - c_v)`, so that every value of them is in order.

    Raises
    ------
    ValueError
        If a shape does not fit, or the thresholds do not increase.

    Notes
    -----
    There is no intercept, since the thresholds contain it. With all of w and c free, the scale of noise along w is
    identified only by how a normal-logistic convolution differs from a logistic law; freeze w or c.

    References
    ----------
    McCullagh (1980) Journal of the Royal Statistical Society B 42.
    """

    def __init__(self, weight: Tensor, thresholds: Tensor) -> None:
        super().__init__()
        if weight.ndim != 1 or thresholds.ndim != 1 or not len(thresholds):
            raise ValueError(
                f"weight has shape {tuple(weight.shape)} and thresholds {tuple(thresholds.shape)}; pass (d,) and "
                "(V - 1,), one threshold at least."
            )
        gaps = thresholds.detach().diff()
        if not bool((gaps > 0).all()):
            raise ValueError(f"thresholds {thresholds.tolist()} do not increase strictly; sort and merge them.")
        self.dim, self.n_classes = len(weight), len(thresholds) + 1
        self.weight = nn.Parameter(weight.detach().clone())
        self.first = nn.Parameter(thresholds.detach()[0].clone())
        self.log_gaps = nn.Parameter(gaps.log())

    @property
    def thresholds(self) -> Tensor:
        """The thresholds (V - 1,)."""
        return self.first + functional.pad(self.log_gaps.exp().cumsum(0), (1, 0))

    def forward(self, e: Tensor) -> Tensor:
        r"""Log-probabilities (..., V) at embeddings ``e`` (..., d).

        .. math:: \sigma(b) - \sigma(a) = \sigma(b)\, \sigma(-a)\, (1 - e^{a - b}),

        a product, whose logarithm keeps its digits in both tails.
        """
        index = linear(e, self.weight.expand(self.n_classes, -1))  # the same for every class, in the layout of V
        upper = functional.pad(self.thresholds, (0, 1), value=torch.inf)
        lower = functional.pad(self.thresholds, (1, 0), value=-torch.inf)
        log_width = functional.pad(_log_one_minus_exp_of_minus_exp(self.log_gaps), (1, 1))
        # log sigma(x) = -softplus(-x), which beyond its threshold is linear to the last bit.
        below, above = (functional.softplus(x, threshold=_LINEAR) for x in (index - upper, lower - index))
        return log_width - below - above


def _log_one_minus_exp_of_minus_exp(log_gap: Tensor) -> Tensor:
    wide = log_gap.clamp_min(_NARROW).exp()
    return torch.where(log_gap < _NARROW, log_gap, (-torch.expm1(-wide)).log())
