r"""Gaussian noise whose scale and centre a small network reads off the prefix so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from eeqs.marginal.arguments import Numbers, check_dim, numbers
from eeqs.marginal.context import causal_context, context_size
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw
from eeqs.marginal.network import Network

__all__ = ["Contextual"]


class Contextual(nn.Module):
    r"""Heteroscedastic noise, :math:`g(e, z) = e + b(c) + \exp(s(c)) \odot z` with a network :math:`(s, b)`.

    Its argument, the context c, is the embedding :math:`e_t`; for sequences also the mean of the embeddings up to t.

    Parameters
    ----------
    dim : int
        Embedding dimension d; the latent has the same.
    hidden : sequence of int
        Units of each hidden layer; an empty one makes s and b linear.
    generator : torch.Generator
        Draws the hidden weights, see `eeqs.marginal.network.Network.random`.
    log_scale : float, sequence of float or Tensor
        Start of s.
    activation : callable
        Of the hidden units: ``torch.tanh`` (scales stay bounded), ``torch.nn.functional.gelu``, ...
    sequence : bool
        False: every vector (..., d) stands alone. True: axis -2 of (..., T, d) is the position.

    Raises
    ------
    ValueError
        If a size is not positive, or a shape does not fit.

    Notes
    -----
    The last layer starts at zero weights, so that the noise starts with the scale ``exp(log_scale)`` everywhere and no
    shift; there the hidden weights have derivative zero, which the first gradient step ends. ``log_scale = -inf`` is
    the identity. Network weights are identified up to the symmetries of hidden units only.

    References
    ----------
    Nix & Weigend (1994) IEEE International Conference on Neural Networks; Cen et al. (2026, arXiv 2605.13284).
    """

    latent_law: LatentLaw = STANDARD_NORMAL

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (16,),
        *,
        generator: torch.Generator,
        log_scale: Numbers = 0.0,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        sequence: bool = False,
    ) -> None:
        super().__init__()
        self.dim = self.latent_dim = check_dim(dim)
        self.sequence = sequence
        self.network = Network.random((context_size(dim, sequence), *hidden, 2 * dim), generator, activation)
        start = numbers("log_scale", log_scale, dim, expand=True, log=True)
        with torch.no_grad():
            self.network.weights[-1].zero_()
            self.network.biases[-1][:dim] = start

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) or (..., T, d) by ``z`` of the same last axes; leading axes broadcast."""
        log_scale, shift = self.network(causal_context(prefix, self.sequence)).chunk(2, dim=-1)
        return prefix + shift + log_scale.exp() * z
