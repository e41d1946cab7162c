r"""Efficiency against maximum likelihood as draws grow: claim T4 of the theory notes.

The excess variance :math:`1/RE - 1 = V_\psi / V_{ML} - 1` of an unbiased psi is estimated at the truth. Unbiasedness at
every parameter gives :math:`E \psi s = -A` with the exact score s, so the influence functions
:math:`\psi / A` and :math:`s / I` differ by something uncorrelated with the second, and

.. math:: V_\psi - V_{ML} = Var(\psi / A - s / I)

(the argument of Hausman 1978, *Econometrica* 46). The relative error of a sample estimate of the right side does not
grow as the excess vanishes; that of a difference of two estimated variances would. Roots at one n then show whether the
efficiency computed at the truth is attained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.random import SeedSequence
from torch import Tensor

from eeqs.marginal import Draws, Score, cross_fitted, exact, iid, quadratic, sobol, two_sample
from simulations.claims import efficiency as claims
from simulations.designs.frozen_kernel import FrozenKernel
from simulations.designs.frozen_roots import Line, frame, roots
from simulations.designs.leading_order import LeadingOrder
from simulations.schema import CONVERGED
from simulations.seeds import torch_generator
from simulations.study import Cell, Preset

__all__ = ["EXCESS", "ROOT", "STUDY", "Efficiency", "Size"]

EXCESS, ROOT = "excess_variance", "root"
# Log-probabilities held at once: few enough that temporaries stay near the cache; a call of psi takes more, because a
# score works through its draws one by one.
_BATCH_NUMBERS, _BLOCK_NUMBERS = 400_000, 2_000_000


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    draws : mapping of str to tuple of int
        Numbers of draws K of each line, at which the excess variance is estimated.
    burn_in : mapping of str to int
        K from which the slope of a line is fitted.
    observations, replicates : int
        Observations of a replicate of the excess variance, and replicates.
    root_draws : int
        Number of draws of the roots.
    root_size, root_replicates : int
        Their sample size and replicates.
    max_width, root_max_width : float
        Widest interval of a slope, and of a ratio of efficiencies, that can support a claim.
    """

    draws: Mapping[str, tuple[int, ...]]
    burn_in: Mapping[str, int]
    observations: int
    replicates: int
    root_draws: int
    root_size: int
    root_replicates: int
    max_width: float
    root_max_width: float


def _presets() -> dict[Preset, Size]:
    few = (4, 8, 16, 32, 64, 128)
    return {
        Preset.QUICK: Size(
            draws={"cross_fitted": (*few, 256), "two_sample": few, "quadratic": few},
            burn_in={"cross_fitted": 32, "two_sample": 16, "quadratic": 8},
            observations=1000,
            replicates=24,
            root_draws=16,
            root_size=1000,
            root_replicates=120,
            max_width=0.2,
            root_max_width=0.6,
        ),
        Preset.FULL: Size(
            draws={"cross_fitted": (*few, 256, 512), "two_sample": few, "quadratic": few},
            burn_in={"cross_fitted": 64, "two_sample": 16, "quadratic": 16},
            observations=4000,
            replicates=40,
            root_draws=16,
            root_size=2000,
            root_replicates=400,
            max_width=0.1,
            root_max_width=0.3,
        ),
    }


def _lines() -> dict[str, Line]:
    return {"cross_fitted": (cross_fitted, iid), "two_sample": (two_sample, sobol), "quadratic": (quadratic, iid)}


@dataclass(frozen=True)
class Efficiency:
    """Three unbiased equations against quadrature, over the number of draws.

    A cell is an estimator with ``n_draws`` draws (0 for quadrature) on ``n`` observations. Its ``quantity`` is
    ``excess_variance``, 1/RE - 1 at the truth, whose ``truth`` is the limit as draws grow, or ``root``, the estimate.
    Roots share their observations.
    """

    name: str = "efficiency"
    summary: str = "Relative efficiency of cross_fitted, two_sample on Sobol nets and quadratic against draws (T4)"
    sizes: Mapping[Preset, Size] = field(default_factory=_presets)
    lines: Mapping[str, Line] = field(default_factory=_lines)
    design: FrozenKernel = field(default_factory=FrozenKernel)
    device: str = "cpu"

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset."""
        size = self.sizes[preset]
        grid = [
            self._cell(EXCESS, line, size.observations, k, size.replicates)
            for line in self.lines
            for k in size.draws[line]
        ]
        names = [("exact", 0), *((line, size.root_draws) for line in self.lines)]
        return grid + [self._cell(ROOT, line, size.root_size, k, size.root_replicates) for line, k in names]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Estimate the excess variance, or solve, for a batch of replicates."""
        quantity, name, n, n_draws = (cell.parameters[key] for key in ("quantity", "estimator", "n", "n_draws"))
        score, draws = self._estimator(str(name), int(n_draws))
        if quantity == ROOT:
            estimate, status = roots(self.design, score, draws, int(n), seeds, self.device)
            return frame(replicates, self.design.truth, estimate, status)
        limit = LeadingOrder(self.design).quadratic_limit if name == "quadratic" else 0.0
        values = [self._excess(score, draws, int(n), torch_generator(seed)) for seed in seeds]
        return frame(replicates, limit, np.array(values), [CONVERGED] * len(values))

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge T4."""
        size = self.sizes[preset]
        return claims.judge(
            table,
            burn_in=size.burn_in,
            constant=LeadingOrder(self.design).draw_constant,
            max_width=size.max_width,
            root_max_width=size.root_max_width,
        )

    def _estimator(self, name: str, n_draws: int) -> tuple[Score, Draws | None]:
        if name == "exact":
            return exact(self.design.nodes), None
        score, design = self.lines[name]
        return score, design(n_draws)

    def _excess(self, score: Score, draws: Draws | None, n: int, generator: torch.Generator) -> float:
        """Variance of the difference of the influence functions, in units of that of maximum likelihood."""
        data = {name: leaf.to(self.device) for name, leaf in self.design.sample(n, draws, generator).items()}
        psi = self._psi(score, draws, data)
        best = self._psi(exact(self.design.nodes), None, {name: data[name] for name in ("x", "y")})
        information, bread = (best * best).mean(), (psi * best).mean()
        return float(information * (psi / bread - best / information).square().mean())

    def _psi(self, score: Score, draws: Draws | None, data: dict[str, Tensor]) -> Tensor:
        """Psi of every observation at the truth, (n,), in blocks of observations."""
        model = self.design.model().to(self.device)
        psi, points = model.psi(score, draws=draws), self.design.nodes if draws is None else len(draws)
        rows = max(1, _BLOCK_NUMBERS // (points * len(self.design.weight)))
        leaves = zip(*(leaf.double().split(rows) for leaf in data.values()), strict=True)
        return torch.cat([psi(model.theta, dict(zip(data, block, strict=True)))[:, 0] for block in leaves])

    def _cell(self, quantity: str, estimator: str, n: int, n_draws: int, replicates: int) -> Cell:
        numbers = n * (n_draws or self.design.nodes) * len(self.design.weight)
        parameters: dict[str, str | int | float] = {
            "quantity": quantity,
            "estimator": estimator,
            "n": n,
            "n_draws": n_draws,
        }
        return Cell(
            self.name,
            parameters,
            replicates,
            batch=min(replicates, max(1, _BATCH_NUMBERS // numbers)),
            stream=f"root,n={n}" if quantity == ROOT else "",
            cost=float(numbers) * (10.0 if quantity == ROOT else 1.0) + 1e4,
        )


STUDY = Efficiency()
