r"""Noise of any shape: a network of the prefix and the latent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from eeqs.marginal.arguments import check_dim
from eeqs.marginal.context import causal_context, context_size, join
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw
from eeqs.marginal.network import Network

__all__ = ["Pushforward"]


class Pushforward(nn.Module):
    r"""Residual generative network, :math:`g(e, z) = e + f([c, z])`.

    The context c is the embedding :math:`e_t`; for sequences also the mean of the embeddings up to t. The law of the
    perturbed embedding is that of z pushed through the network: no density, but it need not be Gaussian or additive.

    Parameters
    ----------
    dim : int
        Embedding dimension d.
    hidden : sequence of int
        Units of each hidden layer.
    generator : torch.Generator
        Draws the weights, see `eeqs.marginal.network.Network.random`.
    latent_dim : int, optional
        Dimension q of the latent; d by default.
    scale : float
        Factor on the random weights of the last layer: the size of the perturbation at the start. Zero is the
        identity, from which the derivative in the hidden weights is zero.
    activation : callable
    sequence : bool
        False: every vector (..., d) stands alone. True: axis -2 of (..., T, d) is the position.

    Raises
    ------
    ValueError
        If a size is not positive.

    Notes
    -----
    Network weights are identified up to the symmetries of hidden units only, and the law of the perturbation up to
    transformations of z that keep nu: report functionals of the perturbed embedding.

    References
    ----------
    Shen & Meinshausen (2024) Engression, Journal of the Royal Statistical Society B 87.
    """

    latent_law: LatentLaw = STANDARD_NORMAL

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (16,),
        *,
        generator: torch.Generator,
        latent_dim: int | None = None,
        scale: float = 0.1,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        sequence: bool = False,
    ) -> None:
        super().__init__()
        self.dim = check_dim(dim)
        self.latent_dim = dim if latent_dim is None else latent_dim
        if self.latent_dim < 1:
            raise ValueError(f"latent_dim is {latent_dim}; a pushforward needs one latent dimension at least.")
        self.sequence = sequence
        inputs = context_size(dim, sequence) + self.latent_dim
        self.network = Network.random((inputs, *hidden, dim), generator, activation)
        with torch.no_grad():
            self.network.weights[-1] *= scale

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) or (..., T, d) by ``z`` (..., q) or (..., T, q); leading axes broadcast."""
        return prefix + self.network(join(causal_context(prefix, self.sequence), z))
