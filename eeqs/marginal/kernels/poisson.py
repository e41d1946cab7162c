"""Counts with a log-linear rate, the largest ones in one class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eeqs.marginal.layout import linear
from eeqs.marginal.poisson_tail import log_poisson_tail

__all__ = ["Poisson"]

# A rate of 2e17: beyond it every class but the last has probability zero in any precision, while here the squares of
# derivatives still fit into float32.
_MOST_LOG_RATE = 40.0


class Poisson(nn.Module):
    r"""Log-linear Poisson counts, :math:`y = \min(Y, V - 1)` with :math:`Y \mid e \sim \mathrm{Poisson}(\lambda)`.

    .. math:: \log \lambda = w^\top e + b

    Classes 0 to V - 2 are counts and the last class is "V - 1 or more", so that every score that sums over classes
    applies. With V = 2 this is the complementary log-log model.

    Parameters
    ----------
    weight : Tensor of shape (d,)
    bias : float or Tensor of shape ()
        The log-rate b at e = 0.
    n_classes : int
        Number of classes V, at least 2; code a count y as ``min(y, n_classes - 1)``.

    Raises
    ------
    ValueError
        If a shape does not fit or there are fewer than two classes.

    Notes
    -----
    Noise of scale s along w multiplies the rate by a log-normal variable: overdispersion, which identifies s beside a
    free slope. Log-rates above 40 are held there, with slope zero. Probabilities are computed in float32 or better.

    References
    ----------
    Cameron & Trivedi (2013) Regression Analysis of Count Data, sections 3.2 and 4.2.
    """

    def __init__(self, weight: Tensor, bias: float | Tensor = 0.0, *, n_classes: int) -> None:
        super().__init__()
        start = torch.as_tensor(bias, dtype=weight.dtype).detach().clone()
        if weight.ndim != 1 or start.ndim:
            raise ValueError(
                f"weight has shape {tuple(weight.shape)} and bias {tuple(start.shape)}; pass (d,) and a number."
            )
        if n_classes < 2:
            raise ValueError(f"n_classes is {n_classes}; there are two classes at least, 0 and more.")
        self.dim, self.n_classes = len(weight), n_classes
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(start)

    def forward(self, e: Tensor) -> Tensor:
        """Log-probabilities (..., V) at embeddings ``e`` (..., d)."""
        # The same log-rate for every class, in the layout of V.
        index = linear(e, self.weight.expand(self.n_classes, -1)) + self.bias
        log_rate = index.clamp_max(_MOST_LOG_RATE).to(torch.promote_types(index.dtype, torch.float32))
        count = torch.arange(self.n_classes, device=e.device, dtype=log_rate.dtype)
        last = log_rate[..., -1:]
        log_p = count * log_rate - last.exp() - (count + 1).lgamma()
        top = self.n_classes - 1
        return torch.where(count == top, log_poisson_tail(last, top), log_p).to(index.dtype)
