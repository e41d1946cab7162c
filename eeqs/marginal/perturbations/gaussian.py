r"""Gaussian noise with a learnable scale, one for all coordinates or one a coordinate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["Gaussian"]


class Gaussian(nn.Module):
    r"""Additive Gaussian noise, :math:`g(e, z) = e + e^{\mathrm{log\_scale}} \odot z`.

    Parameters
    ----------
    dim : int
        Embedding dimension d; the latent has the same.
    log_scale : float, sequence of float or Tensor
        A number makes the noise isotropic with one parameter ``log_scale``; d numbers make it diagonal with
        parameters ``log_scale[0]``, ..., ``log_scale[d-1]``. Stored in float64; move it with ``.to(dtype)``.

    Raises
    ------
    ValueError
        If ``log_scale`` is neither a number nor d numbers.

    Notes
    -----
    ``log_scale = -inf`` is the identity. The gradient in log_scale is zero there, so it is a boundary that an
    optimiser neither reaches in finitely many steps nor leaves. Fixed-scale noise of this form in the embeddings is
    NEFTune (Jain et al. 2024); a learnable scale is due to Cen et al. (2026, arXiv 2605.13284).
    """

    latent_law: LatentLaw = STANDARD_NORMAL

    def __init__(self, dim: int, log_scale: float | Sequence[float] | Tensor = 0.0) -> None:
        super().__init__()
        value = torch.as_tensor(log_scale, dtype=torch.float64).detach().clone()
        if dim < 1 or value.shape not in ((), (dim,)):
            raise ValueError(f"log_scale has shape {tuple(value.shape)}; pass one number, or {dim} for dim = {dim}.")
        self.dim = self.latent_dim = dim
        self.log_scale = nn.Parameter(value)

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., d); leading axes broadcast."""
        return prefix + self.log_scale.exp() * z
