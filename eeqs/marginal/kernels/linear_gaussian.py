"""Linear regression with normal errors, whose marginal under normal noise is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eeqs.marginal.kernels.gaussian_response import GaussianResponse, normal_log_density

__all__ = ["LinearGaussian"]


class _LinearMean(nn.Module):
    def __init__(self, weight: Tensor, bias: float | Tensor) -> None:
        super().__init__()
        start = torch.as_tensor(bias, dtype=weight.dtype).detach().clone()
        if weight.ndim != 1 or start.ndim:
            raise ValueError(
                f"weight has shape {tuple(weight.shape)} and bias {tuple(start.shape)}; pass (d,) and a number."
            )
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(start)

    def forward(self, e: Tensor) -> Tensor:
        return e @ self.weight + self.bias


class LinearGaussian(GaussianResponse):
    r"""Linear mean, :math:`y \mid e \sim N(w^\top e + b, s^2)`.

    Parameters
    ----------
    weight : Tensor of shape (d,)
        Parameter ``mean.weight``.
    bias : float or Tensor of shape ()
        Parameter ``mean.bias``.
    log_scale : float or Tensor of shape ()
        Log of s.

    Raises
    ------
    ValueError
        If a shape does not fit.

    Notes
    -----
    Only :math:`s^2 + w^\top \Sigma w` enters the marginal under noise of constant covariance :math:`\Sigma`: of the
    noise and s, freeze one.
    """

    mean: _LinearMean

    def __init__(self, weight: Tensor, bias: float | Tensor = 0.0, log_scale: float | Tensor = 0.0) -> None:
        mean = _LinearMean(weight, bias)
        super().__init__(len(mean.weight), mean, log_scale)

    def marginal_log_density(self, prefix: Tensor, y: Tensor, covariance: Tensor) -> Tensor:
        r"""Log-density of y when the embedding is normal about ``prefix``.

        .. math:: y \sim N(w^\top x + b,\; s^2 + w^\top \Sigma w) \quad\text{for}\quad e \sim N(x, \Sigma).

        Parameters
        ----------
        prefix : Tensor of shape (..., d)
            Mean x of the perturbed embedding.
        y : Tensor of shape (...)
        covariance : Tensor of shape (..., d, d)
            :math:`\Sigma`, positive semi-definite: :math:`\sigma^2 I` for isotropic noise, :math:`L L^\top` for noise
            of low rank.

        Returns
        -------
        Tensor of shape (...)
        """
        w = self.mean.weight
        variance = (2 * self.log_scale).exp() + (covariance @ w) @ w
        return normal_log_density(y - self.location(prefix), 0.5 * variance.log())
