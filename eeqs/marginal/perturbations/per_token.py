r"""Gaussian noise with a scale of its own at every position of a sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eeqs.marginal.arguments import Numbers, check_dim, numbers
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["PerToken"]


class PerToken(nn.Module):
    r"""Noise scale of the position, :math:`g(e, z)_t = e_t + \exp(\mathrm{log\_scale}_t)\, z_t`.

    Parameters
    ----------
    dim : int
        Embedding dimension d; the latent has the same at every position.
    positions : int
        Longest sequence T. A shorter one uses the first scales, so cutting it off changes nothing before the cut.
        With one position the family is isotropic noise and takes plain vectors (..., d) as well.
    log_scale : float, sequence of float or Tensor
        A number for all positions, or one a position; parameters ``log_scale[0]``, ..., ``log_scale[T-1]`` either way.

    Raises
    ------
    ValueError
        If a size is not positive, a shape does not fit, or a sequence is longer than ``positions``.

    Notes
    -----
    ``log_scale = -inf`` is the identity. A position that no observation reaches has a scale that nothing identifies.

    References
    ----------
    Cen et al. (2026, arXiv 2605.13284).
    """

    latent_law: LatentLaw = STANDARD_NORMAL

    def __init__(self, dim: int, positions: int, log_scale: Numbers = 0.0) -> None:
        super().__init__()
        if positions < 1:
            raise ValueError(f"positions is {positions}; a sequence has at least one.")
        self.dim = self.latent_dim = check_dim(dim)
        self.positions, self.sequence = positions, positions > 1
        self.log_scale = nn.Parameter(numbers("log_scale", log_scale, positions, expand=True, log=True))

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., T, d) by ``z`` (..., T, d); leading axes broadcast."""
        if self.positions == 1:
            return prefix + self.log_scale.exp() * z
        lead = torch.broadcast_shapes(prefix.shape[:-1], z.shape[:-1])
        if not lead or lead[-1] > self.positions:
            raise ValueError(
                f"prefix has shape {tuple(prefix.shape)}; scales for {self.positions} positions need "
                f"(..., T, {self.dim}) with T at most {self.positions}."
            )
        return prefix + self.log_scale[: lead[-1], None].exp() * z
