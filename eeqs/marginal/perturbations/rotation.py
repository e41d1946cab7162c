r"""Random rotation of the embedding: its length stays, its direction moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eeqs.marginal.arguments import check_dim, numbers
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["Rotation"]

# Below this squared angle the series of cosine and sine over angle, to their sixth terms, is exact to rounding.
_SMALL = 1e-2


class Rotation(nn.Module):
    r"""Exponential map on the sphere of a Gaussian tangent vector v.

    .. math:: g(e, z) = \cos(|v|)\, e + \frac{\sin |v|}{|v|}\, |e|\, v, \quad
       v = e^{\mathrm{log\_scale}} (I - u u^\top) z, \quad u = e / |e|.

    Parameters
    ----------
    dim : int
        Embedding dimension d, two at least; the latent has the same.
    log_scale : float
        The angle, the norm of v, has root mean square ``exp(log_scale) * sqrt(d - 1)``; keep it well below pi, beyond
        which the map wraps round the sphere and the scale is no longer identified.

    Raises
    ------
    ValueError
        If ``dim`` is below two or ``log_scale`` not a number.

    Notes
    -----
    ``log_scale = -inf`` is the identity, and e = 0 stays 0. For a small scale the direction is nearly von Mises-Fisher
    with concentration ``exp(-2 * log_scale)``: both are Gaussian on the tangent space. The map is homogeneous in e and
    smooth in everything but at e = 0, where the norm has no derivative; the one computed there is finite.

    References
    ----------
    Mardia & Jupp (2000) Directional Statistics, section 9.3.
    """

    latent_law: LatentLaw = STANDARD_NORMAL

    def __init__(self, dim: int, log_scale: float = 0.0) -> None:
        super().__init__()
        self.dim = self.latent_dim = check_dim(dim, least=2)
        self.log_scale = nn.Parameter(numbers("log_scale", log_scale, 1, log=True).reshape(()))

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., d); leading axes broadcast."""
        square = prefix.square().sum(dim=-1, keepdim=True)
        length = torch.where(square > 0, square, 1).sqrt()
        unit = prefix / length
        v = self.log_scale.exp() * (z - unit * (unit * z).sum(dim=-1, keepdim=True))
        cosine, sinc = _cosine_and_sinc(v.square().sum(dim=-1, keepdim=True))
        return cosine * prefix + sinc * torch.where(square > 0, length, 0) * v


def _cosine_and_sinc(square: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine over angle as functions of the squared angle, with every derivative at zero."""
    small = square < _SMALL
    angle = torch.where(small, 1, square).sqrt()
    # Terms of alternating sign, nested: 1 - s/2 (1 - s/12 (1 - s/30 (1 - ...))), and the same for the sinc.
    cosine = sinc = torch.ones_like(square)
    for m in (10, 8, 6, 4, 2):
        cosine = 1 - square / (m * (m - 1)) * cosine
        sinc = 1 - square / (m * (m + 1)) * sinc
    return torch.where(small, cosine, angle.cos()), torch.where(small, sinc, angle.sin() / angle)
