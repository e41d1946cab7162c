r"""Tokens on a line: the next token follows the noisy position of the prefix, seen in one stretch of the line only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eeqs.marginal import Network

__all__ = ["NearestToken", "TokenLine"]


@dataclass(frozen=True)
class TokenLine:
    r"""Prefixes of tokens with ordered embeddings, and a softmax kernel on the perturbed prefix.

    .. math:: u = \sum_t w_t (e_t + \sigma^* \eta_t), \quad \eta_t \sim N(0, 1), \qquad
              P(y = v \mid u) \propto \exp\{-\tfrac\kappa2 (m(u) - c_v)^2\}, \quad m(u) = \max(0, u)^2 / 2.

    Token j has the embedding ``spacing * j``; training prefixes hold tokens with \|e\| <= ``half_width`` only, in any
    order. Positions are weighted by recency, and :math:`\sigma^*` gives u noise of unit variance, so that distances
    beyond the support are in its standard deviations, as in the scalar truths. Output tokens sit at
    :math:`c_v = 0, \dots, V - 1`.

    Attributes
    ----------
    half_width, spacing : float
    weights : tuple of float
        The :math:`w_t`, summing to one, one a position.
    n_classes : int
        V.
    sharpness : float
        :math:`\kappa`.
    """

    half_width: float = 2.0
    spacing: float = 0.25
    weights: tuple[float, ...] = (0.4, 0.6)
    n_classes: int = 9
    sharpness: float = 6.0

    @property
    def scale(self) -> float:
        r"""The true scale :math:`\sigma^*` of the noise of one embedding."""
        return 1 / math.hypot(*self.weights)

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw prefixes (n, T) as embeddings, and next tokens (n,)."""
        last = round(self.half_width / self.spacing)
        tokens = torch.randint(-last, last + 1, (n, len(self.weights)), generator=generator)
        prefix = self.spacing * tokens
        noise = self.scale * torch.randn(prefix.shape, generator=generator)
        probability = self._given(self._position(prefix + noise)).exp()
        return prefix, torch.multinomial(probability, 1, generator=generator)[:, 0]

    def log_prob(self, prefix: Tensor, nodes: Tensor) -> Tensor:
        """Log-probabilities (..., V) of the next token after prefixes (..., T), by standard normal nodes (M,) of u."""
        return self._given(self._position(prefix)[..., None] + nodes).logsumexp(dim=-2) - math.log(len(nodes))

    def _position(self, prefix: Tensor) -> Tensor:
        return prefix @ prefix.new_tensor(self.weights)

    def _given(self, u: Tensor) -> Tensor:
        """Log-probabilities (..., V) of the next token at noisy positions (...)."""
        gap = (u.clamp_min(0).square() / 2)[..., None] - torch.arange(self.n_classes, device=u.device)
        return (-self.sharpness / 2 * gap.square()).log_softmax(dim=-1)


class NearestToken(nn.Module):
    r"""Softmax kernel over ordered output embeddings, :math:`p(v \mid e) \propto \exp\{-\kappa (m(e) - c_v)^2 / 2\}`.

    Parameters
    ----------
    network : Network
        Its one output f gives :math:`m = (1 + f) (V - 1) / 2`, so that a small f is a position in the middle.
    n_classes : int
        V; the :math:`c_v` are 0 to V - 1.
    """

    def __init__(self, network: Network, n_classes: int) -> None:
        super().__init__()
        self.dim, self.n_classes = network.dim, n_classes
        self.network = network
        self.log_sharpness = nn.Parameter(torch.zeros(()))

    def forward(self, e: Tensor) -> Tensor:
        """Log-probabilities (..., V) at embeddings ``e`` (..., d)."""
        middle = (self.n_classes - 1) / 2
        gap = middle * (1 + self.network(e)) - torch.arange(self.n_classes, device=e.device)
        return (-self.log_sharpness.exp() / 2 * gap.square()).log_softmax(dim=-1)
