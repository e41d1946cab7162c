r"""Methods that fit one network, which differ in where the noise enters and in what is learned of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from eeqs.marginal import Gaussian, GaussianResponse, Network
from eeqs.marginal.crps import energy_loss
from simulations.designs.distances import EDGES, by_distance, reach
from simulations.designs.ensemble import Ensemble, Parameters
from simulations.designs.pre_additive import PreAdditive, normal_nodes

__all__ = ["METHODS", "Extrapolation", "Method"]

ResponseLoss = Callable[[Tensor, Tensor], Tensor]
PRE, POST = "perturbation.log_scale", "kernel.log_scale"
START = 0.3
"""Noise scale that methods hold or start from, in standard deviations of the true noise or of y."""
TOLERANCE = 0.25
STEP = 0.125
_NODES = 127
_VALIDATION_DRAWS = 64


def squared_loss(simulated: Tensor, y: Tensor) -> Tensor:
    """Squared error (..., n) of responses (K, ..., n)."""
    return (simulated - y).square().mean(dim=0)


@dataclass(frozen=True)
class Method:
    r"""Fit of :math:`y = m(x + \sigma z) + s u` with a network m and standard normal z and u.

    Attributes
    ----------
    levels : tuple of float
        Scales :math:`\sigma`. Of several, each replicate keeps the one with the best score on a validation sample from
        inside the support.
    learned : bool
        Whether :math:`\sigma` is learned from there.
    post : bool
        Whether s is learned, from `START` standard deviations of y; otherwise it is zero.
    loss : callable
        ``loss(simulated, y)``. The energy score of a prediction without noise is its absolute error.
    """

    levels: tuple[float, ...] = (0.0,)
    learned: bool = False
    post: bool = False
    loss: ResponseLoss = energy_loss

    def scales(self, replicates: int) -> Tensor:
        """Give the initial log-scales (members, 1, 1): all replicates at the first level, then at the next."""
        return torch.tensor(self.levels).log().repeat_interleave(replicates)[:, None, None]


METHODS = {
    "learned": Method((START,), learned=True),
    "fixed": Method((START,), post=True),
    "tuned": Method((0.3, 0.6, 1.2)),
    "additive": Method(post=True),
    "least_squares": Method(loss=squared_loss),
    "least_absolute": Method(),
}
"""The learned scale, three kinds of fixed ones (held at `START`, chosen on a grid, zero), and two plain regressions."""


class Simulator(nn.Module):
    """Responses of a perturbed kernel for latents that are given."""

    def __init__(self, hidden: tuple[int, ...]) -> None:
        super().__init__()
        network = Network.random((1, *hidden, 1), torch.Generator(), torch.relu)
        self.perturbation = Gaussian(1)
        self.kernel = GaussianResponse(1, network)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Responses (K, S, n) at covariates (S, n, 1) for latents (K, S, n, 2): inside the network, then after it."""
        return self.kernel.response(self.perturbation(x, z[..., :1]), z[..., 1])


@dataclass(frozen=True)
class Extrapolation:
    """One truth, fitted on its support and looked at beyond it.

    Attributes
    ----------
    truth : PreAdditive
    methods : mapping of str to Method
    draws : int
        Simulated responses K an observation and update.
    validation : int
        Observations to choose a level with, where a method has several.
    """

    truth: PreAdditive
    methods: Mapping[str, Method] = field(default_factory=lambda: METHODS)
    draws: int = 2
    validation: int = 250
    grid: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        far = EDGES[-1]
        count = round((self.truth.high - self.truth.low + 2 * far) / STEP) + 1
        object.__setattr__(self, "grid", torch.linspace(self.truth.low - far, self.truth.high + far, count))

    @property
    def name(self) -> str:
        """Name of the truth."""
        return self.truth.name

    def run(
        self, method: Method, n: int, ensemble: Ensemble, generators: list[torch.Generator], device: str
    ) -> dict[str, tuple[Tensor, float]]:
        """Estimates (R,) and truth of every parameter, one replicate a generator."""
        samples = [[self.truth.sample(size, part) for size in (n, self.validation)] for part in generators]
        (x, y), held = (
            tuple(torch.stack(part).to(device) for part in zip(*sample, strict=True))
            for sample in zip(*samples, strict=True)
        )
        centre, unit = y.mean(dim=1, keepdim=True), y.std(dim=1, keepdim=True)
        parameters = self._fit(method, ensemble, x, (y - centre) / unit, generators)
        best = self._best(method, parameters, ensemble, held[0], (held[1] - centre) / unit, generators)
        chosen = {name: value[best] for name, value in parameters.items()}
        nodes = normal_nodes(_NODES).to(device)
        points = self._scaled(self.grid.to(device)).expand(len(generators), -1)[..., None]
        fitted = self._simulator(ensemble)(chosen, points, nodes[:, None, None, :]) * unit + centre
        # The sums of an evaluation are the same on every device.
        return self._summaries(fitted.cpu(), nodes[:, 0].cpu()) | {"scale": (chosen[PRE].exp().flatten().cpu(), 1.0)}

    def _fit(
        self, method: Method, ensemble: Ensemble, x: Tensor, y: Tensor, generators: list[torch.Generator]
    ) -> Parameters:
        levels, replicates = len(method.levels), len(generators)
        start = ensemble.network(1, generators, "kernel.mean")
        parameters = {name: value.repeat(levels, 1, 1) for name, value in start.items()}
        parameters[PRE] = method.scales(replicates)
        parameters[POST] = torch.full((levels * replicates, 1), math.log(START) if method.post else -torch.inf)
        learnable = [*start, *([PRE] if method.learned else []), *([POST] if method.post else [])]
        simulate = self._simulator(ensemble)

        def loss(free: Parameters, batch: dict[str, Tensor], z: Tensor) -> Tensor:
            """Sum over members of the mean loss; the levels of a replicate see the same batch and latents."""
            simulated = simulate(free, batch["x"].repeat(levels, 1, 1), z.repeat(1, levels, 1, 1))
            return method.loss(simulated, batch["y"].repeat(levels, 1)).mean(dim=-1).sum()

        parameters = {name: value.to(x.device) for name, value in parameters.items()}
        return ensemble.train(parameters, learnable, loss, {"x": self._scaled(x), "y": y}, generators, (self.draws, 2))

    def _best(
        self, method: Method, parameters: Parameters, ensemble: Ensemble, x: Tensor, y: Tensor,
        generators: list[torch.Generator],
    ) -> Tensor:  # fmt: skip
        """Members (R,) with the best energy score on the validation sample, of each replicate's levels."""
        levels, replicates = len(method.levels), len(generators)
        members = torch.arange(levels * replicates, device=x.device).view(levels, replicates)
        if levels == 1:
            return members[0]
        shape = (_VALIDATION_DRAWS, x.shape[1], 2)
        z = torch.stack([torch.randn(shape, generator=part) for part in generators], dim=1).to(x.device)
        points, latents = self._scaled(x).repeat(levels, 1, 1), z.repeat(1, levels, 1, 1)
        simulated = self._simulator(ensemble)(parameters, points, latents)
        score = energy_loss(simulated, y.repeat(levels, 1)).mean(dim=-1).view(levels, replicates)
        return members.gather(0, score.argmin(dim=0)[None])[0]

    def _simulator(self, ensemble: Ensemble) -> Callable[[Parameters, Tensor, Tensor], Tensor]:
        module = Simulator(ensemble.hidden)
        return lambda parameters, x, z: functional_call(module, parameters, (x, z))

    def _scaled(self, x: Tensor) -> Tensor:
        """Put the middle of the support at zero; the unit stays that of the noise."""
        return x - (self.truth.low + self.truth.high) / 2

    def _summaries(self, fitted: Tensor, nodes: Tensor) -> dict[str, tuple[Tensor, float]]:
        """Errors of the fitted laws (M, R, G) by distance, the reach of the median, and points of the mean curve."""
        distance, true = self.truth.distance(self.grid), self.truth.responses(self.grid, nodes)
        mean, median = fitted.mean(dim=0), fitted.median(dim=0).values
        squares = {"mean": mean - true.mean(dim=-1), "median": median - self.truth.function(self.grid)}
        found: dict[str, tuple[Tensor, float]] = {}
        for name, error in squares.items():
            for label, value in by_distance(distance, error.square()).items():
                found[f"{name} {label}"] = value.sqrt(), 0.0
        for label, value in by_distance(distance, energy_distance(fitted, true.T[:, None])).items():
            found[f"energy {label}"] = value, 0.0
        tolerance = TOLERANCE * self.truth.spread(nodes)
        found["reach"] = reach(distance, squares["median"].abs() <= tolerance), 0.0
        for index in range(0, len(self.grid), round(0.5 / STEP)):
            found[f"curve {float(self.grid[index]):+.1f}"] = mean[:, index], float(true[index].mean())
        return found


def energy_distance(sample: Tensor, other: Tensor) -> Tensor:
    r"""Excess of the energy score, :math:`\int (F - G)^2`, of samples (M, ...) along the first axis.

    References
    ----------
    Székely & Rizzo (2013) Journal of Statistical Planning and Inference 143.
    """
    sample, other = torch.broadcast_tensors(sample, other)
    values, order = torch.cat([sample, other]).sort(dim=0)
    m = len(sample)
    difference = torch.where(order < m, 1.0 / m, -1.0 / m).cumsum(dim=0)
    return (difference[:-1].square() * values.diff(dim=0)).sum(dim=0)
