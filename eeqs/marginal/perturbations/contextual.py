r"""Gaussian noise whose scale depends on the embedding it perturbs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["Contextual"]


class Contextual(nn.Module):
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
    """

    latent_law: LatentLaw = STANDARD_NORMAL
    entries: Tensor

    def __init__(
        self,
        dim: int,
        bias: float | Sequence[float] | Tensor = 0.0,
        weight: float | Sequence[float] | Tensor = 0.0,
        depends_on: Sequence[Sequence[bool]] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim is {dim}; an embedding has at least one dimension.")
        mask = torch.ones(dim, dim, dtype=torch.bool) if depends_on is None else torch.as_tensor(depends_on)
        if mask.dtype != torch.bool or mask.shape != (dim, dim):
            raise ValueError(
                f"depends_on is {mask.dtype} of shape {tuple(mask.shape)}; pass booleans of shape ({dim}, {dim})."
            )
        self.dim = self.latent_dim = dim
        self.register_buffer("entries", mask.flatten().nonzero()[:, 0])
        self.bias = nn.Parameter(_fill("bias", bias, dim))
        self.weight = nn.Parameter(_fill("weight", weight, len(self.entries)))

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., d); leading axes broadcast."""
        matrix = self.weight.new_zeros(self.dim**2).scatter(0, self.entries, self.weight)
        log_scale = self.bias + prefix @ matrix.reshape(self.dim, self.dim).mT
        return prefix + log_scale.exp() * z

    def parameter_labels(self) -> dict[str, tuple[str, ...]]:
        """Name each weight by its row and column in ``depends_on``."""
        cells = [divmod(entry, self.dim) for entry in self.entries.tolist()]
        return {"weight": tuple(f"weight[{j},{k}]" for j, k in cells)}


def _fill(name: str, value: float | Sequence[float] | Tensor, size: int) -> Tensor:
    given = torch.as_tensor(value, dtype=torch.float64).detach()
    if given.shape not in ((), (size,)):
        raise ValueError(f"{name} has shape {tuple(given.shape)}; pass one number or {size} of them.")
    return given.expand(size).clone()
