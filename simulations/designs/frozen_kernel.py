r"""A frozen quadratic softmax whose scalar input is perturbed at a learnable scale: known truth, identified."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from eeqs.marginal import Draws, Gaussian, Marginal, QuadraticSoftmax

__all__ = ["FrozenKernel"]


@dataclass(frozen=True)
class FrozenKernel:
    r"""Six categories on a scalar that is perturbed by Gaussian noise.

    .. math:: x \sim U(-h, h), \quad e = x + e^{\phi} z, \quad z \sim N(0, 1), \quad
              P(y = v \mid e) \propto e^{w_v e + q_v e^2}.

    The kernel is known and the log-scale :math:`\phi` is estimated. The curvature of the logits identifies it, a
    bounded x keeps quadrature accurate. The numbers were selected: the plug-in bias is large and close to its leading
    order 1/K from K = 8 on, the unbiased equations have a root in nearly every sample from n = 1,000 on, and the
    single-draw scale collapses. The page of the study says how, and what therefore does not carry over.

    Attributes
    ----------
    half_width : float
        h.
    weight, square_weight : tuple of float
        The kernel's :math:`w_v` and :math:`q_v`.
    truth : float
        The true log-scale.
    start : float
        Where every estimator starts: not the truth, and the same for all.
    nodes : int
        Gauss-Hermite nodes of the exact score.
    """

    half_width: float = 0.4
    weight: tuple[float, ...] = (0.0, -1.1, 1.6, 1.2, -2.3, 0.3)
    square_weight: tuple[float, ...] = (0.0, -1.95, -0.35, 2.9, 0.3, 3.05)
    truth: float = math.log(0.9)
    start: float = 0.0
    nodes: int = 32

    def model(self, log_scale: float | None = None) -> Marginal:
        """Marginal model at ``log_scale``, by default the truth, with its kernel frozen."""
        kernel = QuadraticSoftmax(_column(self.weight), _column(self.square_weight)).requires_grad_(requires_grad=False)
        return Marginal(Gaussian(1, log_scale=self.truth if log_scale is None else log_scale), kernel)

    def sample(self, n: int, n_draws: int | Draws | None, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations from the truth, with ``n_draws`` fresh latents each, or a design of them (none for None).

        Observations come first, so that the same generator gives the same ones for every number of draws.
        """
        model = self.model()
        x = self.half_width * (2 * torch.rand(n, 1, generator=generator, dtype=torch.float64) - 1)
        data = {"x": x, "y": model.simulate(x, generator)}
        return data if n_draws is None else data | {"z": model.draw(x, n_draws, generator)}


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]
