r"""Links of generalised linear models: a mean :math:`\mu(\eta)` and its derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Link", "identity", "inverse", "log"]


@dataclass(frozen=True)
class Link:
    r"""The mean as a function of the linear index.

    Attributes
    ----------
    mean : callable
        :math:`\mu(\eta)`.
    slope : callable
        :math:`d\mu / d\eta`.
    index : callable
        :math:`\eta(\mu)`, the link itself, for starting values.
    """

    mean: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    index: Callable[[Tensor], Tensor]


log = Link(torch.exp, torch.exp, torch.log)
inverse = Link(torch.reciprocal, lambda eta: -eta.reciprocal().square(), torch.reciprocal)
identity = Link(lambda eta: eta, torch.ones_like, lambda mean: mean)
