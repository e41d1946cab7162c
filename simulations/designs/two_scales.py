r"""A frozen quadratic softmax of two coordinates, each perturbed at a scale of its own, one of them log-linear."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from eeqs.marginal import Draws, LogLinear, Marginal, QuadraticSoftmax

__all__ = ["TwoScales"]


@dataclass(frozen=True)
class TwoScales:
    r"""Six categories on a perturbed pair, the design in which the theory notes compare efficiencies.

    .. math:: x \sim N(0, 1.44\, I_2), \quad e = x + (e^{\phi_0 + \phi_1 x_1} z_1,\; e^{\phi_2} z_2), \quad
              P(y = v \mid e) \propto e^{w_v^\top e + 0.3\, q_v^\top (e \odot e)},

    with the entries of w drawn once from N(0, 4) and those of q from N(0, 0.25). Three parameters are estimated.

    Attributes
    ----------
    truth : tuple of float
        :math:`\phi_0, \phi_2, \phi_1`, in the order of the model's parameters.
    kernel_seed : int
        Seed of the entries of w and q.
    nodes : int
        Gauss-Hermite nodes a dimension of the exact score.
    """

    truth: tuple[float, float, float] = (math.log(0.8), math.log(0.5), 0.4)
    kernel_seed: int = 0
    nodes: int = 24

    def model(self) -> Marginal:
        """Marginal model at the truth, with its kernel frozen."""
        generator = torch.Generator().manual_seed(self.kernel_seed)
        weight, square = (torch.randn(6, 2, generator=generator, dtype=torch.float64) for _ in range(2))
        kernel = QuadraticSoftmax(2 * weight, 0.3 * 0.5 * square).requires_grad_(requires_grad=False)
        first, second, slope = self.truth
        noise = LogLinear(2, bias=[first, second], weight=slope, depends_on=[[True, False], [False, False]])
        return Marginal(noise, kernel)

    def sample(self, n: int, draws: int | Draws | None, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations from the truth with latents of a design; None leaves the latents out."""
        model = self.model()
        x = 1.2 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
        data = {"x": x, "y": model.simulate(x, generator)}
        return data if draws is None else data | {"z": model.draw(x, draws, generator)}
