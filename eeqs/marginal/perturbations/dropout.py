r"""Bernoulli dropout of coordinates, or masking of whole tokens, at a learnable rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eeqs.marginal.arguments import Numbers, check_dim, numbers
from eeqs.marginal.laws import LOGISTIC, LatentLaw

__all__ = ["Dropout"]


class Dropout(nn.Module):
    r"""Relaxed Bernoulli gates k, :math:`g(e, z) = s k \odot e + (1 - s k) \odot m`.

    .. math:: k = \mathrm{sigmoid}\big((z - \mathrm{log\_odds}) / \tau\big), \qquad z \text{ standard logistic},

    so that a gate is more shut than open with probability :math:`\pi = \mathrm{sigmoid}(\mathrm{log\_odds})`.

    Parameters
    ----------
    dim : int
        Embedding dimension d.
    rate : float, sequence of float or Tensor
        Start of the probability :math:`\pi` of dropping, 0 <= rate < 1: one for all, or d for gates of coordinates.
        The parameter is ``log_odds``.
    temperature : float
        :math:`\tau`. At zero gates are 0 or 1, and log_odds is a buffer: the gradient does not pass through a step,
        whose derivative is zero almost everywhere, so the psi of the rate would be zero at every value.
    per_token : bool
        One gate for the whole vector (token masking, latent dimension 1) instead of one a coordinate (d).
    mask : Tensor of shape (d,), optional
        What a dropped vector becomes, m; zero by default. A buffer.
    inverted : bool
        Scale by :math:`s = 1 / (1 - \pi)`, which keeps the mean at e for hard gates (nearly, for relaxed ones); s = 1
        otherwise.

    Raises
    ------
    ValueError
        If a rate, a shape or the temperature is out of range.

    Notes
    -----
    ``rate = 0`` is the identity.

    References
    ----------
    Srivastava et al. (2014) Journal of Machine Learning Research 15; Maddison, Mnih & Teh (2017) ICLR, the binary
    concrete law; Gal, Hron & Kendall (2017) learn its rate.
    """

    latent_law: LatentLaw = LOGISTIC
    mask: Tensor

    def __init__(
        self,
        dim: int,
        rate: Numbers = 0.1,
        *,
        temperature: float = 0.5,
        per_token: bool = False,
        mask: Tensor | None = None,
        inverted: bool = False,
    ) -> None:
        super().__init__()
        self.dim = check_dim(dim)
        self.latent_dim = 1 if per_token else dim
        given = numbers("rate", rate, self.latent_dim)
        if bool(((given < 0) | (given >= 1)).any()) or not 0 <= temperature < torch.inf:
            raise ValueError(f"rate is {rate} and temperature {temperature}; pass 0 <= rate < 1 and temperature >= 0.")
        self.temperature, self.inverted = temperature, inverted
        if temperature > 0:
            self.log_odds = nn.Parameter(given.logit())
        else:
            self.register_buffer("log_odds", given.logit())
        self.register_buffer("mask", numbers("mask", 0.0 if mask is None else mask, dim, expand=True))

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., d), or (..., 1) per token; leading axes broadcast."""
        excess = z - self.log_odds
        keep = (excess / self.temperature).sigmoid() if self.temperature > 0 else (excess > 0).to(excess.dtype)
        if self.inverted:
            keep = keep * (1 + self.log_odds.exp())
        return keep * prefix + (1 - keep) * self.mask
