"""Fits of the token line: one network and kernel, with the embeddings perturbed at a learned, fixed or no scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from eeqs.marginal import Gaussian, Network, Score, cross_fitted
from simulations.designs.distances import EDGES, by_distance
from simulations.designs.ensemble import Ensemble, Parameters
from simulations.designs.extrapolators import START, Method
from simulations.designs.pre_additive import normal_nodes
from simulations.designs.token_line import NearestToken, TokenLine

__all__ = ["TokenExtrapolation"]

SCALE, SHARPNESS = "perturbation.log_scale", "kernel.log_sharpness"
_NODES = 127
APART = 4.0
"""Sharpness at the start: the kernel has a standard deviation of half the distance between output tokens."""


class PerturbedKernel(nn.Module):
    """Log-probabilities of the next token for latents that are given."""

    def __init__(self, line: TokenLine, hidden: tuple[int, ...]) -> None:
        super().__init__()
        network = Network.random((len(line.weights), *hidden, 1), torch.Generator(), torch.relu)
        self.perturbation = Gaussian(len(line.weights))
        self.kernel = NearestToken(network, line.n_classes)

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Log-probabilities (K, S, n, V) after prefixes (S, n, T) for latents (K, S, n, T)."""
        return self.kernel(self.perturbation(prefix, z))


def _methods() -> dict[str, Method]:
    return {"learned": Method((START,), learned=True), "fixed": Method((START,)), "none": Method()}


@dataclass(frozen=True)
class TokenExtrapolation:
    """The token line, fitted on its stretch and looked at beyond it.

    Every method learns the network and the sharpness of the kernel by the same score. Without perturbation it is the
    gradient of the cross-entropy.

    Attributes
    ----------
    line : TokenLine
    methods : mapping of str to Method
        Their ``levels``, one each, are in units of the true scale.
    score : Score
    draws : int
        Draws K an observation and update.
    """

    line: TokenLine = field(default_factory=TokenLine)
    methods: Mapping[str, Method] = field(default_factory=_methods)
    score: Score = cross_fitted
    draws: int = 4

    @property
    def name(self) -> str:
        """Name of the regime."""
        return "tokens"

    def run(
        self, method: Method, n: int, ensemble: Ensemble, generators: list[torch.Generator], device: str
    ) -> dict[str, tuple[Tensor, float]]:
        """Estimates (R,) and truth of every parameter: mean divergence by distance, and the scale."""
        samples = [self.line.sample(n, part) for part in generators]
        prefix, y = (torch.stack(part).to(device) for part in zip(*samples, strict=True))
        parameters = self._fit(method, ensemble, prefix, y, generators)
        fitted = self._law(ensemble, parameters, self._grid().to(device)).cpu()
        true = self.line.log_prob(self._grid(), normal_nodes(_NODES)[:, 0])
        divergence = (true.exp() * (true - fitted)).sum(dim=-1)
        distance = self._grid()[:, 0].abs() - self.line.half_width
        errors = by_distance(distance, divergence)
        scale = parameters[SCALE].exp().flatten().cpu() / self.line.scale
        return {f"divergence {label}": (value, 0.0) for label, value in errors.items()} | {"scale": (scale, 1.0)}

    def _grid(self) -> Tensor:
        """Prefixes (G, T) that repeat one token, from every token of the line up to the furthest distance."""
        last = round((self.line.half_width + EDGES[-1]) / self.line.spacing)
        tokens = self.line.spacing * torch.arange(-last, last + 1)
        return tokens[:, None].expand(-1, len(self.line.weights))

    def _fit(
        self, method: Method, ensemble: Ensemble, prefix: Tensor, y: Tensor, generators: list[torch.Generator]
    ) -> Parameters:
        replicates = len(generators)
        start = ensemble.network(prefix.shape[-1], generators, "kernel.network")
        scale = method.scales(replicates) + math.log(self.line.scale)
        parameters = start | {SCALE: scale, SHARPNESS: torch.full((replicates, 1, 1), math.log(APART))}
        log_p = self._log_prob(ensemble)

        def loss(free: Parameters, batch: dict[str, Tensor], z: Tensor) -> Tensor:
            """Sum over members of the mean surrogate loss, whose frozen copy carries no gradient."""
            live = log_p(free, batch["prefix"], z).flatten(1, 2)
            weight = live.new_full((len(live),), -math.log(len(live)))
            return self.score.loss(live, live.detach(), batch["y"].flatten(), weight).sum() / ensemble.batch

        learnable = [*start, SHARPNESS, *([SCALE] if method.learned else [])]
        parameters = {name: value.to(prefix.device) for name, value in parameters.items()}
        latents = (self.draws, prefix.shape[-1])
        return ensemble.train(parameters, learnable, loss, {"prefix": prefix, "y": y}, generators, latents)

    def _log_prob(self, ensemble: Ensemble) -> Callable[[Parameters, Tensor, Tensor], Tensor]:
        module = PerturbedKernel(self.line, ensemble.hidden)
        return lambda parameters, prefix, z: functional_call(module, parameters, (prefix, z))

    def _law(self, ensemble: Ensemble, parameters: Parameters, prefix: Tensor) -> Tensor:
        """Log-probabilities (R, G, V) of the fitted mixture."""
        z = normal_nodes(_NODES)[:, None, None, : prefix.shape[-1]].to(prefix.device)
        members = len(parameters[SCALE])
        log_p = self._log_prob(ensemble)(parameters, prefix.expand(members, -1, -1), z)
        return log_p.logsumexp(dim=0) - math.log(len(z))
