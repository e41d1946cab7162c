r"""More latent dimensions than the true rank: claim T6 of the theory notes.

The covariance :math:`\Sigma = L L^\top` of the noise is estimated through a factor L (d, q) with more columns than it
needs. The equations do not change along rotations of L, nor, at the truth, along columns that are zero; only functions
whose gradient is in the row space of the bread are estimable, and a generalised inverse gives their standard errors.

Two regimes differ. Where :math:`\Sigma` has full rank it lies inside the cone of covariances: :math:`\hat\Sigma` is
normal, whatever q. Where its rank r is below min(d, q) it lies on the boundary: the block of :math:`\hat\Sigma` outside
the range of :math:`\Sigma` is the positive part of a normal matrix, and the columns of L that should be zero are its
root, of order :math:`n^{-1/4}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.random import SeedSequence
from torch import Tensor

import eeqs
from simulations.claims import covariance as claims
from simulations.designs.over_factored import OverFactored, aligned_error
from simulations.schema import CONVERGED
from simulations.seeds import torch_generator
from simulations.study import Cell, Preset

__all__ = ["EXPECTED", "ROOT", "STUDY", "Covariance", "Size"]

ROOT, EXPECTED = "root", "expected_bread"
# Largest mean of psi at a root, in standard errors: along rotations the bread is as large as that mean, and must count
# as zero.
_TOLERANCE = 1e-12
# Where a surplus column of the factor is barely told from zero, the root is nearly double and Newton's method stalls.
# So close to it, in standard errors, errors of the estimates do not change any more, though the bread still does.
_ITERATIONS, _SETTLED = 200, 1e-2
_BATCH = 20
# Relative singular value of an expected bread that counts as zero.
_NULL = 1e-9


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    sizes : tuple of int
        Sample sizes n.
    burn_in : int
        Size from which slopes are fitted.
    level_from : int
        Size from which coverages and levels are judged.
    replicates : int
        Replicates a cell.
    max_width : float
        Widest interval of a slope that can support a claim.
    level_width : float
        Widest interval of a coverage that can.
    """

    sizes: tuple[int, ...]
    burn_in: int
    level_from: int
    replicates: int
    max_width: float
    level_width: float


def _presets() -> dict[Preset, Size]:
    return {
        Preset.QUICK: Size((250, 500, 1000, 2000, 4000), 500, 1000, 120, 0.3, 0.06),
        Preset.FULL: Size((250, 500, 1000, 2000, 4000, 8000, 16000), 500, 2000, 400, 0.1, 0.03),
    }


def _designs() -> dict[str, OverFactored]:
    full, one = ((1.0, 0.0, 0.0), (0.5, 0.8, 0.0), (-0.3, 0.4, 0.6)), ((1.0,), (0.6,), (-0.4,))
    models = ((full, 3), (full, 6), (one, 1), (one, 3))
    return {f"rank={len(loadings[0])},q={q}": OverFactored(loadings, q) for loadings, q in models}


@dataclass(frozen=True)
class Covariance:
    """Estimates of a covariance in three dimensions of rank three and one, through factors of one to six columns.

    A cell is a true ``rank`` and a number of ``columns`` at n. Its ``quantity`` is ``root``, or ``expected_bread``: the
    number of free directions at the truth. A root has rows of

    - ``sigma[j,k]``, the entries of the covariance, and ``along``, its variance along the first true loading, with
      standard errors;
    - ``sigma``, ``factor`` and ``aligned_factor``, the Frobenius norms of the errors of the covariance and of the
      factor, before and after the best rotation;
    - ``surplus``, the Frobenius norm of the rows of the factor outside the range of the truth;
    - ``free_directions``, the dimension of the null space of the bread at the root, against that inside the cone;
    - ``refused``, one where the first entry of the factor was refused as not estimable, with ``truth`` one where it is
      not.

    Cells of one rank and n share their observations.

    Attributes
    ----------
    sizes : mapping of Preset to Size
    designs : mapping of str to OverFactored
    meat : str or CovarianceKind
        Assumption on the meat of the sandwich.
    """

    name: str = "covariance"
    summary: str = "A covariance through a factor with too many columns: rates, coverage, what is refused (T6)"
    sizes: Mapping[Preset, Size] = field(default_factory=_presets)
    designs: Mapping[str, OverFactored] = field(default_factory=_designs)
    meat: str | eeqs.CovarianceKind = "HC0"

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset."""
        size = self.sizes[preset]
        expected = [self._cell(EXPECTED, design, 2 * len(design.factor), 1) for design in self.designs.values()]
        roots = [self._cell(ROOT, d, n, size.replicates) for n in size.sizes for d in self.designs.values()]
        return expected + roots

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Estimate a batch of replicates, one by one: a solver for singular breads takes one data set."""
        quantity, rank, columns, n = (cell.parameters[key] for key in ("quantity", "rank", "columns", "n"))
        design = self.designs[f"rank={rank},q={columns}"]
        if quantity == EXPECTED:
            truth = _truth(design)
            rows = truth[truth["parameter"] == "free_directions"]
            found = [rows.assign(truth=float(design.free_directions), estimate=_free(design), status=CONVERGED)]
        else:
            found = [self._root(design, int(n), torch_generator(seed)) for seed in seeds]
        frames = [one.assign(replicate=replicate) for one, replicate in zip(found, replicates, strict=True)]
        return pd.concat(frames, ignore_index=True)

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge T6."""
        size = self.sizes[preset]
        return claims.judge(
            table,
            burn_in=size.burn_in,
            level_from=size.level_from,
            noise={key: design.noise for key, design in self.designs.items()},
            max_width=size.max_width,
            level_width=size.level_width,
        )

    def _root(self, design: OverFactored, n: int, generator: torch.Generator) -> pd.DataFrame:
        data = design.sample(n, generator)
        fit = eeqs.estimate(
            design.psi(),
            data,
            design.start(data, generator),
            self.meat,
            tolerance=_TOLERANCE,
            max_iterations=_ITERATIONS,
            throw=False,
            minimum_norm=True,
        )
        return _rows(design, fit)

    def _cell(self, quantity: str, design: OverFactored, n: int, replicates: int) -> Cell:
        return Cell(
            self.name,
            {"quantity": quantity, "rank": design.rank, "columns": design.columns, "n": n},
            replicates,
            batch=min(replicates, _BATCH),
            stream=f"rank={design.rank},n={n}",
            cost=float(n * design.columns) + 1e4,
        )


def _rows(design: OverFactored, fit: eeqs.Estimate) -> pd.DataFrame:
    """Rows of a root; what needs the bread is left to a solver that ended well."""
    rows = _truth(design).assign(status=fit.solution.status.label)
    estimates = {}
    if fit.solution.residual_norm <= _SETTLED:
        estimates = _norms(design, fit.solution.theta.reshape(design.factor.shape))
        rows.loc[rows["parameter"].isin(list(estimates)), "status"] = CONVERGED
    if fit.solution.converged:
        derived = fit.delta(lambda theta: _functionals(design, theta))
        estimates |= dict(zip(derived.names, derived.params.tolist(), strict=True))
        estimates |= {"free_directions": float(_dimension(fit.null)), "refused": float(_refused(fit))}
        rows["se"] = rows["parameter"].map(dict(zip(derived.names, derived.bse.tolist(), strict=True)))
    return rows.assign(estimate=rows["parameter"].map(estimates))


def _dimension(basis: Tensor | None) -> int:
    return 0 if basis is None else basis.shape[1]


def _truth(design: OverFactored) -> pd.DataFrame:
    """Rows of a root without estimates."""
    d, q = design.factor.shape
    truth = {name: float(value) for name, value in _functionals(design, design.factor.flatten()).items()}
    truth |= dict.fromkeys(_norms(design, design.factor), 0.0)
    # At a root whose covariance has the rank that the factor allows, rotations alone are free.
    truth |= {"free_directions": float(q * (q - 1) // 2 if q <= d else d * q - d * (d + 1) // 2)}
    truth |= {"refused": float(design.free_directions > 0)}
    return pd.DataFrame({"parameter": list(truth), "truth": list(truth.values()), "estimate": np.nan, "se": np.nan})


def _functionals(design: OverFactored, theta: Tensor) -> dict[str, Tensor]:
    """Entries of the covariance below and on its diagonal, and its variance along the first true loading."""
    factor = theta.reshape(design.factor.shape)
    sigma, along = factor @ factor.mT, torch.nn.functional.normalize(design.factor[:, 0], dim=0)
    entries = {f"sigma[{j},{k}]": sigma[j, k] for j in range(len(sigma)) for k in range(j + 1)}
    return {**entries, "along": along @ sigma @ along}


def _norms(design: OverFactored, factor: Tensor) -> dict[str, float]:
    """Sizes of the errors of a factor and its covariance, none of which has a normal law."""
    sigma = factor @ factor.mT
    left = torch.linalg.svd(design.factor[:, : design.rank])[0][:, design.rank :]
    return {
        "sigma": float((sigma - design.sigma).norm()),
        "factor": float((factor - design.factor).norm()),
        "aligned_factor": aligned_error(factor, design.factor),
        "surplus": float((left.mT @ factor).norm()),
    }


def _refused(fit: eeqs.Estimate) -> bool:
    """Whether the first entry of the factor is refused."""
    try:
        fit.delta(lambda theta: theta[0])
    except eeqs.NotEstimableError:
        return True
    return False


def _free(design: OverFactored) -> float:
    """Free directions of the expected bread at the truth."""
    bread = eeqs.bread(design.psi(), design.factor.flatten(), design.population())
    values = torch.linalg.svdvals(bread)
    return float((values <= _NULL * values[0]).sum())


STUDY = Covariance()
