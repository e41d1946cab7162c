r"""Gaussian noise whose scale depends on the embedding it perturbs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eeqs.marginal.arguments import Numbers, check_dim, numbers
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["LogLinear"]


class LogLinear(nn.Module):
    r"""Log-linear noise scale, :math:`g(e, z)_j = e_j + \exp(b_j + \sum_k w_{jk} e_k)\, z_j`.

    The scale at a position depends on the embedding of that position only, so the map is causal.

    Parameters
    ----------
    dim : int
        Embedding dimension d; the latent has the same.
    bias : float, sequence of float or Tensor
        Log-scale at e = 0: d numbers, or one for all.
    weight : float, sequence of float or Tensor
        The weights that exist, in row-major order of ``depends_on``, or one value for all.
    depends_on : array of bool of shape (d, d), optional
        Entry (j, k) says whether the scale of coordinate j depends on coordinate k; everything on everything by
        default. Only the True entries are parameters, named ``weight[j,k]``.

    Raises
    ------
    ValueError
        If a shape does not fit ``dim`` or the number of True entries.

    Notes
    -----
    ``bias = -inf`` is the identity. The scale is log-linear without a bound: it overflows where the log-scale exceeds
    the largest exponent of the dtype (709 in float64, 88 in float32).

    References
    ----------
    Harvey (1976) Econometrica 44, multiplicative heteroscedasticity.
    """

    latent_law: LatentLaw = STANDARD_NORMAL
    entries: Tensor

    def __init__(
        self,
        dim: int,
        bias: Numbers = 0.0,
        weight: Numbers = 0.0,
        depends_on: Sequence[Sequence[bool]] | Tensor | None = None,
    ) -> None:
        super().__init__()
        self.dim = self.latent_dim = check_dim(dim)
        mask = torch.ones(dim, dim, dtype=torch.bool) if depends_on is None else torch.as_tensor(depends_on)
        if mask.dtype != torch.bool or mask.shape != (dim, dim):
            raise ValueError(
                f"depends_on is {mask.dtype} of shape {tuple(mask.shape)}; pass booleans of shape ({dim}, {dim})."
            )
        self.register_buffer("entries", mask.flatten().nonzero()[:, 0])
        self.bias = nn.Parameter(numbers("bias", bias, dim, expand=True, log=True))
        self.weight = nn.Parameter(numbers("weight", weight, len(self.entries), expand=True))

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., d); leading axes broadcast."""
        matrix = self.weight.new_zeros(self.dim**2).scatter(0, self.entries, self.weight)
        log_scale = self.bias + prefix @ matrix.reshape(self.dim, self.dim).mT
        return prefix + log_scale.exp() * z

    def parameter_labels(self) -> dict[str, tuple[str, ...]]:
        """Name each weight by its row and column in ``depends_on``."""
        cells = [divmod(entry, self.dim) for entry in self.entries.tolist()]
        return {"weight": tuple(f"weight[{j},{k}]" for j, k in cells)}
