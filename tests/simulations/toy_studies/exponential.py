"""The mean of n standard exponentials, plain and shrunk by n / (n + 1): bias 0 and -1/(n+1), MSE 1/n and 1/(n+1)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.random import SeedSequence

from simulations.rates import slope
from simulations.study import VERDICT_COLUMNS, Cell, Preset
from simulations.verdicts import point


@dataclass(frozen=True)
class Exponential:
    """A toy study; one replicate in twenty fails, whatever its data."""

    name: str = "exponential"
    summary: str = "mean of exponentials"
    predicted: float = -0.5
    pause: float = 0.0
    breaks_at: int = 0
    sizes: tuple[int, ...] = (10, 40, 160)
    replicates: int = 60

    def cells(self, preset: Preset) -> list[Cell]:
        replicates = self.replicates * (2 if preset == Preset.FULL else 1)
        return [
            Cell(self.name, {"estimator": estimator, "n": n}, replicates, 25, stream=f"n={n}", cost=n)
            for n in self.sizes
            for estimator in ("plain", "shrunk")
        ]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        n = cell.parameters["n"]
        if n == self.breaks_at:
            raise ZeroDivisionError("as planted")
        time.sleep(self.pause)
        rows = []
        for replicate, seed in zip(replicates, seeds, strict=True):
            rng = np.random.default_rng(seed)
            factor = n / (n + 1) if cell.parameters["estimator"] == "shrunk" else 1.0
            sample = factor * rng.exponential(size=n)
            fails = rng.random() < 0.05
            estimate, se = (np.nan, np.nan) if fails else (sample.mean(), sample.std(ddof=1) / n**0.5)
            rows.append((replicate, "mean", 1.0, estimate, se, "refused" if fails else "converged"))
        return pd.DataFrame(rows, columns=["replicate", "parameter", "truth", "estimate", "se", "status"])

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        found = slope(table[table["estimator"] == "plain"], seed=len(preset))
        verdict = point(self.predicted, found.low, found.high, max_width=0.3)
        row = ("rate", "plain", "slope of RMSE", self.predicted)
        return pd.DataFrame(
            [(*row, found.estimate, found.low, found.high, found.monte_carlo_se, verdict)], columns=VERDICT_COLUMNS
        )


STUDY = Exponential()
