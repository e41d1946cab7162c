r"""Responses to a linear index, each with its estimating function and its population excess risk in closed form.

An estimating function of a linear index is :math:`\psi_i(\theta) = r_i(x_i^\top \theta)\, x_i`; a model here knows
:math:`r_i`. Where x is Gaussian, the true and the fitted index of a new observation are jointly normal with moments

.. math:: v = \theta_*^\top \Lambda \theta_*, \quad c = \theta_*^\top \Lambda \hat\theta, \quad
          u = \hat\theta^\top \Lambda \hat\theta,

and the excess risk is a function of the three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from eeqs.marginal import Score
from eeqs.marginal.laws import gauss_hermite

__all__ = ["IndexModel", "Linearised", "PerturbedLogit", "Squares"]

Data = Mapping[str, Tensor]
# Gauss-Hermite nodes for each of the two indices of a new observation.
_INDEX_NODES = 60
# Points of the K draws of a response in the linearised problem.
_LATENTS = 1024


class Linearised(NamedTuple):
    """The least-squares problem that a model is close to near the truth.

    Attributes
    ----------
    information : float
        Mean of -r' at the truth: a penalty of the model is this times a penalty of least squares.
    noise_variance : float
        Noise variance of the least-squares problem, variance of r over the square of the information.
    risk : float
        Excess risk over the mean squared error of the index.
    """

    information: float
    noise_variance: float
    risk: float


class IndexModel(Protocol):
    """A response to a linear index and an estimating function for it."""

    def sample(self, index: Tensor, responses: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw responses (M, n) to the true indices (n,), and whatever else the estimating function takes."""

    def residual(self, index: Tensor, data: Data) -> Tensor:
        """Return r (M, n) at indices (M, n)."""

    def excess_risk(self, signal: float, cross: Tensor, fitted: Tensor) -> Tensor:
        """Return the excess risks (M,) from v, c (M,) and u (M,)."""

    def linearised(self, signal: float) -> Linearised:
        """Return the least-squares problem near a truth whose index has variance ``signal``."""


@dataclass(frozen=True)
class Squares:
    r"""Least squares: :math:`y = \eta + \varepsilon`, :math:`r = y - \eta`; the excess risk is that of squared loss.

    Attributes
    ----------
    noise_variance : float
    """

    noise_variance: float

    def sample(self, index: Tensor, responses: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw responses (M, n)."""
        noise = torch.randn(responses, len(index), generator=generator, dtype=index.dtype)
        return {"y": index + self.noise_variance**0.5 * noise}

    def residual(self, index: Tensor, data: Data) -> Tensor:
        """Return y minus the index."""
        return data["y"] - index

    def excess_risk(self, signal: float, cross: Tensor, fitted: Tensor) -> Tensor:
        """Return the mean squared error of the index, u - 2c + v."""
        return fitted - 2 * cross + signal

    def linearised(self, signal: float) -> Linearised:  # noqa: ARG002 - the same for every signal
        """Return the problem itself."""
        return Linearised(1.0, self.noise_variance, 1.0)


@dataclass(frozen=True)
class PerturbedLogit:
    r"""A logit whose index carries Gaussian noise of known scale: :math:`q(1 \mid \eta) = E_z\, \sigma(\eta + s z)`.

    At s = 0 with quadrature it is logistic regression. The scale is known because a binary response does not identify
    it: a smoothed logit is nearly a logit of a smaller index. Every observation carries m responses to its index, each
    with noise of its own, and r is the sum of their m terms.

    The residual is minus the derivative along the index of a surrogate loss of `eeqs.marginal.scores`. The excess risk
    is that of the log-loss of q for one response, the mean Kullback-Leibler divergence.

    Attributes
    ----------
    score : Score
        Which estimating function; ``score.nodes`` nodes of quadrature, or random draws.
    scale : float
        s >= 0.
    draws : int
        K latent draws a response, 0 for a score that integrates by quadrature.
    trials : int
        m responses an observation.
    nodes : int
        Gauss-Hermite nodes of q in the excess risk.
    """

    score: Score
    scale: float = 0.0
    draws: int = 0
    trials: int = 1
    nodes: int = 40

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise ValueError(f"scale is {self.scale}; pass a noise scale of zero or more.")
        if self.trials < 1:
            raise ValueError(f"trials is {self.trials}; an observation has one response or more.")
        if (self.score.nodes is None) != (self.draws > 0):
            raise ValueError(f"{self.draws} draws for {self.score.name}: quadrature takes 0, other scores need some.")

    def sample(self, index: Tensor, responses: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw classes (M, m, n), and with them latents (K, M, m, n) where the score takes draws.

        Responses come first, so that equations with and without draws see the same ones.
        """
        shape = (responses, self.trials, len(index))
        noise, uniform = (torch.empty(shape, dtype=index.dtype) for _ in range(2))
        noise.normal_(generator=generator)
        uniform.uniform_(generator=generator)
        y = (uniform < torch.sigmoid(index + self.scale * noise)).long()
        if not self.draws:
            return {"y": y}
        return {"y": y, "z": torch.randn(self.draws, *shape, generator=generator, dtype=index.dtype)}

    def residual(self, index: Tensor, data: Data) -> Tensor:
        """Return minus the derivative of the surrogate loss in its live copy, at frozen = live."""
        y = data["y"]
        if self.draws:
            return self._each_residual(index[:, None, :].expand(y.shape), y, data["z"]).sum(dim=1)
        # By quadrature, responses of one class have one residual.
        share = y.double().mean(dim=1)
        none, one = (self._each_residual(index, torch.full_like(index, k, dtype=torch.long)) for k in range(2))
        return y.shape[1] * (share * one + (1 - share) * none)

    def _each_residual(self, index: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        """Minus the derivative of the surrogate loss, of one response an index; any shape (...), latents (K, ...)."""
        if z is None:
            nodes, log_weight = self._rule(self.score.nodes or 1, index)
        else:
            nodes, log_weight = z.reshape(self.draws, -1), index.new_full((self.draws,), -math.log(self.draws))

        def loss(live: Tensor) -> Tensor:
            return self.score.loss(self._log_p(live, nodes), frozen, y.reshape(-1), log_weight).sum()

        flat = index.reshape(-1)
        frozen = self._log_p(flat, nodes)
        # Every loss depends on its own index only, so the gradient of their sum holds all derivatives.
        gradient: Tensor = torch.func.grad(loss)(flat)
        return -gradient.reshape(index.shape)

    def excess_risk(self, signal: float, cross: Tensor, fitted: Tensor) -> Tensor:
        """Integrate the divergence of the fitted from the true q over the bivariate normal indices."""
        point, log_weight = gauss_hermite(_INDEX_NODES, 2)
        first, second = point.to(cross).unbind(dim=-1)
        rest = (fitted - cross**2 / signal).clamp(min=0).sqrt()
        true = self.log_q(signal**0.5 * first)
        estimate = self.log_q(cross[:, None] / signal**0.5 * first + rest[:, None] * second)
        divergence = (true.exp() * (true - estimate)).sum(dim=-1)
        return divergence @ log_weight.to(cross).exp()

    @cache  # noqa: B019 - a pure function of a few frozen models, asked for in every replicate
    def linearised(self, signal: float) -> Linearised:
        r"""Integrate the least-squares problem near the truth over index, response and draws.

        .. math:: A = -E\,\partial_\eta r, \quad B = E\, r^2, \quad \sigma^2 = \frac{B}{m A^2},

        for one response at the true index :math:`\eta \sim N(0, v)`: its sensitivity A, its variability B and the
        Godambe noise variance of m responses (Godambe 1960, Annals of Mathematical Statistics 31). The exact score has
        A = B, the Fisher information. The index is integrated by quadrature, the draws over a scrambled Sobol sequence.
        """
        point, log_weight = gauss_hermite(_INDEX_NODES, 1)
        index = signal**0.5 * point[:, 0]
        log_q, slope = torch.func.jvp(self.log_q, (index,), (torch.ones_like(index),))[:2]
        fisher = float((log_q.exp() * slope**2).sum(dim=-1) @ log_weight.exp())
        sensitivity, variability = 0.0, 0.0
        for y in range(2):
            value, change = self._residual_and_slope(index, y)
            weight = log_weight.exp() * log_q[:, y].exp()
            sensitivity -= float(change.mean(dim=0) @ weight)
            variability += float(value.square().mean(dim=0) @ weight)
        return Linearised(self.trials * sensitivity, variability / (self.trials * sensitivity**2), fisher / 2)

    def _residual_and_slope(self, index: Tensor, y: int) -> tuple[Tensor, Tensor]:
        """Residual of one response y and its derivative at indices (n,), for L points of the draws: (L, n) each."""
        indices, z = index[None], None
        if self.draws:
            uniform = torch.quasirandom.SobolEngine(self.draws, scramble=True, seed=0).draw(_LATENTS, dtype=index.dtype)
            indices = index.repeat(_LATENTS, 1)
            z = torch.special.ndtri(uniform).mT[..., None].expand(-1, -1, len(index))
        classes = torch.full_like(indices, y, dtype=torch.long)
        found = torch.func.jvp(
            lambda eta: self._each_residual(eta, classes, z), (indices,), (torch.ones_like(indices),)
        )
        return found[0], found[1]

    def log_q(self, index: Tensor) -> Tensor:
        """Log-probabilities of the two classes at indices (...,), by quadrature: (..., 2)."""
        z, log_weight = self._rule(self.nodes, index)
        flat = (self._log_p(index.reshape(-1), z) + log_weight[:, None, None]).logsumexp(dim=0)
        return flat.reshape(*index.shape, 2)

    def _rule(self, nodes: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (m, 1) and log-weights (m,) of the latent."""
        z, log_weight = gauss_hermite(nodes if self.scale else 1, 1)
        return z.to(like), log_weight.to(like)

    def _log_p(self, index: Tensor, z: Tensor) -> Tensor:
        """Log-probabilities (K, n, 2) given latents (K, n) or (K, 1)."""
        logit = index + self.scale * z
        return torch.stack([logsigmoid(-logit), logsigmoid(logit)], dim=-1)
