"""Averaged stochastic approximation and its online intervals: claim T9 of the theory notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.random import SeedSequence
from scipy.stats import norm
from torch import Tensor

import eeqs
from simulations.claims import stochastic as claims
from simulations.designs.logistic import Logistic
from simulations.designs.noise_variance import NoiseVariance
from simulations.seeds import torch_generator
from simulations.study import Cell, Preset

__all__ = ["STUDY", "Design", "Regime", "Runs", "Size", "Stochastic"]

# Rows a replicate draws at once: few calls of the generator, a few MB for all replicates of a batch.
_BLOCK_ROWS = 2048
_BATCH_REPLICATES = 300


class Design(Protocol):
    """Known truth, an estimating function, and as many observations as are asked for."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names."""

    @property
    def truth(self) -> tuple[float, ...]:
        """True parameters."""

    @property
    def start(self) -> tuple[float, ...]:
        """First iterate."""

    def psi(self) -> eeqs.EstimatingFunction:
        """Estimating function."""

    def project(self, theta: Tensor) -> Tensor:
        """Bring an iterate into the allowed region."""

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations."""


@dataclass(frozen=True)
class Regime:
    """A design and how it is iterated.

    Attributes
    ----------
    design : Design
    rows : int
        Rows of a mini-batch; a divisor of 2048.
    step : eeqs.PowerStep
        Step sizes.
    cost : float
        Expected time of a step, relative to the other regimes.
    """

    design: Design
    rows: int
    step: eeqs.PowerStep
    cost: float = 1.0


@dataclass(frozen=True)
class Runs:
    """Cells of one regime.

    Attributes
    ----------
    steps : tuple of int
        Averaged steps T.
    burn_in : int
        Smallest T of the fitted slopes.
    replicates : int
        Replicates a cell.
    """

    steps: tuple[int, ...]
    burn_in: int
    replicates: int


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    runs : mapping of str to Runs
        By regime.
    path_steps : tuple of int
        Numbers of steps at which the paths of the figure are shown.
    slope_width, coverage_width : float
        Widest interval of a slope, and of a coverage, that can support a claim.
    """

    runs: Mapping[str, Runs]
    path_steps: tuple[int, ...]
    slope_width: float
    coverage_width: float


def _sizes() -> dict[Preset, Size]:
    return {
        Preset.QUICK: Size(
            runs={
                "logistic": Runs((128, 256, 512, 1024, 2048), burn_in=256, replicates=300),
                "marginal": Runs((128, 256, 512, 1024), burn_in=128, replicates=160),
            },
            path_steps=_path_steps(512),
            slope_width=0.25,
            coverage_width=0.12,
        ),
        Preset.FULL: Size(
            runs={
                "logistic": Runs((128, 256, 512, 1024, 2048, 4096, 8192), burn_in=256, replicates=1000),
                "marginal": Runs((128, 256, 512, 1024, 2048, 4096), burn_in=256, replicates=300),
            },
            path_steps=_path_steps(4096),
            slope_width=0.12,
            coverage_width=0.08,
        ),
    }


def _path_steps(last: int) -> tuple[int, ...]:
    return tuple(int(t) for t in np.unique(np.geomspace(16, last, 26).round()))


def _regimes() -> dict[str, Regime]:
    return {
        "logistic": Regime(Logistic(), rows=64, step=eeqs.PowerStep(16.0, 0.52, delay=30)),
        "marginal": Regime(NoiseVariance(), rows=64, step=eeqs.PowerStep(14.0, 0.52, delay=30), cost=25.0),
    }


def _methods() -> dict[str, eeqs.OnlineCovariance]:
    """Online covariances; batches grow by 2 / (1 - alpha) for the steps of the regimes."""
    return {
        "random_scaling": eeqs.RandomScaling(),
        "plug_in": eeqs.PlugIn(every=16),
        "batch_means": eeqs.BatchMeans(growth=2 / (1 - 0.52)),
    }


def averaged(fit: eeqs.StochasticEstimate) -> Tensor:
    """Averaged iterates (R, p)."""
    return fit.theta


@dataclass(frozen=True)
class Stochastic:
    """Runs of T averaged steps, after a burn-in of T / 10, on observations and draws that are used once.

    A cell is a regime, a number of ``steps`` T and a ``role``: ``rate`` for independent replicates at every T, or
    ``path`` for one run that is looked at after every T of a fine grid. Cells of the role ``path`` share their
    stream, so that each continues the one before. The ``parameter`` of a row is ``OUTPUT.COORDINATE``: the averaged
    iterate with the interval of one of the ``methods``, or the ``last`` iterate. Intervals are not all normal, so
    ``se`` is the half-length of the 95 % interval divided by the normal quantile 1.96.
    """

    name: str = "stochastic"
    summary: str = "RMSE and online intervals of averaged stochastic approximation, logistic and marginal (T9)"
    sizes: Mapping[Preset, Size] = field(default_factory=_sizes)
    regimes: Mapping[str, Regime] = field(default_factory=_regimes)
    methods: Mapping[str, eeqs.OnlineCovariance] = field(default_factory=_methods)
    estimator: Callable[[eeqs.StochasticEstimate], Tensor] = averaged

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset."""
        size = self.sizes[preset]
        cells = [
            self._cell(name, "rate", steps, runs.replicates) for name, runs in size.runs.items() for steps in runs.steps
        ]
        return cells + [self._cell("logistic", "path", steps, 1) for steps in size.path_steps]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Run a batch of replicates at once, one path each."""
        regime, steps = self.regimes[str(cell.parameters["regime"])], int(cell.parameters["steps"])
        design = regime.design
        burn_in = steps // 10
        fit = eeqs.stochastic(
            design.psi(),
            _batches(regime, [torch_generator(seed) for seed in seeds]),
            torch.tensor(design.start, dtype=torch.float64).expand(len(seeds), -1),
            step=regime.step,
            steps=steps + burn_in,
            burn_in=burn_in,
            project=design.project,
            covariance=tuple(self.methods.values()),
        )
        return pd.concat([self._rows(fit, design, replicates, name) for name in (*self.methods, "last")])

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge T9."""
        size = self.sizes[preset]
        return claims.judge(
            table,
            burn_in={name: runs.burn_in for name, runs in size.runs.items()},
            exponents={name: self.regimes[name].step.exponent for name in size.runs},
            slope_width=size.slope_width,
            coverage_width=size.coverage_width,
        )

    def _rows(
        self, fit: eeqs.StochasticEstimate, design: Design, replicates: Sequence[int], output: str
    ) -> pd.DataFrame:
        """Rows of one output, a replicate and coordinate each."""
        p = len(design.names)
        if output == "last":
            estimate, se = fit.last, torch.full_like(fit.last, torch.nan)
        else:
            estimate, se = self.estimator(fit), fit.half_width(0.95, self.methods[output]) / norm.ppf(0.975)
        return pd.DataFrame(
            {
                "replicate": np.repeat(np.asarray(replicates, dtype=np.int64), p),
                "parameter": [f"{output}.{name}" for name in design.names] * len(replicates),
                "truth": np.tile(np.asarray(design.truth), len(replicates)),
                "estimate": estimate.flatten().numpy(),
                "se": se.flatten().numpy(),
                "status": [status.label for status in fit.status for _ in range(p)],
            }
        )

    def _cell(self, regime: str, role: str, steps: int, replicates: int) -> Cell:
        return Cell(
            self.name,
            {"regime": regime, "role": role, "steps": steps},
            replicates,
            batch=min(replicates, _BATCH_REPLICATES),
            stream=f"{regime},path" if role == "path" else "",
            cost=steps * self.regimes[regime].cost / min(replicates, _BATCH_REPLICATES),
        )


def _batches(regime: Regime, generators: list[torch.Generator]) -> Iterator[dict[str, Tensor]]:
    """Endless mini-batches with leaves (R, rows, ...); replicate r reads its own generator, block by block."""
    while True:
        blocks = [regime.design.sample(_BLOCK_ROWS, generator) for generator in generators]
        data = {name: torch.stack([block[name] for block in blocks]) for name in blocks[0]}
        for start in range(0, _BLOCK_ROWS, regime.rows):
            yield {name: leaf[:, start : start + regime.rows] for name, leaf in data.items()}


STUDY = Stochastic()
