r"""Time of batched solving: ``python tests/benchmarks/bench_batch.py`` prints two tables. One thread, median of 5.

Logistic regression, R = 1,000 replicates of n = 200 and p = 3 with HC0 errors. The floor is analytic Newton on all
replicates at once in numpy, with the same stopping rule. A step of one replicate needs the index and the score
(2 n p multiply-adds each), n exponentials, and the Hessian (n p (p + 1) / 2 multiply-adds, n p^2 without its symmetry):
about 12 n p operations and n exponentials, 10 microseconds at one operation a nanosecond, over n (p + 1) 8 = 6.4 kB of
data. Six steps and the meat are then about 60 microseconds a replicate, and R replicates stream 6.4 MB a step.

Cell of the study ``rates``: n = 4,000, K = 4, V = 6, cross_fitted. One copy of the log-probabilities is n K V = 96,000
numbers, 0.77 MB. psi needs an exponential a number for the softmax, one for its probabilities, and an exponential and a
logarithm for the mixture of the other draws: 0.4 million transcendental functions, about 2 ms at 5 ns each, and some 60
other operations a number, which are limited by memory as soon as each is a pass of its own over 0.77 MB (0.2 ms at
4 GB/s read and written back). The derivative of psi along the one parameter costs about three times psi.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import statsmodels.api as sm
import torch
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import eeqs
from eeqs.marginal import Marginal
from simulations.memory import keep_freed_memory
from simulations.seeds import replicate_seed
from simulations.studies.rates import STUDY
from simulations.study import Cell

REPEATS = 5
TOLERANCE = 1e-9
TRUTH = np.array([-0.3, 0.8, -0.5])

Array = np.ndarray


def simulate_logit(replicates: int, n: int) -> tuple[Array, Array]:
    """Responses (R, n) and designs (R, n, 3) with an intercept."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(replicates, n, len(TRUTH)))
    X[:, :, 0] = 1
    y = rng.uniform(size=(replicates, n)) < 1 / (1 + np.exp(-X @ TRUTH))
    return y.astype(float), X


def by_eeqs(y: Array, X: Array) -> tuple[Array, Array]:
    """Estimates (R, p) and standard errors (R, p) by the engine."""
    psi = eeqs.moments.logit("y", ["a", "b"])
    data = {"y": torch.from_numpy(y), **{name: torch.from_numpy(X[:, :, j]) for j, name in ((1, "a"), (2, "b"))}}
    theta0 = torch.zeros(len(y), X.shape[2], dtype=torch.float64)
    theta = eeqs.solve(psi, data, theta0, tolerance=TOLERANCE).theta
    covariance = eeqs.sandwich(eeqs.bread(psi, theta, data), eeqs.meat(psi, theta, data), y.shape[1])
    return theta.numpy(), covariance.diagonal(dim1=1, dim2=2).sqrt().numpy()


def by_numpy(y: Array, X: Array) -> tuple[Array, Array]:
    """Compute the same by analytic Newton, all replicates in step until the last has converged."""
    n, theta = y.shape[1], np.zeros((len(y), X.shape[2]))
    while True:
        mean = 1 / (1 + np.exp(-(X @ theta[:, :, None])[:, :, 0]))
        residual = y - mean
        score = (X.mT @ residual[:, :, None])[:, :, 0]
        hessian = (X * (mean * (1 - mean))[:, :, None]).mT @ X
        scale = np.sqrt(np.einsum("rn,rnp,rnp->rp", residual**2, X, X))
        if np.max(np.abs(score) / scale) <= TOLERANCE:
            break
        theta = theta + np.linalg.solve(hessian, score[:, :, None])[:, :, 0]
    values = residual[:, :, None] * X
    left = np.linalg.solve(hessian / n, values.mT @ values / n)
    covariance = np.linalg.solve(hessian / n, left.mT) / n
    return theta, np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))


def by_statsmodels(y: Array, X: Array) -> tuple[Array, Array]:
    """Compute the same by a loop over replicates."""
    fits = [sm.Logit(y[r], X[r]).fit(cov_type="HC0", disp=0, tol=1e-10) for r in range(len(y))]
    return np.stack([fit.params for fit in fits]), np.stack([fit.bse for fit in fits])


def median_seconds(run: Callable[[], object]) -> float:
    """Median time of a call, after one that warms up."""
    run()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def logit_table(replicates: int = 1000, n: int = 200) -> Table:
    """Milliseconds a replicate by three ways to the same estimates."""
    y, X = simulate_logit(replicates, n)
    expected = by_statsmodels(y, X)
    table = Table("logistic regression", "ms a replicate", "ratio to floor", "largest difference")
    floor = median_seconds(lambda: by_numpy(y, X))
    for name, run in (("floor (numpy)", by_numpy), ("eeqs", by_eeqs), ("statsmodels loop", by_statsmodels)):
        seconds = floor if run is by_numpy else median_seconds(lambda run=run: run(y, X))
        differences = (np.abs(a - b).max() for a, b in zip(run(y, X), expected, strict=True))
        table.add_row(name, f"{1000 * seconds / replicates:.4f}", f"{seconds / floor:.2f}", f"{max(differences):.1e}")
    return table


@contextmanager
def timed_evaluations() -> Iterator[dict[str, list[float]]]:
    """Record the seconds of every evaluation of psi and of its Jacobian in marginal models."""
    seconds: dict[str, list[float]] = {"psi": [], "Jacobian": []}
    original = Marginal.psi

    def recorded(kind: str, function: Callable) -> Callable:
        def call(*arguments: object) -> object:
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                seconds[kind].append(time.perf_counter() - start)

        return call

    def psi(*arguments: object, **options: object) -> eeqs.EstimatingFunction:
        found = original(*arguments, **options)
        assert found.mean_jacobian is not None
        return replace(found, psi=recorded("psi", found.psi), mean_jacobian=recorded("Jacobian", found.mean_jacobian))

    with patch.object(Marginal, "psi", psi):
        yield seconds


def rates_table(n: int = 4000, n_draws: int = 4, replicates: int = 4) -> Table:
    """Milliseconds a replicate of one batch, of the size the study gives to such a cell."""
    parameters = {"quantity": "root", "estimator": "cross_fitted", "n": n, "n_draws": n_draws}
    cell = Cell(STUDY.name, parameters, replicates, batch=replicates, stream=f"n={n}")
    seeds = [replicate_seed(0, cell.stream, r) for r in range(replicates)]

    def run() -> None:
        STUDY.run(cell, range(replicates), seeds)

    total = median_seconds(run)
    with timed_evaluations() as seconds:
        start = time.perf_counter()
        run()
        recorded = time.perf_counter() - start
    table = Table(f"rates, n = {n}, K = {n_draws}, cross_fitted", "ms a replicate", "share", "calls a batch")
    table.add_row("all, sampling included", f"{1000 * total / replicates:.2f}", "100 %", "1")
    for kind, parts in seconds.items():
        part = sum(parts)
        table.add_row(kind, f"{1000 * part / replicates:.2f}", f"{100 * part / recorded:.0f} %", str(len(parts)))
    return table


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    console = Console()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch loads its forward-mode rules with one
        console.print(logit_table())
        console.print(f"freed memory is kept: {keep_freed_memory()}")
        console.print(rates_table())


if __name__ == "__main__":
    main()
