r"""Location-scale noise that may also shift and stretch the embedding."""

from __future__ import annotations

from torch import Tensor, nn

from eeqs.marginal.arguments import Numbers, check_dim, numbers
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["Affine"]


class Affine(nn.Module):
    r"""Location-scale map, :math:`g(e, z) = a \odot e + b + e^{\mathrm{log\_scale}} \odot z`.

    Parameters
    ----------
    dim : int
        Embedding dimension d; the latent has the same.
    log_scale, shift, slope : float, sequence of float or Tensor
        :math:`\log \sigma`, b and a: one number each for all coordinates, or d numbers. A number is one parameter.

    Raises
    ------
    ValueError
        If a value is neither a number nor d numbers.

    Notes
    -----
    ``log_scale = -inf`` with ``shift = 0`` and ``slope = 1`` is the identity. A kernel that is linear in e and free
    absorbs slope and shift: freeze it, or they are not identified.

    References
    ----------
    Lehmann & Casella (1998) Theory of Point Estimation, section 1.4, group families.
    """

    latent_law: LatentLaw = STANDARD_NORMAL

    def __init__(self, dim: int, log_scale: Numbers = 0.0, shift: Numbers = 0.0, slope: Numbers = 1.0) -> None:
        super().__init__()
        self.dim = self.latent_dim = check_dim(dim)
        self.log_scale = nn.Parameter(numbers("log_scale", log_scale, dim, log=True))
        self.shift = nn.Parameter(numbers("shift", shift, dim))
        self.slope = nn.Parameter(numbers("slope", slope, dim))

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., d); leading axes broadcast."""
        return self.slope * prefix + self.shift + self.log_scale.exp() * z
