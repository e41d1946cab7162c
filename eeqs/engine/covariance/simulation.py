r"""Which part of the variance comes from the draws of a simulated psi.

A psi that uses random draws z_i of its own has, at the root,

.. math:: B = \mathrm{E}[\psi \psi^\top]
            = \underbrace{\mathrm{Var}(\mathrm{E}[\psi \mid \mathrm{obs}])}_{\text{sampling}}
            + \underbrace{\mathrm{E}[\mathrm{Var}(\psi \mid \mathrm{obs})]}_{\text{simulation}},

and the sandwich already holds both. The second part is what more draws in psi would save.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.covariance.cluster import cluster_sums
from eeqs.engine.covariance.root import Root
from eeqs.engine.covariance.sandwich import spread
from eeqs.engine.data import Data
from eeqs.engine.door import as_problem, as_theta, check_psi
from eeqs.engine.errors import DataError, PsiError
from eeqs.engine.linalg import invert
from eeqs.engine.psi import PsiLike

__all__ = ["SimulationShare", "simulation_share"]

# Relative eigenvalue of B below which a direction has no variance.
_NULL = 1e-14


@dataclass(frozen=True)
class SimulationShare:
    """Decomposition of the variance of estimates from a simulated psi.

    Attributes
    ----------
    sampling, simulation : DataFrame of shape (p, p)
        Unbiased estimates of the two parts of the meat B, which sum to it. ``sampling`` may have a negative eigenvalue
        by chance where it is small.
    sampling_error, simulation_error : DataFrame of shape (p, p)
        Monte Carlo standard errors of their entries, for the draws and given the data.
    share : Series of length p
        Share of the variance of every estimate that is simulation, between 0 and 1.
    share_error : Series of length p
        Its Monte Carlo standard error.
    """

    sampling: pd.DataFrame
    simulation: pd.DataFrame
    sampling_error: pd.DataFrame
    simulation_error: pd.DataFrame
    share: pd.Series
    share_error: pd.Series

    @property
    def sampling_psd(self) -> pd.DataFrame:
        """``sampling`` without negative eigenvalues relative to B, which is the same in any units."""
        total, part = self.sampling + self.simulation, self.sampling
        unit = np.sqrt(np.diag(total))
        unit[unit == 0] = 1.0
        values, vectors = np.linalg.eigh(total / np.outer(unit, unit))
        kept = values > _NULL * values[-1]
        root = vectors[:, kept] * np.sqrt(values[kept])
        white = vectors[:, kept] / np.sqrt(values[kept])
        share, axes = np.linalg.eigh(white.T @ (part / np.outer(unit, unit)) @ white)
        half = unit[:, None] * (root @ axes) * np.sqrt(share.clip(min=0))
        return pd.DataFrame(half @ half.T, part.index, part.columns)


def simulation_share(
    psi: PsiLike,
    theta: Any,
    data: Data,
    redraw: Callable[[Any, torch.Generator], Data],
    n_draws: int = 20,
    *,
    by: Any = None,
    seed: int = 0,
) -> SimulationShare:
    r"""Split the meat at ``theta`` into sampling and simulation, from psi under fresh draws.

    With :math:`\psi_{ik}` under draw k of K and :math:`\bar\psi_i` their mean over k,

    .. math:: \text{simulation} &= \frac{1}{n (K-1)} \sum_{ik} (\psi_{ik} - \bar\psi_i)(\psi_{ik} - \bar\psi_i)^\top, \\
              \text{sampling} &= \frac1n \sum_i \bar\psi_i \bar\psi_i^\top - \frac1K \text{simulation},

    both unbiased over draws. Standard errors are by the jackknife over draws.

    Parameters
    ----------
    psi : callable or EstimatingFunction
    theta : array of shape (p,)
        The estimate, or the truth.
    data : DataFrame, mapping or tuple
    redraw : callable
        ``redraw(data, generator) -> data`` with the draws of all observations replaced by independent ones.
    n_draws : int
        K, at least 3.
    by : str or array of shape (n,), optional
        Clusters, whose sums of psi take the place of :math:`\psi_i`.
    seed : int
        Seed of the generator.

    Returns
    -------
    SimulationShare

    Raises
    ------
    ValueError
        If ``n_draws`` is below 3.
    DataError
        If ``redraw`` changes the number of rows.
    PsiError
        If psi does not change with the draws.
    """
    if n_draws < 3:
        raise ValueError(f"n_draws is {n_draws}; a variance over draws with a standard error needs 3 or more.")
    generator = torch.Generator().manual_seed(seed)
    groups = () if by is None else (by,)
    values: list[Tensor] = []
    breads: list[Tensor] = []
    n = 0.0
    for _ in range(n_draws):
        problem = as_problem(psi, redraw(data, generator), groups=groups)
        point = as_theta(problem, theta)
        check_psi(problem, point, equations=len(point))
        root = Root(problem, point, problem.names(len(point)))
        if breads and root.n != n:
            raise DataError(f"redraw returned {root.n:g} observations after {n:g}; it may change the draws only.")
        n = root.n
        breads.append(root.bread)
        values.append(_independent_terms(root, by))
    stacked = torch.stack(values)
    if not bool((stacked != stacked[0]).any()):
        raise PsiError("psi is the same under all draws; redraw must replace the draws that psi reads.")
    return _decompose(stacked, torch.stack(breads).mean(0), n, root.names)


def _independent_terms(root: Root, by: Any) -> Tensor:
    """Psi of rows or clusters (G, p), so that the meat is the sum of their outer products over n."""
    if by is not None:
        return cluster_sums(root, by)
    return torch.cat([v if rows.counts is None else rows.counts.sqrt()[:, None] * v for v, rows in root.blocks()])


def _decompose(values: Tensor, bread: Tensor, n: float, names: tuple[str, ...]) -> SimulationShare:
    """Estimates and jackknife errors from psi under K draws (K, G, p)."""
    inverse, draws, mean = invert(bread, names), len(values), values.mean(0)
    deviations = values - mean
    squares = deviations.mT @ deviations  # (K, p, p)
    scatter = squares.sum(0)

    def parts(centre: Tensor, around: Tensor, count: int) -> Tensor:
        """Compute both parts (2, p, p) from mean (G, p) and scatter (p, p) of some draws."""
        simulation = around / (n * (count - 1))
        return torch.stack([centre.mT @ centre / n - simulation / count, simulation])

    def share(both: Tensor) -> Tensor:
        sampling, simulation = (spread(inverse, part, n).diagonal() for part in both)
        return (simulation / (sampling + simulation)).clamp(0, 1)

    whole = parts(mean, scatter, draws)
    without = [
        parts(mean - own / (draws - 1), scatter - square * (draws / (draws - 1)), draws - 1)
        for own, square in zip(deviations, squares, strict=True)
    ]
    sampling, simulation = (pd.DataFrame(part.numpy(force=True), names, names) for part in whole)
    errors = _jackknife_error(torch.stack(without))
    first, second = (pd.DataFrame(part.numpy(force=True), names, names) for part in errors)
    spreads = _jackknife_error(torch.stack([share(both) for both in without]))
    return SimulationShare(
        sampling, simulation, first, second,
        pd.Series(share(whole).numpy(force=True), names, name="share"),
        pd.Series(spreads.numpy(force=True), names, name="share_error"),
    )  # fmt: skip


def _jackknife_error(without: Tensor) -> Tensor:
    """Turn the values without each of K draws (K, ...) into a standard error."""
    return np.sqrt(len(without) - 1) * without.std(0, correction=0)
