r"""How a fixed total of draws is best spent: claim T12 of the theory notes.

M = nK draws are spread over n observations of K draws each. The bias of plug_in is b / K and its variance K / (I M) to
leading order, so that its mean squared error is least at :math:`K = (2 b^2 I M)^{1/3}`, where its root falls as
:math:`M^{-1/3}`. An unbiased psi has variance V(K) K / M: the best K minimises V(K) K whatever the budget, and the RMSE
falls as :math:`M^{-1/2}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from numpy.random import SeedSequence

from eeqs.marginal import cross_fitted, iid, plug_in, sobol, two_sample
from simulations.claims import budget as claims
from simulations.designs.frozen_kernel import FrozenKernel
from simulations.designs.frozen_roots import Line, frame, roots
from simulations.study import Cell, Preset

__all__ = ["STUDY", "Budget", "Size"]

# Log-probabilities held by one batch of replicates: a few MB, so that its temporaries stay near the cache.
_BATCH_NUMBERS = 400_000


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    replicates : mapping of int to int
        Replicates a cell for every budget M.
    draws : mapping of str to tuple of int
        Numbers of draws K among which each line finds its best, of those that leave 2K observations or more.
    exponent_width, rmse_width : float
        Widest interval of an exponent of the best K, and of an RMSE, that can support a claim.
    """

    replicates: Mapping[int, int]
    draws: Mapping[str, tuple[int, ...]]
    exponent_width: float
    rmse_width: float


def _presets() -> dict[Preset, Size]:
    # Budgets grow by 8, so that the predicted best K of plug_in doubles, a step of the grid: the fitted parabola then
    # errs alike at every budget. Nets of one point are independent draws, so two_sample starts at two points a net.
    few = {"cross_fitted": (2, 4, 8, 16), "two_sample": (4, 8, 16, 32)}
    return {
        Preset.QUICK: Size({2048: 240, 16384: 80}, few | {"plug_in": (4, 8, 16, 32, 64)}, 0.5, 0.4),
        Preset.FULL: Size({2048: 800, 16384: 250, 131072: 40}, few | {"plug_in": (4, 8, 16, 32, 64, 128)}, 0.25, 0.16),
    }


def _lines() -> dict[str, Line]:
    return {"plug_in": (plug_in, iid), "cross_fitted": (cross_fitted, iid), "two_sample": (two_sample, sobol)}


@dataclass(frozen=True)
class Budget:
    """Roots of a biased and two unbiased equations over the number of draws at every budget.

    A cell is an estimator with ``n_draws`` draws on ``n`` observations, ``budget`` of them in all.
    """

    name: str = "budget"
    summary: str = "Best number of draws at a fixed total for plug_in, cross_fitted and two_sample (T12)"
    sizes: Mapping[Preset, Size] = field(default_factory=_presets)
    lines: Mapping[str, Line] = field(default_factory=_lines)
    design: FrozenKernel = field(default_factory=FrozenKernel)
    device: str = "cpu"

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset."""
        size = self.sizes[preset]
        return [
            self._cell(line, budget, k, replicates)
            for line in self.lines
            for budget, replicates in size.replicates.items()
            for k in size.draws[line]
            if budget // k >= 2 * k
        ]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Simulate and estimate a batch of replicates at once."""
        score, design = self.lines[str(cell.parameters["estimator"])]
        n, draws = int(cell.parameters["n"]), design(int(cell.parameters["n_draws"]))
        estimate, status = roots(self.design, score, draws, n, seeds, self.device)
        return frame(replicates, self.design.truth, estimate, status)

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge T12."""
        size = self.sizes[preset]
        return claims.judge(table, exponent_width=size.exponent_width, rmse_width=size.rmse_width)

    def _cell(self, estimator: str, budget: int, n_draws: int, replicates: int) -> Cell:
        numbers = budget * len(self.design.weight)
        return Cell(
            self.name,
            {"estimator": estimator, "budget": budget, "n": budget // n_draws, "n_draws": n_draws},
            replicates,
            batch=min(replicates, max(1, _BATCH_NUMBERS // numbers)),
            cost=float(numbers),
        )


STUDY = Budget()
