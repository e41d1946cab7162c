"""Prediction beyond the training support by learned, fixed and no perturbation: claim T11 of the theory notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.random import SeedSequence

from simulations.claims import extrapolation as claims
from simulations.designs.ensemble import Ensemble
from simulations.designs.extrapolators import Extrapolation
from simulations.designs.pre_additive import TRUTHS
from simulations.designs.token_extrapolation import TokenExtrapolation
from simulations.schema import CONVERGED
from simulations.seeds import torch_generator
from simulations.study import Cell, Preset

__all__ = ["STUDY", "ExtrapolationStudy", "Size"]

Regime = Extrapolation | TokenExtrapolation
NOT_FINITE = "not finite"


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    n : int
        Training observations.
    replicates : int
        Samples, each with its own initial network; the same for all methods.
    batch : int
        Replicates trained at once.
    """

    n: int
    replicates: int
    batch: int


def _presets() -> dict[Preset, Size]:
    return {Preset.QUICK: Size(n=2000, replicates=12, batch=12), Preset.FULL: Size(n=2000, replicates=48, batch=12)}


@dataclass(frozen=True)
class ExtrapolationStudy:
    """Methods on scalar truths and on a line of tokens.

    A cell is a method, ``estimator``, on a truth, ``regime``. Its rows hold errors by distance beyond the support, the
    reach of the fitted median, the noise scale, and points of the fitted mean. The cells of a regime share samples,
    initial networks, batches and latents.

    Sums in single precision may round differently in batches of another size, and a thousand updates can amplify that:
    tables are bitwise the same for the batches of one plan, whoever runs them.

    Attributes
    ----------
    regimes : tuple of Extrapolation or TokenExtrapolation
    ensemble : Ensemble
        Network and optimiser, the same for all methods.
    device : str
        Where networks are trained; sampling stays on the CPU.
    """

    name: str = "extrapolation"
    summary: str = "error beyond the training support: learned, fixed and no perturbation (T11)"
    sizes: Mapping[Preset, Size] = field(default_factory=_presets)
    regimes: tuple[Regime, ...] = (*map(Extrapolation, TRUTHS), TokenExtrapolation())
    ensemble: Ensemble = field(default_factory=Ensemble)
    device: str = "cpu"

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset."""
        size = self.sizes[preset]
        return [
            Cell(
                self.name,
                {"regime": regime.name, "estimator": name, "n": size.n},
                size.replicates,
                size.batch,
                stream=f"{regime.name},n={size.n}",
                cost=float(len(method.levels) * regime.draws),
            )
            for regime in self.regimes
            for name, method in regime.methods.items()
        ]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Train and evaluate a batch of replicates at once."""
        regime = next(part for part in self.regimes if part.name == cell.parameters["regime"])
        method, n = regime.methods[str(cell.parameters["estimator"])], int(cell.parameters["n"])
        found = regime.run(method, n, self.ensemble, [torch_generator(seed) for seed in seeds], self.device)
        estimates = torch.stack([value for value, _ in found.values()], dim=1).double().numpy()
        # A fit that diverged has failed as a whole.
        failed = ~np.isfinite(estimates).all(axis=1, keepdims=True)
        return pd.DataFrame(
            {
                "replicate": np.repeat(np.asarray(replicates, dtype=np.int64), len(found)),
                "parameter": list(found) * len(replicates),
                "truth": [truth for _, truth in found.values()] * len(replicates),
                "estimate": np.where(failed, np.nan, estimates).ravel(),
                "se": np.nan,
                "status": np.repeat(np.where(failed[:, 0], NOT_FINITE, CONVERGED), len(found)),
            }
        )

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge T11."""
        truths = {regime.name: regime.truth for regime in self.regimes if isinstance(regime, Extrapolation)}
        return claims.judge(table, truths, n=self.sizes[preset].n)


STUDY = ExtrapolationStudy()
