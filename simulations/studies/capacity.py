"""A noise scale learned beside a kernel whose capacity passes n, in sample and by a split sample: claim T13."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.random import SeedSequence

from eeqs.marginal import cross_fitted, single_draw
from simulations.claims import capacity as claims
from simulations.designs.hidden_noise import HiddenNoise
from simulations.designs.joint_training import Equations, JointTraining
from simulations.schema import CONVERGED
from simulations.seeds import torch_generator
from simulations.study import Cell, Preset

__all__ = ["STUDY", "Capacity", "Size"]

# Features held by one batch of replicates: a few MB, so that its temporaries stay near the cache.
_BATCH_NUMBERS = 1_500_000


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    n : int
        Observations of a sample.
    ratios : tuple of float
        Capacities m / n.
    replicates : int
        Replicates a cell.
    crossover_sizes : tuple of int
        Two sample sizes at which the crossover of in-sample estimation is located.
    crossover_replicates : int
        Replicates there.
    """

    n: int
    ratios: tuple[float, ...]
    replicates: int
    crossover_sizes: tuple[int, int]
    crossover_replicates: int


def _presets() -> dict[Preset, Size]:
    ratios = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 20.0)
    quick = Size(50, ratios, 12, crossover_sizes=(100, 200), crossover_replicates=24)
    return {
        Preset.QUICK: quick,
        Preset.FULL: Size(100, ratios, 40, crossover_sizes=(200, 400), crossover_replicates=60),
    }


@dataclass(frozen=True)
class Capacity:
    """One classification problem with hidden noise, fitted by kernels of growing capacity.

    A cell is a ``method`` at a sample size ``n`` and a ``ratio`` of the capacity m to n. Its rows are ``scale``, the
    fitted noise scale against the true one, and ``loss``, the held-out log-loss against the entropy of the truth, the
    least there is. Cells of one n share their observations.

    Attributes
    ----------
    sizes : mapping of Preset to Size
    methods : mapping of str to Equations
        ``plain`` has no noise. ``in_sample`` solves one cross-fitted equation for theta and phi; with ``_single`` theta
        solves that of single draws instead. ``split`` ones solve phi's equation on the half that theta does not see.
    design : HiddenNoise
    training : JointTraining
    device : str
    """

    name: str = "capacity"
    summary: str = "noise scale and held-out loss as the kernel's capacity passes n, in sample and split (T13)"
    sizes: Mapping[Preset, Size] = field(default_factory=_presets)
    methods: Mapping[str, Equations] = field(
        default_factory=lambda: {
            "plain": Equations(single_draw, None),
            "in_sample": Equations(cross_fitted, cross_fitted),
            "in_sample_single": Equations(single_draw, cross_fitted),
            "split": Equations(cross_fitted, cross_fitted, split=True),
            "split_single": Equations(single_draw, cross_fitted, split=True),
        }
    )
    design: HiddenNoise = field(default_factory=HiddenNoise)
    training: JointTraining = field(default_factory=JointTraining)
    device: str = "cpu"

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset."""
        size = self.sizes[preset]
        grid = [self._cell(method, size.n, ratio, size.replicates) for method in self.methods for ratio in size.ratios]
        low = [ratio for ratio in size.ratios if ratio < claims.INTERPOLATION]
        located = [(n, ratio) for n in size.crossover_sizes for ratio in low]
        return grid + [self._cell("in_sample", n, ratio, size.crossover_replicates) for n, ratio in located]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Simulate, train and evaluate a batch of replicates at once."""
        method, n, ratio = (cell.parameters[name] for name in ("method", "n", "ratio"))
        generators = [torch_generator(seed) for seed in seeds]
        x, y = zip(*(self.design.sample(int(n), generator) for generator in generators), strict=True)
        sample = torch.stack(x).to(self.device), torch.stack(y).to(self.device)
        width = _width(int(n), float(ratio))
        equations, inner = self.methods[str(method)], self.design.weights[0]
        fit = self.training.fit(equations, sample, self.design.test, inner, width, generators)
        truths = {"scale": self.design.scale, "loss": self.design.entropy}
        rows = [
            pd.DataFrame(
                {
                    "replicate": np.asarray(replicates, dtype=np.int64),
                    "parameter": name,
                    "truth": truth,
                    "estimate": getattr(fit, name).double().numpy(force=True),
                }
            )
            for name, truth in truths.items()
        ]
        finite = (torch.isfinite(fit.scale) & torch.isfinite(fit.loss)).numpy(force=True)
        status = np.tile(np.where(finite, CONVERGED, "diverged"), len(rows))
        return pd.concat(rows, ignore_index=True).assign(se=np.nan, status=status)

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge T13."""
        return claims.judge(table, n=self.sizes[preset].n, crossover_sizes=self.sizes[preset].crossover_sizes)

    def _cell(self, method: str, n: int, ratio: float, replicates: int) -> Cell:
        draws = self.training.draws if self.methods[method].phi else 1
        numbers = draws * n * _width(n, ratio)
        return Cell(
            self.name,
            {"method": method, "n": n, "ratio": ratio},
            replicates,
            batch=min(replicates, max(1, _BATCH_NUMBERS // numbers)),
            stream=f"n={n}",
            cost=numbers + 1e4,
        )


def _width(n: int, ratio: float) -> int:
    """Capacity of a kernel: the integer next to ratio * n."""
    return max(1, round(ratio * n))


STUDY = Capacity()
