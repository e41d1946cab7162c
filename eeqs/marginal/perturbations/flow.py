r"""Normalising flow on the noise, with the density of the perturbed embedding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from eeqs.marginal.arguments import check_dim
from eeqs.marginal.context import causal_context, context_size, join
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw
from eeqs.marginal.network import Network

__all__ = ["Flow"]


class Flow(nn.Module):
    r"""Affine coupling flow, :math:`g(e, z) = e + (F_L \circ \dots \circ F_1)(z; c)`.

    Layer l leaves one half a of the coordinates alone, and maps the other to
    :math:`b \mapsto t_l(a, c) + \exp(s_l(a, c)) \odot b`, with a network :math:`(s_l, t_l)`; halves take turns. The
    context c is the embedding :math:`e_t`; for sequences also the mean of the embeddings up to t.

    Parameters
    ----------
    dim : int
        Embedding dimension d; the latent has the same. With d = 1 every layer is affine in z, given the context.
    layers : int
        Number L of coupling layers, two at least (one for d = 1), so that every coordinate is mapped.
    hidden : sequence of int
        Units of each hidden layer of a network.
    generator : torch.Generator
        Draws the hidden weights, see `eeqs.marginal.network.Network.random`.
    log_scale : float
        The noise starts as isotropic Gaussian with scale ``exp(log_scale)``: last layers start at zero weights.
    activation : callable
        A bounded one such as ``torch.tanh`` keeps the scales bounded.
    sequence : bool
        False: every vector (..., d) stands alone. True: axis -2 of (..., T, d) is the position.

    Raises
    ------
    ValueError
        If a size is not positive or there are too few layers.

    Notes
    -----
    ``log_scale = -inf`` is the identity; it has no density.

    References
    ----------
    Dinh, Sohl-Dickstein & Bengio (2017) Real NVP, ICLR; Winkler et al. (2019, arXiv 1912.00042) for conditional flows.
    """

    latent_law: LatentLaw = STANDARD_NORMAL
    order: Tensor

    def __init__(
        self,
        dim: int,
        layers: int = 4,
        hidden: Sequence[int] = (16,),
        *,
        generator: torch.Generator,
        log_scale: float = 0.0,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        sequence: bool = False,
    ) -> None:
        super().__init__()
        self.dim = self.latent_dim = check_dim(dim)
        self.sequence = sequence
        # Halves: even and odd coordinates. Of one coordinate there is only the even half.
        sizes = ((dim + 1) // 2, dim // 2)
        turns = min(dim, 2)
        if layers < turns:
            raise ValueError(f"layers is {layers}; {turns} at least map every one of {dim} coordinates.")
        self.register_buffer("order", torch.cat(_halves(torch.arange(dim))).argsort())
        context = context_size(dim, sequence)
        networks = [
            Network.random((context + sizes[1 - k % turns], *hidden, 2 * sizes[k % turns]), generator, activation)
            for k in range(layers)
        ]
        for network in networks:
            nn.init.zeros_(network.weights[-1])
        for network in networks[-turns:]:
            nn.init.constant_(network.biases[-1][: network.n_outputs // 2], log_scale)
        self.networks = nn.ModuleList(networks)

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) or (..., T, d) by ``z`` of the same last axes; leading axes broadcast."""
        context, halves = causal_context(prefix, self.sequence), _halves(z)
        for side, network in self._layers():
            log_scale, shift = network(join(halves[1 - side], context)).chunk(2, dim=-1)
            halves[side] = shift + log_scale.exp() * halves[side]
        return prefix + join(*halves)[..., self.order]

    def inverse(self, value: Tensor, prefix: Tensor) -> tuple[Tensor, Tensor]:
        r"""Latent behind a perturbed vector.

        Parameters
        ----------
        value, prefix : Tensor of shape (..., d) or (..., T, d)
            A perturbed embedding and the embedding it came from; leading axes broadcast.

        Returns
        -------
        z : Tensor of shape (..., d)
            With ``forward(prefix, z) == value`` to rounding.
        log_det : Tensor of shape (...)
            :math:`\log |\det \partial z / \partial \mathrm{value}|`.
        """
        context, halves = causal_context(prefix, self.sequence), _halves(value - prefix)
        log_det = halves[0].new_zeros(())
        for side, network in reversed(self._layers()):
            log_scale, shift = network(join(halves[1 - side], context)).chunk(2, dim=-1)
            halves[side] = (halves[side] - shift) * (-log_scale).exp()
            log_det = log_det - log_scale.sum(dim=-1)
        return join(*halves)[..., self.order], log_det

    def log_density(self, value: Tensor, prefix: Tensor) -> Tensor:
        """Log-density (...) of the perturbed embedding at ``value`` (..., d), given the prefix; see `inverse`."""
        z, log_det = self.inverse(value, prefix)
        return log_det - 0.5 * (z.square().sum(dim=-1) + self.dim * math.log(2 * math.pi))

    def _layers(self) -> list[tuple[int, nn.Module]]:
        return [(k % min(self.dim, 2), network) for k, network in enumerate(self.networks)]


def _halves(x: Tensor) -> list[Tensor]:
    return [x[..., ::2], x[..., 1::2]]
