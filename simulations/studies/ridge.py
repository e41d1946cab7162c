"""Rates of ridge with more parameters than observations, for three kinds of response: claim T7 of the theory notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from numpy.random import SeedSequence

from eeqs import Status
from simulations.claims import ridge as claims
from simulations.designs.dual_ridge import solve
from simulations.designs.power_law import gram
from simulations.designs.ridge_lines import LINES, Line, theory_penalty
from simulations.seeds import torch_generator
from simulations.study import Cell, Preset

__all__ = ["STUDY", "Ridge", "Size"]


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    least_squares, binary : mapping of int to int
        Replicates at each sample size n, for least squares and for binary responses.
    max_width : float
        Widest interval of a slope that can support its claim.
    """

    least_squares: Mapping[int, int]
    binary: Mapping[int, int]
    max_width: float


def _presets() -> dict[Preset, Size]:
    return {
        Preset.QUICK: Size(
            least_squares={64: 40, 128: 30, 256: 20, 512: 12, 1024: 10},
            binary={128: 30, 256: 20, 512: 12, 1024: 10},
            max_width=0.2,
        ),
        Preset.FULL: Size(
            least_squares={64: 200, 128: 150, 256: 120, 512: 80, 1024: 50, 2048: 24},
            binary={64: 60, 128: 60, 256: 60, 512: 50, 1024: 40, 2048: 24},
            max_width=0.1,
        ),
    }


@dataclass(frozen=True)
class Ridge:
    """Excess risk of ridge against n, for several spectra and targets.

    A cell is a line, named by ``estimator``, ``decay`` a and ``source`` r, at a sample size ``n``. A replicate draws
    one design matrix and several response vectors, and its row is the mean of their excess risks: a further response
    costs little next to the Gram matrix. Replicates are solved one by one, each being large matrix products already.

    Attributes
    ----------
    lines : tuple of Line
    penalty : callable
        ``penalty(line, n)``, the ridge penalty per observation.
    responses : int
        Response vectors on one design matrix.
    device : str
        Where the matrix products run; sampling stays on the CPU.
    """

    name: str = "ridge"
    summary: str = "excess risk of ridge with p >> n: least squares, logistic and perturbed logit (T7)"
    sizes: Mapping[Preset, Size] = field(default_factory=_presets)
    lines: tuple[Line, ...] = LINES
    penalty: Callable[[Line, int], float] = theory_penalty
    responses: int = 4
    device: str = "cpu"

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset; lines that differ in the estimator only see the same features."""
        size = self.sizes[preset]
        return [
            Cell(
                self.name,
                {**line.levels, "n": n},
                replicates,
                batch=min(replicates, max(2, 4096 // n)),
                stream=f"decay={line.design.decay},source={line.design.source},n={n}",
                cost=n * (n + 500.0),
            )
            for line in self.lines
            for n, replicates in (size.least_squares if line.estimator == "least_squares" else size.binary).items()
        ]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Simulate and solve a batch of replicates."""
        line = self._line(cell)
        n = int(cell.parameters["n"])
        found = [self._replicate(line, n, self.penalty(line, n), seed) for seed in seeds]
        return pd.DataFrame(
            {
                "replicate": np.asarray(replicates, dtype=np.int64),
                "parameter": "excess_risk",
                "truth": 0.0,
                "estimate": [risk for risk, _ in found],
                "se": np.nan,
                "status": [status.label for _, status in found],
            }
        )

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge T7."""
        return claims.judge(table, self.lines, max_width=self.sizes[preset].max_width)

    def _line(self, cell: Cell) -> Line:
        return next(line for line in self.lines if line.levels.items() <= cell.parameters.items())

    def _replicate(self, line: Line, n: int, penalty: float, seed: SeedSequence) -> tuple[float, Status]:
        """Mean excess risk over the responses, and the first status that is not convergence."""
        generator, design, model = torch_generator(seed), line.design, line.model
        features = design.features(n, generator)
        truth, eigenvalues = (part.to(self.device) for part in (design.coefficients, design.eigenvalues))
        index = (features @ design.coefficients.float()).double()
        sample = model.sample(index, self.responses, generator)
        data = {name: part.to(self.device) for name, part in sample.items()}
        features = features.to(self.device)
        root = solve(
            gram(features),
            partial(model.residual, data=data),
            penalty,
            model.linearised(design.signal).information,
            self.responses,
        )
        fitted = (root.residuals.float() @ features).double() / (n * penalty)
        weighted = eigenvalues * fitted
        risks = model.excess_risk(design.signal, weighted @ truth, (weighted * fitted).sum(dim=1))
        failures = [status for status in root.status if status is not Status.CONVERGED]
        return float(risks.mean()), failures[0] if failures else Status.CONVERGED


STUDY = Ridge()
