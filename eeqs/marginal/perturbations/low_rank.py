r"""Correlated Gaussian noise through a factor of its covariance."""

from __future__ import annotations

from torch import Tensor, nn

from eeqs.marginal.arguments import check_dim
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw
from eeqs.marginal.layout import linear

__all__ = ["LowRank"]


class LowRank(nn.Module):
    r"""Noise in r directions, :math:`g(e, z) = e + L z`, with covariance :math:`\Sigma = L L^\top`.

    Parameters
    ----------
    factor : Tensor of shape (d, r)
        Start of L; ``0.3 * torch.eye(d)`` starts as isotropic noise. The latent has dimension r, which may exceed d.

    Raises
    ------
    ValueError
        If ``factor`` is not a matrix of finite numbers, with both sizes positive.

    Notes
    -----
    A factor of zeros is the identity, and a stationary point of the likelihood. L is identified up to a rotation of the
    latent only: :math:`L Q` with orthogonal Q gives the same law, so for r >= 2 the expected bread is singular along
    the tangents of these rotations (in a sample only nearly so), and along more directions where r exceeds the rank
    of :math:`\Sigma`. `eeqs.marginal.noise_covariance.noise_covariance` estimates `covariance`, which is identified.

    References
    ----------
    Anderson & Rubin (1956) on the identification of factor models; Ong, Nott & Smith (2018) for low-rank Gaussians.
    """

    latent_law: LatentLaw = STANDARD_NORMAL

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        if factor.ndim != 2 or factor.numel() == 0 or not bool(factor.isfinite().all()):
            raise ValueError(f"factor has shape {tuple(factor.shape)}; pass (d, r) finite numbers, d and r positive.")
        self.dim, self.latent_dim = check_dim(factor.shape[0]), factor.shape[1]
        self.factor = nn.Parameter(factor.detach().double().clone())

    def covariance(self) -> Tensor:
        r"""Covariance :math:`\Sigma = L L^\top` of the noise, (d, d)."""
        return self.factor @ self.factor.mT

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., r); leading axes broadcast."""
        return prefix + linear(z, self.factor)
