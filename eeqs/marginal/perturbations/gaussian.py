r"""Gaussian noise with a learnable scale, one for all coordinates or one a coordinate."""

from __future__ import annotations

from torch import Tensor, nn

from eeqs.marginal.arguments import Numbers, check_dim, numbers
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["Gaussian"]


class Gaussian(nn.Module):
    r"""Additive Gaussian noise, :math:`g(e, z) = e + \sigma \odot z`.

    Parameters
    ----------
    dim : int
        Embedding dimension d; the latent has the same.
    log_scale : float, sequence of float or Tensor, optional
        :math:`\log \sigma`. A number makes the noise isotropic with one parameter ``log_scale``; d numbers make it
        diagonal with parameters ``log_scale[0]``, ..., ``log_scale[d-1]``. Zero unless ``scale`` is given.
    scale : float, sequence of float or Tensor, optional
        :math:`\sigma` itself instead, non-negative: the parametrisation in which :math:`\sigma = 0` is a point like
        any other, for inference at that boundary. The parameters are then ``scale``.

    Raises
    ------
    ValueError
        If both parametrisations are given, the shape is neither one number nor d, or a scale is negative.

    Notes
    -----
    ``scale = 0`` and ``log_scale = -inf`` are the identity. In log_scale the gradient is zero there, so an optimiser
    neither reaches it in finitely many steps nor leaves it. In scale the map is linear, hence its derivative is
    finite; the law depends on :math:`|\sigma|` only, so the score is odd in scale and vanishes at zero (THEORY T5).

    References
    ----------
    Bishop (1995) Neural Computation 7, training with noise; Cen et al. (2026, arXiv 2605.13284) learn the scale.
    """

    latent_law: LatentLaw = STANDARD_NORMAL
    log_scale: nn.Parameter | None
    scale: nn.Parameter | None

    def __init__(self, dim: int, log_scale: Numbers | None = None, *, scale: Numbers | None = None) -> None:
        super().__init__()
        if log_scale is not None and scale is not None:
            raise ValueError("log_scale and scale are both given; they parametrise the same noise, pass one.")
        self.dim = self.latent_dim = check_dim(dim)
        if scale is None:
            self.log_scale = nn.Parameter(numbers("log_scale", 0.0 if log_scale is None else log_scale, dim, log=True))
            self.register_parameter("scale", None)
            return
        value = numbers("scale", scale, dim)
        if bool((value < 0).any()):
            raise ValueError(f"scale contains {float(value.min())}; a standard deviation is at least 0.")
        self.scale = nn.Parameter(value)
        self.register_parameter("log_scale", None)

    def sigma(self) -> Tensor:
        """Return the standard deviation of the noise, () or (d,); its sign is free once ``scale`` is estimated."""
        if self.log_scale is not None:
            return self.log_scale.exp()
        assert self.scale is not None  # noqa: S101 - one of the two is there
        return self.scale

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., d); leading axes broadcast."""
        return prefix + self.sigma() * z
