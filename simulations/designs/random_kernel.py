r"""Softmax kernels on features of the truth and random ones, one kernel a replicate, all evaluated at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from eeqs.marginal.layout import log_normalise

__all__ = ["RandomKernel"]


class RandomKernel(NamedTuple):
    r"""The features of R kernels of capacity m.

    .. math:: p_\theta(y = v \mid e) \propto \exp \{\theta_v^\top h(e)\}, \qquad
              h(e) = \bigl( k^{-1/2} \tanh(B e),\ (2 / m)^{1/2} (W^\top e + b)_+ \bigr),

    with entries of W and b from N(0, 1 / d) and N(0, 1 / 4). The k units of B are those of the truth, which is
    therefore in the model whatever m; the m random features are what over-fits.

    Attributes
    ----------
    inner : Tensor of shape (k, d)
        B.
    weight : Tensor of shape (R, d, m)
    bias : Tensor of shape (R, 1, m)

    References
    ----------
    Rahimi & Recht (2007) Advances in Neural Information Processing Systems 20.
    """

    inner: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def draw(cls, inner: Tensor, width: int, generators: list[torch.Generator]) -> RandomKernel:
        """Draw m = ``width`` random features of one kernel a generator, beside the units ``inner`` (k, d).

        Raises
        ------
        ValueError
            If the width is not positive.
        """
        if width < 1:
            raise ValueError(f"width is {width}; use one feature or more.")
        dim = inner.shape[1]
        normals = torch.stack([torch.randn(dim + 1, width, generator=generator) for generator in generators])
        return cls(inner.float(), normals[:, :-1] / dim**0.5, normals[:, -1:] / 2)

    def to(self, device: torch.device | str) -> RandomKernel:
        """Move the features to a device."""
        return RandomKernel(*(part.to(device) for part in self))

    def log_p(self, theta: Tensor, x: Tensor, scale: Tensor, z: Tensor) -> Tensor:
        """Log-probabilities of the classes at ``x + scale * z``.

        Parameters
        ----------
        theta : Tensor of shape (R, V, k + m)
        x : Tensor of shape (R, n, d)
        scale : Tensor of shape (R,)
        z : Tensor of shape (R, K, n, d)

        Returns
        -------
        Tensor of shape (K, R * n, V)
            As a surrogate loss takes them, the observations of all replicates in one row.
        """
        e = (x[:, None] + scale[:, None, None, None] * z).flatten(1, 2)
        known = (e @ self.inner.mT).tanh() / self.inner.shape[0] ** 0.5
        random = torch.baddbmm(self.bias, e, self.weight).relu() * (2 / self.bias.shape[-1]) ** 0.5
        own, rest = theta.split([known.shape[-1], random.shape[-1]], dim=-1)
        logits = own @ known.mT + rest @ random.mT
        observations_last = logits.unflatten(-1, z.shape[1:3]).permute(2, 1, 0, 3).flatten(2)
        return log_normalise(observations_last.mT)
