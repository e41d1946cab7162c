"""A small feed-forward network in the memory layout of the marginal layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from eeqs.marginal.layout import linear

__all__ = ["Network"]


class Network(nn.Module):
    r"""Layers :math:`h_l = a(W_l h_{l-1} + b_l)` from :math:`h_0 = e`, the last one without the activation a.

    Parameters
    ----------
    weights : sequence of Tensor
        The matrices :math:`W_l`, each (size of layer l, size of layer l - 1).
    biases : sequence of Tensor
        The vectors :math:`b_l`, each (size of layer l,).
    activation : callable
        The function a, elementwise; a smooth one where second derivatives are wanted, such as ``torch.tanh`` or
        ``torch.nn.functional.gelu``.

    Raises
    ------
    ValueError
        If there is no layer, or the shapes do not chain.

    Notes
    -----
    Exchanging hidden units, and the signs of tanh units, changes the parameters but not the function: the weights are
    identified at best up to these symmetries.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        activation: Callable[[Tensor], Tensor] = torch.tanh,
    ) -> None:
        super().__init__()
        _check_layers(weights, biases)
        self.dim, self.n_outputs = weights[0].shape[1], weights[-1].shape[0]
        self.weights = nn.ParameterList([nn.Parameter(weight.detach().clone()) for weight in weights])
        self.biases = nn.ParameterList([nn.Parameter(bias.detach().clone()) for bias in biases])
        self.activation = activation

    @classmethod
    def random(
        cls,
        sizes: Sequence[int],
        generator: torch.Generator,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        dtype: torch.dtype = torch.float64,
    ) -> Network:
        r"""Network with weights from :math:`N(0, 1 / \text{inputs of the layer})` and biases of zero.

        Parameters
        ----------
        sizes : sequence of int
            Inputs, units of each hidden layer, outputs.
        generator : torch.Generator
        activation : callable
        dtype : torch.dtype

        Raises
        ------
        ValueError
            If there are fewer than two sizes, or one is not positive.

        References
        ----------
        LeCun, Bottou, Orr & Müller (1998) Efficient BackProp.
        """
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes is {tuple(sizes)}; pass inputs, hidden layers and outputs, each at least 1.")
        where = generator.device
        weights = [
            torch.randn(after, before, generator=generator, dtype=dtype, device=where) / before**0.5
            for before, after in pairwise(sizes)
        ]
        return cls(weights, [weight.new_zeros(len(weight)) for weight in weights], activation)

    def forward(self, e: Tensor) -> Tensor:
        """Compute outputs (..., n_outputs) at ``e`` (..., d)."""
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            e = self.activation(linear(e, weight) + bias)
        return linear(e, last[0]) + last[1]


def _check_layers(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
    if not weights or len(weights) != len(biases):
        raise ValueError(f"{len(weights)} weights and {len(biases)} biases; pass one of each for every layer.")
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        inputs = weights[layer - 1].shape[0] if layer else weight.shape[-1]
        if weight.ndim != 2 or weight.shape[1] != inputs or bias.shape != weight.shape[:1]:
            raise ValueError(
                f"layer {layer} has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}; pass "
                f"(units, {inputs}) and (units,)."
            )
