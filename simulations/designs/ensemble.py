"""Small networks trained side by side: one member a replicate and setting, all in the same tensor operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["Draw", "Ensemble", "Parameters", "independent"]

Parameters = dict[str, Tensor]
"""Parameters of all members under the names of one member's module, with the member as leading axis."""

Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]
"""``draw((K, n, q), generator)``: latents of one replicate's batch, independent over all axes."""

Loss = Callable[[Parameters, dict[str, Tensor], Tensor], Tensor]
"""``loss(parameters, batch, latents)``: sum over members of their losses; batch (R, B, ...), latents (K, R, B, q)."""


def independent(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw standard normal latents."""
    return torch.randn(shape, generator=generator)


@dataclass(frozen=True)
class Ensemble:
    r"""Adam with a step size that falls as a half cosine to zero, the same for every method.

    Members do not share parameters and the sum of their losses is minimised, so each is trained as if alone.

    Attributes
    ----------
    hidden : tuple of int
        Units of the hidden layers, rectified.
    updates, batch : int
        Updates, and observations in each.
    rate : float
        Step size at the start.
    draw : callable
        Source of latents, see `Draw`.

    References
    ----------
    Kingma & Ba (2015), Adam; Loshchilov & Hutter (2017), cosine decay.
    """

    hidden: tuple[int, ...] = (32, 32)
    updates: int = 1000
    batch: int = 125
    rate: float = 0.01
    draw: Draw = independent

    def network(self, inputs: int, generators: list[torch.Generator], prefix: str) -> Parameters:
        r"""Draw weights and biases from :math:`U(-1, 1) / \sqrt{\text{inputs of the layer}}`, one member a generator.

        Biases of that size spread the kinks of the first layer over the input, beyond the training support too.
        """
        found: Parameters = {}
        for layer, (before, after) in enumerate(pairwise((inputs, *self.hidden, 1))):
            for kind, shape in (("weights", (after, before)), ("biases", (1, after))):
                values = [2 * torch.rand(shape, generator=generator) - 1 for generator in generators]
                found[f"{prefix}.{kind}.{layer}"] = torch.stack(values) / before**0.5
        return found

    def train(
        self,
        parameters: Parameters,
        learnable: Collection[str],
        loss: Loss,
        data: dict[str, Tensor],
        generators: list[torch.Generator],
        latents: tuple[int, int],
    ) -> Parameters:
        """Minimise the loss and return all parameters.

        Parameters
        ----------
        parameters : dict of Tensor
            Values at the start.
        learnable : collection of str
            Names of those to learn.
        loss : callable
        data : dict of Tensor of shape (R, n, ...)
        generators : list of R torch.Generator
            For batches and latents of each replicate.
        latents : tuple of int
            Draws K an observation, and the dimension q of one.
        """
        device = next(iter(data.values())).device
        size = next(iter(data.values())).shape[1]
        free = {name: value.clone().requires_grad_(name in learnable) for name, value in parameters.items()}
        optimiser = torch.optim.Adam([free[name] for name in learnable], lr=self.rate)
        rows = torch.arange(len(generators), device=device)[:, None]
        draws, dim = latents
        for update in range(self.updates):
            optimiser.param_groups[0]["lr"] = self.rate * (1 + math.cos(math.pi * update / self.updates)) / 2
            index = torch.stack([torch.randint(size, (self.batch,), generator=part) for part in generators])
            z = torch.stack([self.draw((draws, self.batch, dim), part) for part in generators], dim=1)
            batch = {name: value[rows, index.to(device)] for name, value in data.items()}
            optimiser.zero_grad()
            torch.autograd.backward(loss(free, batch, z.to(device)))
            optimiser.step()
        return {name: value.detach() for name, value in free.items()}
