r"""Is an estimating function unbiased? A test of :math:`E\,\psi(\theta) = 0` by simulation or by enumeration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from eeqs.engine.data import Data
from eeqs.engine.door import as_problem, as_theta, check_psi
from eeqs.engine.errors import DataError, SingularBreadError
from eeqs.engine.evaluate import Problem
from eeqs.engine.linalg import invert
from eeqs.engine.psi import PsiLike

__all__ = ["FiniteSupport", "UnbiasedReport", "check_unbiased"]

_POWER = 0.9
# Relative rounding error allowed to an expectation that is a sum of products of float64 numbers.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class FiniteSupport:
    """Every value an observation can take, with its probability at theta.

    Attributes
    ----------
    data : DataFrame, mapping or tuple
        One row a value.
    probability : array of shape (n,)
        Non-negative, summing to one.
    """

    data: Data
    probability: Any

    def weights(self) -> Tensor:
        """Probabilities as a float64 tensor, checked."""
        weights = torch.as_tensor(np.asarray(self.probability), dtype=torch.float64)
        if weights.ndim != 1 or not bool((weights >= 0).all()) or abs(float(weights.sum()) - 1) > 1e-9:
            raise DataError(f"probability must be a non-negative vector with sum 1; its sum is {float(weights.sum())}.")
        return weights


@dataclass(frozen=True)
class UnbiasedReport:
    r"""Verdict on :math:`E\,\psi(\theta) = 0`.

    Attributes
    ----------
    passed : bool
        Whether ``p_value`` is above ``level``.
    p_value : float
        Of the hypothesis that psi is unbiased at theta: twice the smaller of the Hotelling and the Holm-adjusted
        component p-values (at most 1). In the exact mode, 1 or 0.
    level : float
        Probability of rejecting an unbiased psi.
    n : int
        Simulated observations, or the size of the support.
    hotelling : float
        :math:`T^2 = n \bar\psi^\top S^{-1} \bar\psi`; NaN in the exact mode.
    hotelling_p_value : float
    exact : bool
        Whether the support was enumerated.
    table : DataFrame
        One row a component of psi: ``mean`` of psi, its Monte Carlo standard error ``mc_se``, ``z``, ``p_value``,
        ``p_adjusted`` (Holm), ``detectable`` (the size of mean that this test finds with probability 0.9), and
        ``implied_bias`` with ``implied_bias_se``: the first-order bias :math:`-A^{-1} E \psi` of the estimate.
    """

    passed: bool
    p_value: float
    level: float
    n: int
    hotelling: float
    hotelling_p_value: float
    exact: bool
    table: pd.DataFrame

    def __str__(self) -> str:
        verdict = "no bias found" if self.passed else "BIASED"
        if self.exact:
            head = f"E psi = 0: {verdict}, by enumeration of {self.n} outcomes"
        else:
            head = (
                f"E psi = 0: {verdict} (p = {self.p_value:.3g}, level {self.level:g}), {self.n} simulated rows\n"
                f"Hotelling T2 = {self.hotelling:.2f}, p = {self.hotelling_p_value:.3g}"
            )
        return f"{head}\n{self.table.to_string(float_format='{:.3g}'.format)}"


@dataclass
class _Moments:
    """Running count, mean and centred cross-products (Chan, Golub & LeVeque 1983), and the mean bread."""

    n: int
    mean: Tensor
    scatter: Tensor
    bread: Tensor

    def add(self, values: Tensor, bread: Tensor) -> None:
        m = values.shape[0]
        mean = values.mean(dim=0)
        centred = values - mean
        shift = mean - self.mean
        total = self.n + m
        self.scatter += centred.mT @ centred + torch.outer(shift, shift) * (self.n * m / total)
        self.mean = self.mean + shift * (m / total)
        self.bread = self.bread + (bread - self.bread) * (m / total)
        self.n = total


def check_unbiased(
    psi: PsiLike,
    theta: Any,
    simulate: Callable[[int, torch.Generator], Data] | FiniteSupport,
    n: int = 100_000,
    *,
    level: float = 0.01,
    seed: int = 0,
    chunk: int = 50_000,
) -> UnbiasedReport:
    r"""Test that an estimating function has mean zero at the true parameter.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        The function to test.
    theta : array of shape (p,)
        The truth that ``simulate`` draws from.
    simulate : callable or FiniteSupport
        ``simulate(n, generator) -> data``: n independent observations at theta, all their randomness (latent draws
        included) from the torch generator. A `FiniteSupport` makes the check exact instead.
    n : int
        Observations to simulate. The test finds a mean of psi of about ``4.5 sd / sqrt(n)``; read the column
        ``detectable``.
    level : float
        Probability of rejecting an unbiased psi, over the overall and all component tests together.
    seed : int
        Seed of the generator.
    chunk : int
        Observations simulated at once; memory does not grow with n.

    Returns
    -------
    UnbiasedReport

    Raises
    ------
    DataError, PsiError
        If the simulated data or psi are not valid.
    ValueError
        If n, chunk or level are out of range.

    Notes
    -----
    Hotelling's :math:`T^2 = n \bar\psi^\top S^{-1} \bar\psi` is compared with its F distribution and every component
    with the normal one, adjusted by Holm (1979); each of the two parts gets half of ``level``. Both rest on the
    central limit theorem, so n should be large enough for the tails of psi.

    Examples
    --------
    >>> import torch, eeqs
    >>> def simulate(n, generator):
    ...     return {"y": 3 + torch.randn(n, generator=generator, dtype=torch.float64)}
    >>> eeqs.check_unbiased(eeqs.moments.mean("y"), [3.0], simulate).passed
    True
    >>> eeqs.check_unbiased(eeqs.moments.mean("y"), [3.1], simulate).passed
    False
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; pass a probability such as 0.01.")
    if isinstance(simulate, FiniteSupport):
        return _enumerate(psi, theta, simulate, level)
    if n < 2 or chunk < 2:
        raise ValueError(f"n = {n} and chunk = {chunk}; both must be at least 2.")
    generator = torch.Generator().manual_seed(seed)
    running: _Moments | None = None
    names: tuple[str, ...] = ()
    for size in _chunks(n, chunk):
        problem, point = _bind(psi, theta, simulate(size, generator), size)
        check_psi(problem, point, equations=len(point))
        values = problem.values(point)
        if running is None:
            names = problem.names(len(point))
            zero = torch.zeros(len(point), dtype=values.dtype, device=values.device)
            running = _Moments(0, zero, torch.outer(zero, zero), torch.outer(zero, zero))
        running.add(values, problem.jacobian(point))
    assert running is not None  # noqa: S101 - for the type checker: there is at least one chunk
    return _report(running, names, level)


def _chunks(n: int, chunk: int) -> Iterator[int]:
    count = math.ceil(n / chunk)
    for k in range(count):
        yield n // count + (k < n % count)


def _bind(psi: PsiLike, theta: Any, data: Data, size: int) -> tuple[Problem, Tensor]:
    problem = as_problem(psi, data)
    if problem.n != size:
        raise DataError(f"the data has {problem.n} rows where {size} were expected, from simulate or by probability.")
    return problem, as_theta(problem, theta)


def _report(moments: _Moments, names: tuple[str, ...], level: float) -> UnbiasedReport:
    n, p = moments.n, len(names)
    variance = moments.scatter / (n - 1)
    error = (variance.diagonal() / n).sqrt()
    mean = moments.mean
    # A constant psi has no sampling error: it is unbiased if and only if it is zero.
    z = torch.where(error > 0, mean / error, torch.where(mean == 0, 0.0, torch.inf * torch.sign(mean)))
    p_component = 2 * stats.norm.sf(z.abs().cpu().numpy())
    adjusted = _holm(p_component)
    hotelling, p_overall = _hotelling(mean, variance, n)
    p_value = min(1.0, 2 * min(p_overall, float(adjusted.min())))
    reach = stats.norm.isf(level / (4 * p)) + stats.norm.ppf(_POWER)
    bias, bias_error = _implied_bias(moments, variance)
    table = pd.DataFrame(
        {
            "mean": mean.cpu().numpy(),
            "mc_se": error.cpu().numpy(),
            "z": z.cpu().numpy(),
            "p_value": p_component,
            "p_adjusted": adjusted,
            "detectable": reach * error.cpu().numpy(),
            "implied_bias": bias,
            "implied_bias_se": bias_error,
        },
        index=list(names),
    )
    return UnbiasedReport(p_value > level, p_value, level, n, hotelling, p_overall, exact=False, table=table)


def _holm(p_values: np.ndarray) -> np.ndarray:
    """Family-wise adjusted p-values by Holm's step-down procedure."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    adjusted = np.empty_like(stepped)
    adjusted[order] = stepped
    return adjusted


def _hotelling(mean: Tensor, variance: Tensor, n: int) -> tuple[float, float]:
    """T^2 and its p-value, in the directions in which psi varies."""
    size = variance.diagonal().sqrt()
    varies = size > 0
    unit = mean[varies] / size[varies]
    values, vectors = torch.linalg.eigh(variance[varies][:, varies] / torch.outer(size[varies], size[varies]))
    kept = values > 1e-10
    rank = int(kept.sum())
    if rank == 0:
        return 0.0, 1.0
    statistic = n * float(((vectors[:, kept].mT @ unit).square() / values[kept]).sum())
    return statistic, float(stats.f.sf(statistic * (n - rank) / (rank * (n - 1)), rank, n - rank))


def _implied_bias(moments: _Moments, variance: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """First-order bias of the root, -A^{-1} E psi, with its Monte Carlo error; NaN when A is singular."""
    try:
        inverse = invert(moments.bread)
    except SingularBreadError:
        missing = np.full(len(variance), np.nan)
        return missing, missing.copy()
    bias = -inverse @ moments.mean
    spread = (inverse @ variance @ inverse.mT).diagonal().clamp_min(0) / moments.n
    return bias.cpu().numpy(), spread.sqrt().cpu().numpy()


def _enumerate(psi: PsiLike, theta: Any, support: FiniteSupport, level: float) -> UnbiasedReport:
    """Exact expectation over a finite support; passes when it is zero up to rounding."""
    weights = support.weights()
    problem, point = _bind(psi, theta, support.data, len(weights))
    check_psi(problem, point, equations=len(point))
    values = problem.values(point)
    weights = weights.to(values.device)
    mean = weights @ values
    allowed = _ROUNDING * (weights @ values.abs())
    unbiased = mean.abs() <= allowed
    table = pd.DataFrame(
        {"mean": mean.cpu().numpy(), "rounding": allowed.cpu().numpy(), "zero": unbiased.cpu().numpy()},
        index=list(problem.names(len(point))),
    )
    passed = bool(unbiased.all())
    return UnbiasedReport(passed, float(passed), level, len(weights), math.nan, math.nan, exact=True, table=table)
