r"""Noise that is uniform in a ball: a fixed design."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eeqs.marginal.arguments import check_dim
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["UniformBall"]


class UniformBall(nn.Module):
    r"""Uniform noise in a ball of radius r, :math:`g(e, z) = e + r\, (z_1, \dots, z_d) / |z|`.

    The latent z has d + 2 dimensions: the first d coordinates of a uniform point on the sphere of
    :math:`\mathbb{R}^{d+2}` are uniform in the unit ball.

    Parameters
    ----------
    dim : int
        Embedding dimension d; the latent has dimension d + 2.
    radius : float
        A buffer, not a parameter: this is a design to compare with, and nothing in it is learnt.

    Raises
    ------
    ValueError
        If ``radius`` is negative or not finite.

    Notes
    -----
    ``radius = 0`` is the identity. The noise has covariance :math:`r^2 / (d + 2)\, I`.

    References
    ----------
    Barthe, Guédon, Mendelson & Naor (2005) Annals of Probability 33, for the projection; Harman & Lacko
    (2010) Journal of Multivariate Analysis 101, for sampling.
    """

    latent_law: LatentLaw = STANDARD_NORMAL
    radius: Tensor

    def __init__(self, dim: int, radius: float) -> None:
        super().__init__()
        if not 0 <= radius < torch.inf:
            raise ValueError(f"radius is {radius}; pass a finite number that is at least 0.")
        self.dim, self.latent_dim = check_dim(dim), dim + 2
        self.register_buffer("radius", torch.tensor(radius, dtype=torch.float64))

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., d + 2); leading axes broadcast."""
        square = z.square().sum(dim=-1, keepdim=True)
        # z = 0 has probability zero, but can be a node of a quadrature rule.
        return prefix + self.radius * z[..., : self.dim] * torch.where(square > 0, square, 1).rsqrt()
