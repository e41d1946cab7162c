"""Softmax of the outputs of a small network."""

from __future__ import annotations

from torch import Tensor, nn

from eeqs.marginal.layout import log_normalise
from eeqs.marginal.network import Network

__all__ = ["MLP"]


class MLP(nn.Module):
    r"""Multilayer perceptron, :math:`p(y = v \mid e) \propto \exp f_v(e)` with a feed-forward network f.

    Parameters
    ----------
    network : Network
        The map f, from d inputs to V outputs: ``Network.random((d, 16, V), generator)``, or one of given weights.

    Raises
    ------
    TypeError
        If ``network`` is not a `Network`.
    ValueError
        If it has fewer than two outputs.

    Notes
    -----
    Neither the network's weights nor a noise scale beside them are identified in general; for an interval on the
    perturbation, freeze a trained kernel with ``requires_grad_(False)``.

    References
    ----------
    Bishop (1995) Neural Networks for Pattern Recognition, section 6.9.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        if not isinstance(network, Network):
            raise TypeError(f"network is a {type(network).__name__}; pass an eeqs.marginal.network.Network.")
        if network.n_outputs < 2:
            raise ValueError(f"network has {network.n_outputs} output; pass one an output class, two at least.")
        self.dim, self.n_classes = network.dim, network.n_outputs
        self.network = network

    def forward(self, e: Tensor) -> Tensor:
        """Log-probabilities (..., V) at embeddings ``e`` (..., d)."""
        return log_normalise(self.network(e))
