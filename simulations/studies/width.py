"""Error of two-layer networks as the sample and the width grow, with and without regularisation: claim T8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.random import SeedSequence
from torch import Tensor

from simulations.claims import width as claims
from simulations.designs.network_path import NetworkPath
from simulations.designs.random_features import RandomFeatures
from simulations.designs.relu_teacher import ReluTeacher
from simulations.designs.selection import Keep
from simulations.schema import CONVERGED
from simulations.seeds import torch_generator
from simulations.study import Cell, Preset

__all__ = ["STUDY", "Size", "Width"]

# Activations held by one batch of replicates: a few MB, so that its temporaries stay near the cache.
_BATCH_NUMBERS = 400_000


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    sizes : tuple of int
        Training sizes n of the slopes.
    burn_in : int
        Size from which slopes are fitted.
    rate_replicates : int
        Replicates of each size.
    sweep_size, sweep_replicates : int
        Training size of the sweeps over the width, and their replicates.
    """

    sizes: tuple[int, ...]
    burn_in: int
    rate_replicates: int
    sweep_size: int
    sweep_replicates: int


def _presets() -> dict[Preset, Size]:
    quick = Size((50, 100, 200, 400), 100, 24, sweep_size=50, sweep_replicates=60)
    full = Size((50, 100, 200, 400, 800), 100, 60, sweep_size=200, sweep_replicates=50)
    return {Preset.QUICK: quick, Preset.FULL: full}


@dataclass(frozen=True)
class Width:
    """Networks trained by gradient descent, and random features fitted in closed form, on samples of one teacher.

    A cell is a learner, a training size ``n`` and a ``ratio`` of the width to n; as many further observations choose
    along the learner's path. Its rows are the mean squared distance to the teacher of the fit chosen there
    (``regularised``: stopped early, or with a ridge penalty) and of the end of the path (``unregularised``: the last
    update, or the minimum norm). Cells of one n share their observations.

    Attributes
    ----------
    sizes : mapping of Preset to Size
    learners : mapping of str to NetworkPath or RandomFeatures
    rate_ratios, sweep_ratios : mapping of str to tuple of float
        Ratios m / n of each learner at which n grows, and over which the width grows.
    design : ReluTeacher
    keep : callable
        Rule of choice along a path, see `simulations.designs.selection.Keep`.
    device : str
    """

    name: str = "width"
    summary: str = "error of two-layer networks against sample size and width, regularised and not (T8)"
    sizes: Mapping[Preset, Size] = field(default_factory=_presets)
    learners: Mapping[str, NetworkPath | RandomFeatures] = field(
        default_factory=lambda: {"network": NetworkPath(), "random_features": RandomFeatures()}
    )
    rate_ratios: Mapping[str, tuple[float, ...]] = field(
        default_factory=lambda: {"network": (0.1, 1.0), "random_features": (10.0,)}
    )
    sweep_ratios: Mapping[str, tuple[float, ...]] = field(
        default_factory=lambda: {
            "network": (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0),
            "random_features": (0.1, 0.2, 0.5, 0.8, 0.9, 1.0, 1.1, 1.2, 2.0, 5.0, 10.0, 50.0),
        }
    )
    design: ReluTeacher = field(default_factory=ReluTeacher)
    keep: Keep = torch.lt
    device: str = "cpu"

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset."""
        size = self.sizes[preset]
        counts = {
            (learner, n, ratio): size.rate_replicates
            for learner, ratios in self.rate_ratios.items()
            for n in size.sizes
            for ratio in ratios
        }
        for learner, ratios in self.sweep_ratios.items():
            counts |= {(learner, size.sweep_size, ratio): size.sweep_replicates for ratio in ratios}
        return [self._cell(*levels, replicates) for levels, replicates in counts.items()]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Simulate and fit a batch of replicates at once."""
        learner, n, ratio = (cell.parameters[name] for name in ("learner", "n", "ratio"))
        generators = [torch_generator(seed) for seed in seeds]
        train, validation = (self._samples(int(n), generators) for _ in range(2))
        test = self.design.test_inputs()
        width = _width(int(n), float(ratio))
        fits = self.learners[str(learner)].fit(train, validation, test, width, generators, self.keep)
        target = self.design.target(test)
        errors = [(fit.cpu().double() - target).square().mean(dim=1).numpy() for fit in fits]
        rows = [
            pd.DataFrame({"replicate": np.asarray(replicates, dtype=np.int64), "parameter": name, "estimate": error})
            for name, error in zip(("regularised", "unregularised"), errors, strict=True)
        ]
        table = pd.concat(rows, ignore_index=True)
        status = np.where(np.isfinite(table["estimate"]), CONVERGED, "diverged")
        return table.assign(truth=0.0, se=np.nan, status=status)

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge T8."""
        size = self.sizes[preset]
        return claims.judge(table, burn_in=size.burn_in, sweep_size=size.sweep_size)

    def _samples(self, n: int, generators: list[torch.Generator]) -> tuple[Tensor, Tensor]:
        x, y = zip(*(self.design.sample(n, generator) for generator in generators), strict=True)
        return torch.stack(x).to(self.device), torch.stack(y).to(self.device)

    def _cell(self, learner: str, n: int, ratio: float, replicates: int) -> Cell:
        numbers = n * _width(n, ratio)
        return Cell(
            self.name,
            {"learner": learner, "n": n, "ratio": ratio},
            replicates,
            batch=min(replicates, max(1, _BATCH_NUMBERS // numbers)),
            stream=f"n={n}",
            cost=numbers * (1.0 if learner == "network" else 0.1) + 1e4,
        )


def _width(n: int, ratio: float) -> int:
    """Units of a network: the even number next to ratio * n."""
    return max(2, 2 * round(ratio * n / 2))


STUDY = Width()
