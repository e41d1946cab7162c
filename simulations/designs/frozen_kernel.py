r"""A frozen quadratic softmax whose scalar input is perturbed at a contextual scale: known truth, identified."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from eeqs.marginal import Contextual, Marginal, QuadraticSoftmax

__all__ = ["FrozenKernel"]


@dataclass(frozen=True)
class FrozenKernel:
    r"""Six categories on a scalar, with a noise scale that depends on the prefix.

    .. math:: x \sim U(-h, h), \quad e = x + e^{b + w x} z, \quad z \sim N(0, 1), \quad
              P(y = v \mid e) \propto e^{w_v e + q_v e^2}.

    The kernel is known; the bias b and the slope w of the log-scale are estimated. The curvature of the logits makes
    both identified, a bounded x keeps quadrature accurate, and the plug-in bias is close to its first order in 1/K
    from K = 8 on.

    Attributes
    ----------
    half_width : float
        h.
    weight, square_weight : tuple of float
        The kernel's :math:`w_v` and :math:`q_v`.
    truth : tuple of float
        b and w.
    start : tuple of float
        Where every estimator starts: not the truth, and the same for all.
    nodes : int
        Gauss-Hermite nodes at which the error of the exact score is below 1e-3 standard errors at n = 20,000.
    """

    half_width: float = 2.0
    weight: tuple[float, ...] = (0.0, -0.22, -0.81, 1.45, -2.35, -0.29)
    square_weight: tuple[float, ...] = (0.0, 0.89, -0.41, 1.95, -0.34, 1.83)
    truth: tuple[float, float] = (math.log(0.87), 0.07)
    start: tuple[float, float] = (-0.3, 0.0)
    nodes: int = 32
    names: tuple[str, ...] = field(default=("bias[0]", "weight[0,0]"), init=False)

    def model(self, parameters: tuple[float, float] | None = None) -> Marginal:
        """Marginal model at ``parameters``, by default the truth, with its kernel frozen."""
        bias, slope = self.truth if parameters is None else parameters
        kernel = QuadraticSoftmax(_column(self.weight), _column(self.square_weight)).requires_grad_(requires_grad=False)
        return Marginal(Contextual(1, bias=bias, weight=slope), kernel)

    def sample(self, n: int, n_draws: int | None, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations from the truth, with ``n_draws`` fresh latents each (none for None).

        Observations come first, so that the same generator gives the same ones for every number of draws.
        """
        model = self.model()
        x = self.half_width * (2 * torch.rand(n, 1, generator=generator, dtype=torch.float64) - 1)
        data = {"x": x, "y": model.simulate(x, generator)}
        return data if n_draws is None else data | {"z": model.draw(x, n_draws, generator)}


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]
