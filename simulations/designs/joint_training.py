r"""Joint stochastic training of a kernel and a noise scale, each by an equation and on a fold of its own.

Replicates train at once as one tensor program: to a surrogate loss they are further observations, and its sum keeps
their gradients apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from eeqs.marginal import Score, single_draw
from simulations.designs.random_kernel import RandomKernel

__all__ = ["Equations", "Fit", "JointTraining"]

# Test inputs evaluated at once.
_CHUNK = 125


@dataclass(frozen=True)
class Equations:
    """Which equations the weights theta and the log-scale phi solve, and on which observations.

    Attributes
    ----------
    theta : Score
        Surrogate of the weights.
    phi : Score or None
        Surrogate of the log-scale; None for a fit without noise, whose weights minimise the log-loss.
    split : bool
        Whether theta sees the first half of a sample and phi the second, or both see all of it.

    Raises
    ------
    ValueError
        If theta's surrogate averages over draws, and there is no noise to draw.
    """

    theta: Score
    phi: Score | None
    split: bool = False

    def __post_init__(self) -> None:
        if self.phi is None and self.theta is not single_draw:
            raise ValueError(f"{self.theta.name} averages over draws; without noise, pass single_draw.")

    def folds(self, n: int) -> tuple[slice, slice]:
        """Observations of theta and of phi."""
        return (slice(0, n // 2), slice(n // 2, n)) if self.split else (slice(0, n), slice(0, n))


class Fit(NamedTuple):
    """Fitted models of R replicates.

    Attributes
    ----------
    scale : Tensor of shape (R,)
        Noise scale, the geometric mean over the last quarter of the updates; 0 without noise.
    loss : Tensor of shape (R,)
        Held-out log-loss against the true probabilities, in nats.
    """

    scale: Tensor
    loss: Tensor


@dataclass(frozen=True)
class JointTraining:
    r"""A fixed number of simultaneous updates of theta and phi, with fresh latents in each.

    The model is :math:`e = x + e^{\phi} z` and a `simulations.designs.random_kernel.RandomKernel`. theta starts at zero
    and moves by gradient descent with momentum on the whole fold, phi by Adam. Nothing else regularises.

    Attributes
    ----------
    draws : int
        K, latents an observation and update.
    steps : int
        Updates.
    rate, momentum : float
        Step size and heavy-ball momentum of theta.
    scale_rate : float
        Step size of phi.
    start : float
        Noise scale at the start.
    test_draws : int
        Latents a test input of the mixture that is evaluated.

    References
    ----------
    Kingma & Ba (2015) International Conference on Learning Representations, Adam.
    """

    draws: int = 4
    steps: int = 200
    rate: float = 2.0
    momentum: float = 0.9
    scale_rate: float = 0.02
    start: float = 0.3
    test_draws: int = 32

    def fit(
        self,
        equations: Equations,
        sample: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
        inner: Tensor,
        width: int,
        generators: list[torch.Generator],
    ) -> Fit:
        """Train R replicates and evaluate them.

        Parameters
        ----------
        equations : Equations
        sample : tuple of Tensor
            Inputs (R, n, d) and classes (R, n).
        test : tuple of Tensor
            Inputs (N, d) and true probabilities (N, V).
        inner : Tensor of shape (k, d)
            Units of the truth, which the kernel knows.
        width : int
            Capacity m, the number of random features.
        generators : list of torch.Generator
            One a replicate, for the features and the latents.
        """
        (x, y), (test_x, q) = sample, test
        kernel = RandomKernel.draw(inner, width, generators).to(x.device)
        theta = torch.zeros(len(x), q.shape[-1], len(inner) + width, device=x.device, requires_grad=True)
        start = math.log(self.start) if equations.phi else -math.inf
        log_scale = torch.full((len(x),), start, device=x.device, requires_grad=True)
        path = list(self._train(equations, kernel, (x.float(), y), theta, log_scale, generators))
        scale = torch.stack(path[-max(1, self.steps // 4) :]).mean(dim=0).exp()
        held_out = self._held_out(kernel, theta.detach(), scale, test_x.float().to(x.device), q.to(x.device))
        return Fit(scale, held_out)

    def _train(
        self,
        equations: Equations,
        kernel: RandomKernel,
        sample: tuple[Tensor, Tensor],
        theta: Tensor,
        log_scale: Tensor,
        generators: list[torch.Generator],
    ) -> Iterator[Tensor]:
        """Update theta and log_scale in place; yield a copy of log_scale after each update."""
        x, y = sample
        own, other = equations.folds(x.shape[1])
        descent = torch.optim.SGD([theta], lr=self.rate, momentum=self.momentum)
        adam = torch.optim.Adam([log_scale], lr=self.scale_rate, betas=(0.9, 0.99))
        n_draws = self.draws if equations.phi else 1
        for _ in range(self.steps):
            z = torch.stack([torch.randn(n_draws, *x.shape[1:], generator=g) for g in generators]).to(x.device)
            live = kernel.log_p(theta, x[:, own], log_scale.exp(), z[:, :, own])
            (theta.grad,) = torch.autograd.grad(_total(equations.theta, live, y[:, own]), theta, retain_graph=True)
            if equations.phi:
                if equations.split:
                    live = kernel.log_p(theta.detach(), x[:, other], log_scale.exp(), z[:, :, other])
                (log_scale.grad,) = torch.autograd.grad(_total(equations.phi, live, y[:, other]), log_scale)
                adam.step()
            descent.step()
            yield log_scale.detach().clone()

    def _held_out(self, kernel: RandomKernel, theta: Tensor, scale: Tensor, x: Tensor, q: Tensor) -> Tensor:
        """Log-loss of the fitted mixtures, (R,), at test inputs (N, d) with true probabilities (N, V).

        The latents are the same for every fit: two fits then differ by what was fitted only.
        """
        z = torch.randn(self.test_draws, *x.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
        count, losses = len(theta), []
        for block, weights, latents in zip(x.split(_CHUNK), q.split(_CHUNK), z.split(_CHUNK, dim=1), strict=True):
            points, noise = block.expand(count, -1, -1), latents.expand(count, -1, -1, -1)
            log_p = kernel.log_p(theta, points, scale, noise)
            log_q = log_p.logsumexp(dim=0).unflatten(0, (count, -1)) - math.log(self.test_draws)
            losses.append(-(weights * log_q.double()).sum(dim=-1))
        return torch.cat(losses, dim=1).mean(dim=1)


def _total(score: Score, live: Tensor, y: Tensor) -> Tensor:
    """Sum over replicates of the mean surrogate loss, from log-probabilities (K, R * n, V) and classes (R, n)."""
    log_weight = live.new_full((live.shape[0],), -math.log(live.shape[0]))
    return score.loss(live, live.detach(), y.flatten(), log_weight).sum() / y.shape[1]
