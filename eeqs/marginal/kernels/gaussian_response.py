"""A continuous response with normal errors about any mean function."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["GaussianResponse"]


class GaussianResponse(nn.Module):
    r"""Normal response, :math:`y \mid e \sim N(\mu(e), s^2)`.

    Parameters
    ----------
    dim : int
        Embedding dimension d.
    mean : torch.nn.Module
        The function :math:`\mu`, from (..., d) to (...) or (..., 1), such as a `Network` with one output.
    log_scale : float or Tensor of shape ()
        Log of s; ``-inf`` for a response without noise of its own, which has no density but can be simulated.

    Raises
    ------
    TypeError
        If ``mean`` is not a module.
    ValueError
        If ``dim`` is not positive or ``log_scale`` is not one number.

    Notes
    -----
    A nonlinear mean of a perturbed embedding, :math:`y = \mu(e + \sigma z) + s u`, fitted by the energy score is the
    pre-additive noise model of engression, which says something beyond the support of e; noise added to y does not.

    References
    ----------
    Shen & Meinshausen (2024) Journal of the Royal Statistical Society B (engression).
    """

    n_classes: None = None
    noise_law: LatentLaw = STANDARD_NORMAL

    def __init__(self, dim: int, mean: nn.Module, log_scale: float | Tensor = 0.0) -> None:
        super().__init__()
        if not isinstance(mean, nn.Module):
            raise TypeError(f"mean is a {type(mean).__name__}; pass a torch module from (..., {dim}) to (...).")
        value = torch.as_tensor(log_scale, dtype=torch.float64).detach().clone()
        if dim < 1 or value.ndim:
            raise ValueError(f"dim is {dim} and log_scale has shape {tuple(value.shape)}; pass dim >= 1 and a number.")
        self.dim = dim
        self.mean = mean
        self.log_scale = nn.Parameter(value)

    def location(self, e: Tensor) -> Tensor:
        """Means (...) at embeddings ``e`` (..., d)."""
        mean: Tensor = self.mean(e)
        return mean.reshape(e.shape[:-1])

    def log_density(self, e: Tensor, y: Tensor) -> Tensor:
        """Log-density (...) of responses ``y`` (...) at embeddings ``e`` (..., d); leading axes broadcast."""
        return normal_log_density(y - self.location(e), self.log_scale)

    def response(self, e: Tensor, u: Tensor) -> Tensor:
        """Responses (...) made from standard normal ``u`` (...), in which they increase; leading axes broadcast."""
        return self.location(e) + self.log_scale.exp() * u


def normal_log_density(residual: Tensor, log_scale: Tensor) -> Tensor:
    """Log-density of N(0, exp(2 log_scale)) at ``residual``."""
    return -0.5 * (residual * (-log_scale).exp()).square() - log_scale - 0.5 * math.log(2 * math.pi)
