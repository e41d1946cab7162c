r"""Random convex combinations of neighbouring token embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from eeqs.marginal.arguments import Numbers, numbers
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["Hull"]

# Squared distances held at once in the search of neighbours: 64 MiB in float32.
_BLOCK = 2**24


class Hull(nn.Module):
    r"""Random mixture of the k nearest rows :math:`t_1, \dots, t_k` of an embedding table, nearest first.

    .. math:: g(e, z) = \sum_j w_j t_j, \quad
       w = \mathrm{softmax}\big(a_j - \|e - t_j\|^2 e^{-\mathrm{log\_temperature}} + e^{\mathrm{log\_scale}} z_j\big).

    The result lies in the convex hull of the table. With normal z the weights are logistic-normal.

    Parameters
    ----------
    table : Tensor of shape (V, d)
        Token embeddings: a buffer, not a parameter.
    neighbours : int
        Number k of rows, 2 to V; the latent has dimension k.
    log_weight : float, sequence of float or Tensor
        :math:`a_2, \dots, a_k`, relative to :math:`a_1 = 0`: k - 1 numbers, or one for all.
    log_scale, log_temperature : float
    law : LatentLaw
        Of z. With ``LOG_EXPONENTIAL``, scale one and equal weights at infinite temperature, w is Dirichlet(1, ..., 1).

    Raises
    ------
    ValueError
        If the table is not a finite matrix or has fewer than k rows, or a shape does not fit.

    Notes
    -----
    ``log_weight = -inf`` is the identity on rows of the table; it moves any other vector to the row nearest to it. The
    map is smooth in its parameters, and in e as long as the neighbours and their order stay the same: it jumps where
    they change. Neighbours are found in blocks, so memory never holds all V distances of all prefixes.

    References
    ----------
    Aitchison & Shen (1980) Biometrika 67, logistic-normal laws; Zhou et al. (2021, ACL) for Dirichlet neighbourhoods.
    """

    table: Tensor

    def __init__(
        self,
        table: Tensor,
        neighbours: int,
        *,
        log_weight: Numbers = 0.0,
        log_scale: float = 0.0,
        log_temperature: float = 0.0,
        law: LatentLaw = STANDARD_NORMAL,
    ) -> None:
        super().__init__()
        if table.ndim != 2 or table.numel() == 0 or not bool(table.isfinite().all()):
            raise ValueError(f"table has shape {tuple(table.shape)}; pass (V, d) finite embeddings.")
        if not 2 <= neighbours <= len(table):
            raise ValueError(f"neighbours is {neighbours}; pass 2 to {len(table)}, the rows of the table.")
        self.dim, self.latent_dim, self.latent_law = table.shape[1], neighbours, law
        self.register_buffer("table", table.detach().clone())
        self.log_weight = nn.Parameter(numbers("log_weight", log_weight, neighbours - 1, expand=True, log=True))
        self.log_scale = nn.Parameter(numbers("log_scale", log_scale, 1, log=True).reshape(()))
        self.log_temperature = nn.Parameter(numbers("log_temperature", log_temperature, 1).reshape(()))

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., k); leading axes broadcast."""
        rows = self.table[self.nearest(prefix)].to(prefix.dtype)
        return torch.einsum("...k,...kd->...d", self._weights(prefix, rows, z), rows)

    def weights(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Return the weights (..., k) of the rows that `nearest` names: at least zero, and one in sum."""
        return self._weights(prefix, self.table[self.nearest(prefix)].to(prefix.dtype), z)

    @torch.no_grad()
    def nearest(self, prefix: Tensor) -> Tensor:
        """Find the indices (..., k) of the nearest rows of the table, nearest first."""
        # The expanded square loses half the digits; bfloat16 has none to lose.
        wide = torch.promote_types(prefix.dtype, torch.float32)
        table = self.table.to(wide)
        half_norm = 0.5 * table.square().sum(dim=-1)
        block = max(1, _BLOCK // len(table))
        found = [
            (half_norm - vectors @ table.mT).topk(self.latent_dim, largest=False).indices
            for vectors in prefix.to(wide).reshape(math.prod(prefix.shape[:-1]), self.dim).split(block)
        ]
        return torch.cat(found).reshape(*prefix.shape[:-1], self.latent_dim)

    def _weights(self, prefix: Tensor, rows: Tensor, z: Tensor) -> Tensor:
        distance = (prefix[..., None, :] - rows).square().sum(dim=-1)
        log_weight = torch.cat([self.log_weight.new_zeros(1), self.log_weight])
        # Only differences of distances count; taken first, they leave z its digits in low precision.
        score = log_weight - (distance - distance[..., :1]) * (-self.log_temperature).exp()
        return torch.softmax(score + self.log_scale.exp() * z, dim=-1)
