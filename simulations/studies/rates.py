"""Rates of five estimating functions of one model: claims T1, T2 and T3 of the theory notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.random import SeedSequence
from torch import Tensor

import eeqs
from eeqs.marginal import Score, cross_fitted, exact, plug_in, quadratic, single_draw
from simulations.claims import rates as claims
from simulations.designs.frozen_kernel import FrozenKernel
from simulations.seeds import torch_generator
from simulations.study import Cell, Preset

__all__ = ["BATCH_NUMBERS", "STUDY", "Rates", "Size"]

ROOT, SCORE = "root", "psi_at_truth"
_SCORES: dict[str, Score] = {s.name: s for s in (single_draw, plug_in, quadratic, cross_fitted)}
BATCH_NUMBERS = 1_200_000
"""Log-probabilities held by one batch of replicates: 10 MB a temporary, where more gains no time."""


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    sizes : tuple of int
        Sample sizes n.
    burn_in : int
        Size from which slopes are fitted.
    replicates, exact_replicates, single_draw_replicates : int
        Replicates a cell; quadrature is the dearest estimator and single_draw diverges whatever its number.
    bias_size, bias_replicates : int
        Sample size and replicates of the cells that vary the number of draws up to 64.
    score_size, score_replicates : int
        Those of the cells that evaluate psi at the truth.
    max_width : float
        Widest interval of a slope that can support a claim.
    """

    sizes: tuple[int, ...]
    burn_in: int
    replicates: int
    exact_replicates: int
    single_draw_replicates: int
    bias_size: int
    bias_replicates: int
    score_size: int
    score_replicates: int
    max_width: float


_PRESETS = {
    Preset.QUICK: Size(
        sizes=(100, 200, 500, 1000, 2000, 5000, 10000),
        burn_in=500,
        replicates=60,
        exact_replicates=40,
        single_draw_replicates=10,
        bias_size=2000,
        bias_replicates=100,
        score_size=2000,
        score_replicates=40,
        max_width=0.5,
    ),
    Preset.FULL: Size(
        sizes=(200, 500, 1000, 2000, 5000, 10000, 20000),
        burn_in=1000,
        replicates=300,
        exact_replicates=200,
        single_draw_replicates=30,
        bias_size=5000,
        bias_replicates=300,
        score_size=2000,
        score_replicates=300,
        max_width=0.15,
    ),
}


@dataclass(frozen=True)
class Rates:
    """Five estimators over a grid of sample sizes and draws.

    A cell is an estimator at a sample size ``n`` and a number of draws ``n_draws`` (0 for quadrature). Its
    ``quantity`` is ``root``, the estimate and its sandwich standard error, or ``psi_at_truth``, the mean of psi at
    the truth and its standard error. Cells of one n share their observations.
    """

    name: str = "rates"
    summary: str = "RMSE, bias and coverage of single_draw, plug_in, quadratic, cross_fitted and exact (T1, T2, T3)"
    draws: tuple[int, ...] = (2, 4, 8)
    many_draws: tuple[int, ...] = (16, 32, 64)
    design: FrozenKernel = field(default_factory=FrozenKernel)
    device: str = "cpu"

    def size(self, preset: Preset) -> Size:
        """Return what a preset runs."""
        return _PRESETS[preset]

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset."""
        size = self.size(preset)
        counts = dict.fromkeys(_SCORES, size.replicates) | {"single_draw": size.single_draw_replicates}
        grid = [self._cell(ROOT, name, n, k, counts[name]) for n in size.sizes for name in counts for k in self.draws]
        grid += [self._cell(ROOT, "exact", n, 0, size.exact_replicates) for n in size.sizes]
        grid += [self._cell(ROOT, "plug_in", size.bias_size, k, size.bias_replicates) for k in self.many_draws]
        grid += [
            self._cell(SCORE, name, size.score_size, k, size.score_replicates) for name in counts for k in self.draws
        ]
        return [*grid, self._cell(SCORE, "exact", size.score_size, 0, size.score_replicates)]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Simulate and estimate a batch of replicates at once."""
        estimator, n, n_draws = (cell.parameters[name] for name in ("estimator", "n", "n_draws"))
        score = exact(self.design.nodes) if estimator == "exact" else _SCORES[str(estimator)]
        draws = int(n_draws) or None
        samples = [self.design.sample(int(n), draws, torch_generator(seed)) for seed in seeds]
        data = {name: torch.stack([sample[name] for sample in samples]).to(self.device) for name in samples[0]}
        psi = self.design.model(self.design.start).to(self.device).psi(score, draws=draws)
        summarise = _root if cell.parameters["quantity"] == ROOT else _psi_at_truth
        estimate, se, status = summarise(psi, data, self.design)
        truth = self.design.truth if cell.parameters["quantity"] == ROOT else 0.0
        return pd.DataFrame(
            {
                "replicate": np.asarray(replicates, dtype=np.int64),
                "parameter": psi.names[0],
                "truth": truth,
                "estimate": estimate[:, 0].numpy(force=True),
                "se": se[:, 0].numpy(force=True),
                "status": status,
            }
        )

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge T1, T2 and T3."""
        return claims.judge(table, burn_in=self.size(preset).burn_in, max_width=self.size(preset).max_width)

    def _cell(self, quantity: str, estimator: str, n: int, n_draws: int, replicates: int) -> Cell:
        points = n_draws or self.design.nodes
        numbers = n * points * len(self.design.weight)
        return Cell(
            self.name,
            {"quantity": quantity, "estimator": estimator, "n": n, "n_draws": n_draws},
            replicates,
            batch=min(replicates, max(1, BATCH_NUMBERS // numbers)),
            stream=f"n={n}",
            cost=float(numbers) * (0.1 if quantity == SCORE else 1.0) + 1e4,
        )


def _root(
    psi: eeqs.EstimatingFunction, data: dict[str, Tensor], design: FrozenKernel
) -> tuple[Tensor, Tensor, list[str]]:
    start = torch.full((len(data["y"]), 1), design.start, dtype=torch.float64)
    solution = eeqs.solve(psi, data, start, tolerance=1e-6)
    bread = eeqs.bread(psi, solution.theta, data)
    meat = eeqs.meat(psi, solution.theta, data)
    covariance = eeqs.sandwich(bread, meat, data["y"].shape[1])
    se = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    return solution.theta, se, [status.label for status in solution.status]


def _psi_at_truth(
    psi: eeqs.EstimatingFunction, data: dict[str, Tensor], design: FrozenKernel
) -> tuple[Tensor, Tensor, list[str]]:
    truth = torch.tensor([design.truth], dtype=torch.float64, device=data["y"].device)
    values = torch.stack([psi(truth, {name: leaf[r] for name, leaf in data.items()}) for r in range(len(data["y"]))])
    return values.mean(dim=1), values.std(dim=1) / values.shape[1] ** 0.5, ["converged"] * len(values)


STUDY = Rates()
