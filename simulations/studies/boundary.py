r"""A true noise scale of zero, where the information on the scale is singular: claim T5 of the theory notes.

The variance :math:`v = \sigma^2 \ge 0` has a regular equation with its truth at the end of the half line. Its estimate
is zero where the mean of :math:`\psi_v` at zero is not positive, and the root otherwise; with
:math:`V = A^{-1} B A^{-\top}` of :math:`\psi_v` at zero,

.. math:: (n / V)^{1/2}\, \hat v \to \max(0, Z), \qquad Z \sim N(0, 1),

an atom of one half at zero and half of a half-normal law (Self & Liang 1987, *JASA* 82). So
:math:`\hat\sigma = \hat v^{1/2}` is of order :math:`n^{-1/4}` (Chen 1995, *Annals of Statistics* 23) and not normal,
while probabilities, smooth in v, err by :math:`n^{-1/2}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from numpy.random import SeedSequence
from torch import Tensor

import eeqs
from eeqs.marginal import Draws, Score, antithetic, cross_fitted, exact, iid, quadratic
from eeqs.marginal.boundary import scale_test
from eeqs.marginal.boundary.interval import scale_tester
from simulations.claims import boundary as claims
from simulations.designs.zero_noise import FLOOR, ZeroNoise
from simulations.schema import CONVERGED
from simulations.seeds import torch_generator
from simulations.study import Cell, Preset

__all__ = ["ROOT", "STUDY", "TEST", "Boundary", "Line", "Size"]

ROOT, TEST = "root", "test"
# Log-probabilities held by one batch of replicates: a few MB, so that its temporaries stay near the cache.
_NUMBERS = 400_000

Line = tuple[Score, Draws | None]
"""A score, and its design of draws; None for quadrature."""


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    sizes, replicates : tuple of int
        Sample sizes n of the roots, and replicates at each; a third of these with independent draws, the dearest line.
    burn_in : int
        Size from which slopes are fitted and levels judged.
    test_size, test_replicates : int
        Sample size and replicates of the cells of tests.
    max_width : float
        Widest interval of a slope that can support a claim.
    level_width : float
        Widest interval of a probability that can.
    """

    sizes: tuple[int, ...]
    replicates: tuple[int, ...]
    burn_in: int
    test_size: int
    test_replicates: int
    max_width: float
    level_width: float


def _presets() -> dict[Preset, Size]:
    return {
        Preset.QUICK: Size((500, 1000, 2000, 4000), (300, 200, 120, 100), 500, 1000, 150, 0.4, 0.2),
        Preset.FULL: Size(
            (500, 1000, 2000, 4000, 8000, 16000), (600, 400, 300, 240, 240, 240), 500, 1000, 600, 0.15, 0.1
        ),
    }


def _lines() -> dict[str, Line]:
    return {
        "exact": (exact(ZeroNoise.nodes), None),
        "cross_fitted": (cross_fitted, antithetic(8)),
        "quadratic": (quadratic, antithetic(8)),
        "cross_fitted_independent": (cross_fitted, iid(8)),
    }


@dataclass(frozen=True)
class Boundary:
    """Estimates of a scale that is zero, by four equations, and tests of it at and near zero.

    A cell has a ``quantity``: ``root``, the estimates of ``scale`` and ``variance`` with normal standard errors and the
    ``prediction`` error, by an estimator at n; or ``test``, the p-value of no noise and whether the interval for the
    scale accepts its true value, which lies ``distance`` standard errors of the variance from zero. Estimators of one n
    share their observations.

    Attributes
    ----------
    sizes : mapping of Preset to Size
    lines : mapping of str to Line
        The estimating functions, by name.
    covariance : callable
        ``covariance(bread, meat, n)``, that of the variance.
    distances : tuple of float
        Of the tests.
    """

    name: str = "boundary"
    summary: str = "No noise in truth: rates of the scale and its square, normal intervals, one-sided tests (T5)"
    sizes: Mapping[Preset, Size] = field(default_factory=_presets)
    lines: Mapping[str, Line] = field(default_factory=_lines)
    covariance: Callable[[Tensor, Tensor, int], Tensor] = eeqs.sandwich
    design: ZeroNoise = field(default_factory=ZeroNoise)
    distances: tuple[float, ...] = (0.0, 1.0)
    device: str = "cpu"

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset."""
        size = self.sizes[preset]
        roots = [
            self._cell(ROOT, line, n, 0.0, count if line in claims.REGULAR else count // 3)
            for n, count in zip(size.sizes, size.replicates, strict=True)
            for line in self.lines
        ]
        return roots + [self._cell(TEST, "exact", size.test_size, t, size.test_replicates) for t in self.distances]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Estimate, or test, a batch of replicates."""
        quantity, line, n, distance = (cell.parameters[key] for key in ("quantity", "estimator", "n", "distance"))
        design = replace(self.design, distance=float(distance))
        score, draws = self.lines[str(line)]
        samples = [design.sample(int(n), draws, torch_generator(seed)) for seed in seeds]
        if quantity == TEST:
            found = [_test(design, score, sample, int(n)) for sample in samples]
        else:
            stacked = {name: torch.stack([s[name] for s in samples]).to(self.device) for name in samples[0]}
            found = self._roots(design, score, draws, stacked)
        frames = [one.assign(replicate=replicate) for one, replicate in zip(found, replicates, strict=True)]
        return pd.concat(frames, ignore_index=True)

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge T5."""
        size = self.sizes[preset]
        return claims.judge(
            table,
            burn_in=size.burn_in,
            information=self.design.information,
            max_width=size.max_width,
            level_width=size.level_width,
        )

    def _roots(
        self, design: ZeroNoise, score: Score, draws: Draws | None, data: dict[str, Tensor]
    ) -> list[pd.DataFrame]:
        """One table a replicate."""
        psi, n = design.psi(score, draws, self.device), data["y"].shape[1]
        variance, status = _nonnegative_root(psi, data)
        at = variance.clamp(min=FLOOR)[:, None]
        covariance = self.covariance(eeqs.bread(psi, at, data), eeqs.meat(psi, at, data), n)
        se = covariance[:, 0, 0].sqrt()
        scale = variance.sqrt()
        error = design.prediction_error(scale.cpu(), design.truth(n))
        # The delta method divides by zero where the scale is zero: there is no normal interval for it.
        scale_se = torch.where(variance > 0, se / (2 * scale), torch.nan)
        columns = torch.stack([scale, variance, error.to(scale)]).numpy(force=True)
        errors = torch.stack([scale_se, se, torch.full_like(se, torch.nan)]).numpy(force=True)
        truth = (design.truth(n), design.truth(n) ** 2, 0.0)
        return [
            _frame(("scale", "variance", "prediction"), truth, columns[:, r], errors[:, r], label)
            for r, label in enumerate(status)
        ]

    def _cell(self, quantity: str, line: str, n: int, distance: float, replicates: int) -> Cell:
        draws = self.lines[line][1]
        numbers = n * (self.design.nodes if draws is None else len(draws)) * len(self.design.weight)
        return Cell(
            self.name,
            {"quantity": quantity, "estimator": line, "n": n, "distance": distance},
            replicates,
            batch=min(replicates, max(1, _NUMBERS // numbers)),
            stream=f"n={n}" if quantity == ROOT else "",
            cost=float(numbers) + 1e4,
        )


def _nonnegative_root(psi: eeqs.EstimatingFunction, data: dict[str, Tensor]) -> tuple[Tensor, list[str]]:
    """Variances (R,) that solve their equation, zero where psi already falls there, and statuses.

    The mean of psi is convex and falls in the variance near the truth, so that Newton's method from zero climbs to the
    root without passing it.
    """
    count = len(data["y"])
    floor = torch.full((count, 1), FLOOR, dtype=torch.float64, device=data["y"].device)
    slopes = [psi(floor[r], {name: leaf[r] for name, leaf in data.items()}).mean() for r in range(count)]
    rows = (torch.stack(slopes) > 0).nonzero()[:, 0]
    variance, status = torch.zeros_like(floor[:, 0]), [CONVERGED] * count
    if len(rows):
        solution = eeqs.solve(psi, {name: leaf[rows] for name, leaf in data.items()}, floor[rows], tolerance=1e-6)
        variance[rows] = solution.theta[:, 0]
        for row, end in zip(rows.tolist(), solution.status, strict=True):
            status[row] = end.label
    return variance, status


def _test(design: ZeroNoise, score: Score, data: dict[str, Tensor], n: int) -> pd.DataFrame:
    """P-value of no noise, and whether the interval for the scale holds the truth."""
    truth = design.truth(n)
    model = design.model(truth)
    p_value = scale_test(model, data).pvalue
    accepted = scale_tester(model, data, score, None, 1 - claims.LEVEL)(truth).accepted
    missing = np.full(2, np.nan)
    return _frame(("p_value", "accepted"), (0.0, 1.0), np.array([p_value, float(accepted)]), missing, CONVERGED)


def _frame(
    names: tuple[str, ...], truth: tuple[float, ...], estimate: np.ndarray, se: np.ndarray, status: str
) -> pd.DataFrame:
    rows = {"parameter": names, "truth": truth, "estimate": estimate, "se": se, "status": status}
    return pd.DataFrame({"replicate": 0, **rows})


STUDY = Boundary()
