"""Bootstrap: refits under random weights of rows or clusters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.covariance.bootstrap_draws import BootstrapDraws
from eeqs.engine.covariance.refit import Units, refit, units
from eeqs.engine.covariance.root import Root
from eeqs.engine.data import Data
from eeqs.engine.door import as_problem
from eeqs.engine.errors import DataError, SolverError, Status
from eeqs.engine.linalg import invert
from eeqs.engine.psi import PsiLike
from eeqs.engine.solve import solve_problem

__all__ = ["Bootstrap", "bootstrap", "exponential", "multinomial"]

WeightLaw: TypeAlias = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def multinomial(rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
    """How often each of G units is drawn (G,) in a sample with replacement: the pairs or cluster bootstrap.

    ``sizes`` (G,) says how many equal units each of them stands for.
    """
    total = int(sizes.sum())
    drawn = rng.integers(total, size=total)
    if total != len(sizes):
        drawn = np.searchsorted(np.cumsum(sizes), drawn, side="right")
    return np.bincount(drawn, minlength=len(sizes)).astype(np.float64)


def exponential(rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
    """Exponential weights (G,) scaled to their expected sum: the Bayesian bootstrap of Rubin (1981).

    No unit gets weight zero, so that what the data identify every replicate identifies.
    """
    weights = rng.standard_gamma(sizes)
    scaled: np.ndarray = weights * (sizes.sum() / weights.sum())
    return scaled


@dataclass(frozen=True)
class Bootstrap:
    r"""Covariance of refits under random weights.

    .. math:: V = \frac{1}{R - 1} \sum_r (\theta_r - \bar\theta)(\theta_r - \bar\theta)^\top

    Attributes
    ----------
    replicates : int
        Number R of refits.
    by : str or array of shape (n,), optional
        Column of cluster labels, or the labels: whole clusters are drawn; rows when left out.
    weights : callable
        `multinomial`, `exponential`, or any ``weights(rng, sizes) -> (G,)``: non-negative weights of mean and variance
        one for each of G units, and their sum for a unit that stands for ``sizes[g]`` equal ones.
    seed : int or numpy.random.SeedSequence
        The same seed gives the same draws.
    max_failed : float
        Largest share of refits that may fail. Those that do are left out and counted; zero lets none pass.

    Notes
    -----
    Every refit starts at the estimate. With frequency weights the draws have the law of those from rows repeated. The
    term of a penalty keeps its size. A step function and a numpy psi are refitted one after the other, on whole rows.

    Raises
    ------
    ValueError
        If a setting is out of range.
    DataError
        From `meat` and `run`: data in batches or replicates, unusable labels or weights, a theta that is no root.
    PsiError
        From `meat` and `run`: fractional weights for a psi that takes none, or one whose rows depend on each other.
    SolverError
        From `meat` and `run`: more failed refits than ``max_failed``, with their number by status.
    """

    replicates: int = 999
    by: Any = None
    weights: WeightLaw = multinomial
    seed: int | np.random.SeedSequence = 0
    max_failed: float = 0.0

    def __post_init__(self) -> None:
        if self.replicates < 2:
            raise ValueError(f"replicates is {self.replicates}; a covariance needs two or more.")
        if not 0 <= self.max_failed < 1:
            raise ValueError(f"max_failed is {self.max_failed}; pass a share of at least 0 and below 1.")

    @property
    def label(self) -> str:
        """Name for tables."""
        by = "rows" if self.by is None else self.by if isinstance(self.by, str) else "labels"
        return f"bootstrap({by}, {self.replicates})"

    @property
    def groups(self) -> tuple[Any, ...]:
        """The one set of labels, or none."""
        return () if self.by is None else (self.by,)

    def meat(self, root: Root) -> Tensor:
        """Meat (p, p) that makes the sandwich the covariance of the draws."""
        covariance = torch.from_numpy(self.run(root).covariance.to_numpy().copy()).to(root.theta)
        return root.n * (root.bread @ covariance @ root.bread.mT)

    def run(self, root: Root) -> BootstrapDraws:
        """Refit, and keep the draws."""
        root.require_memory(self.label)
        drawn, rng = units(root, self.by), np.random.default_rng(self.seed)
        sizes = drawn.sizes.numpy(force=True)
        if sizes.sum() < 2:
            raise DataError("the bootstrap draws from several observations, and there is only one.")

        def weights(start: int, stop: int) -> Tensor:
            rows = np.stack([self._draw(rng, sizes) for _ in range(start, stop)])
            return drawn.row_weights(torch.from_numpy(rows).to(root.theta))

        theta, status = refit(root, self.replicates, weights)
        failures: Counter[Status] = Counter(one for one in status if one is not Status.CONVERGED)
        self._check(failures)
        kept = theta[torch.tensor([one is Status.CONVERGED for one in status], device=theta.device)]
        names = list(root.names)
        return BootstrapDraws(
            pd.Series(root.theta.numpy(force=True), index=names, name="params"),
            pd.DataFrame(kept.numpy(force=True), columns=names),
            dict(failures),
            pd.Series(_acceleration(root, drawn).numpy(force=True), index=names, name="acceleration"),
        )

    def _draw(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        row = np.asarray(self.weights(rng, sizes), dtype=np.float64)
        if row.shape != sizes.shape or not (np.isfinite(row).all() and (row >= 0).all() and row.any()):
            raise DataError(f"bootstrap weights must be {len(sizes)} non-negative numbers, not all of them zero.")
        return row

    def _check(self, failures: Counter[Status]) -> None:
        failed = failures.total()
        if failed > self.max_failed * self.replicates or failed > self.replicates - 2:
            counts = ", ".join(f"{count} {kind}" for kind, count in failures.items())
            raise SolverError(
                f"{failed} of {self.replicates} bootstrap refits failed ({counts}); {next(iter(failures)).text} "
                "Or use weights=exponential, which keeps every observation, or allow failures by max_failed."
            )


def _acceleration(root: Root, drawn: Units) -> Tensor:
    r"""Acceleration (p,) from influences, :math:`\sum_g I_g^3 / (6 (\sum_g I_g^2)^{3/2})` (Efron 1987, JASA 82)."""
    influence = -drawn.sums(root.values()) @ invert(root.bread, root.names).mT
    return drawn.sizes @ influence**3 / (6 * (drawn.sizes @ influence.square()) ** 1.5)


def bootstrap(
    psi: PsiLike,
    data: Data,
    theta0: Any = None,
    *,
    replicates: int = 999,
    by: Any = None,
    weights: WeightLaw = multinomial,
    seed: int | np.random.SeedSequence = 0,
    max_failed: float = 0.0,
) -> BootstrapDraws:
    """Solve an estimating equation and refit it under random weights.

    Parameters
    ----------
    psi, data, theta0
        As in `eeqs.estimate`.
    replicates, by, weights, seed, max_failed
        As in `Bootstrap`.

    Returns
    -------
    BootstrapDraws
        The draws, their covariance, failures by status, and percentile, basic and BCa intervals.

    Raises
    ------
    ValueError, DataError, PsiError, SolverError
        As in `eeqs.estimate` and `Bootstrap`.
    """
    kind = Bootstrap(replicates, by, weights, seed, max_failed)
    problem = as_problem(psi, data, groups=kind.groups)
    theta = solve_problem(problem, theta0, throw=True).theta
    return kind.run(Root(problem, theta, problem.names(len(theta))))
