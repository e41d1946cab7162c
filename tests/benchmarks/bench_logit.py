r"""Time and memory of one logistic regression with HC0 errors: ``python tests/benchmarks/bench_logit.py``.

Every way to the same estimates runs in a process of its own with one BLAS thread; times are CPU times, the median of
several, and memory is the peak above the data. ``--scale 0.05`` shrinks n, ``--slow`` includes the exact derivatives of
delicatessen where they take minutes, ``--out FILE`` writes a CSV.

The floor is Newton with analytic derivatives in numpy. An evaluation needs the index and the score (2 n p operations
each), n exponentials, and the Hessian, 2 n p^2 operations as a matrix product that does not use its symmetry: 2.4e8
operations and 1e6 exponentials at n = 1e6, p = 10, some 30 ms at 10 operations and a fifth of an exponential a
nanosecond, over 8 n (p + 1) = 88 MB of data, 15 ms at 6 GB/s. numpy writes and reads the weighted design besides, 160
MB, which costs as much again. Six evaluations and the meat are then about half a second. At n = 2e4, p = 100 the matrix
product is 4e8 operations an evaluation, and all else is small.

Memory: the estimates need p^2 numbers, so nothing above the data grows with n when rows are read in blocks. One
weighted copy of the design, as in numpy, is 8 n p bytes; a design stacked from columns is another, which makes the
bound of 2 n p 8 bytes.

A fit at n = 200, p = 3 is six passes over 6.4 kB, some 60 microseconds in numpy, nearly all of it calls; what is above
that is overhead.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from cells import MIB, as_table, in_a_process, measure, write
from rich.console import Console

import eeqs

SIZES = ((100_000, 10), (1_000_000, 10), (20_000, 100))
SMALL, WARM = (200, 3), (20_000, 10)
TOLERANCE = 1e-9

Array = np.ndarray
Estimates = tuple[Array, Array]


class Sample(NamedTuple):
    """Responses (n,) and regressors (p - 1, n), each row one column of the data."""

    y: Array
    x: Array

    def design(self) -> Array:
        """Matrix (n, p) with a constant first."""
        return np.vstack([np.ones_like(self.y), self.x]).T.copy()

    def columns(self) -> dict[str, Array]:
        """Columns by name."""
        return {"y": self.y, **{f"x{j}": column for j, column in enumerate(self.x)}}


def simulate(n: int, p: int) -> Sample:
    """Draw a logistic regression with an intercept and p - 1 slopes; an index of standard deviation one."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((p - 1, n))
    slopes = rng.choice([-1.0, 1.0], p - 1) / np.sqrt(p - 1)
    index = slopes @ x - 0.5
    return Sample((rng.random(n) < 1 / (1 + np.exp(-index))).astype(float), x)


def newton(y: Array, X: Array) -> Estimates:
    """Analytic Newton until the decrement, the distance from the root in standard errors, is below 1e-9."""
    theta = np.zeros(X.shape[1])
    while True:
        mean = 1 / (1 + np.exp(-(X @ theta)))
        residual = y - mean
        score = X.T @ residual
        hessian = X.T @ ((mean * (1 - mean))[:, None] * X)
        step = np.linalg.solve(hessian, score)
        if np.sqrt(abs(step @ score)) <= TOLERANCE:
            break
        theta = theta + step
    left = np.linalg.solve(hessian, X.T @ (np.square(residual)[:, None] * X))
    return theta, np.sqrt(np.diagonal(np.linalg.solve(hessian, left.T)))


def by_statsmodels(y: Array, X: Array) -> Estimates:
    """``Logit.fit`` by Newton."""
    import statsmodels.api as sm

    fit = sm.Logit(y, X).fit(cov_type="HC0", disp=0, tol=1e-10)
    return fit.params, fit.bse


def by_delicatessen(y: Array, X: Array, derivative: str) -> Estimates:
    """``MEstimator`` with the logistic regression of its library."""
    from delicatessen import MEstimator
    from delicatessen.estimating_equations import ee_regression

    fit = MEstimator(lambda theta: ee_regression(theta, X, y, model="logistic"), np.zeros(X.shape[1]))
    fit.estimate(deriv_method=derivative)
    return fit.theta, np.sqrt(np.diagonal(fit.variance))


def by_moments(data: Any) -> Estimates:
    """``moments.logit`` of named columns."""
    fit = eeqs.estimate(eeqs.moments.logit("y", [name for name in data if name != "y"]), data)
    return fit.params.to_numpy(), fit.bse.to_numpy()


def by_plain_psi(y: Array, X: Array) -> Estimates:
    """Fit the same model as three lines of torch."""

    def psi(theta: torch.Tensor, data: dict[str, torch.Tensor]) -> torch.Tensor:
        return (data["y"] - torch.sigmoid(data["X"] @ theta))[:, None] * data["X"]

    fit = eeqs.estimate(psi, {"y": y, "X": X}, theta0=np.zeros(X.shape[1]))
    return fit.params.to_numpy(), fit.bse.to_numpy()


def matrices(sample: Sample) -> tuple[Array, Array]:
    """Response and design."""
    return sample.y, sample.design()


class Way(NamedTuple):
    """A way to the estimates: what it takes of the data, and how it fits that."""

    take: Callable[[Sample], tuple[Any, ...]]
    fit: Callable[..., Estimates]
    peer: bool = False


FLOOR, COLUMNS, PLAIN = "floor (numpy)", "eeqs, moments.logit", "eeqs, plain torch psi"
STATSMODELS, DEFAULT, EXACT = "statsmodels", "delicatessen, default", "delicatessen, exact"
WAYS = {
    FLOOR: Way(matrices, newton),
    COLUMNS: Way(lambda sample: (sample.columns(),), by_moments),
    "eeqs, of a DataFrame": Way(lambda sample: (pd.DataFrame(sample.columns()),), by_moments),
    PLAIN: Way(matrices, by_plain_psi),
    STATSMODELS: Way(matrices, by_statsmodels),
    DEFAULT: Way(matrices, lambda y, X: by_delicatessen(y, X, "approx"), peer=True),
    EXACT: Way(matrices, lambda y, X: by_delicatessen(y, X, "exact"), peer=True),
}


def cell(name: str, n: int, p: int, repeats: int) -> tuple[float, float, Estimates]:
    """Seconds, MiB above the data, and estimates of one way; run in a process of its own."""
    torch.set_num_threads(1)
    way = WAYS[name]
    way.fit(*way.take(simulate(*WARM)))  # what is imported, compiled or kept as workspace by BLAS at first use
    taken = way.take(simulate(n, p))
    cost = measure(lambda: way.fit(*taken), repeats)
    return cost.seconds, cost.above, cost.result


def is_slow(name: str, n: int, p: int) -> bool:
    """Whether a fit takes minutes."""
    return name == EXACT and n * p * p > 2e7


def size_rows(n: int, p: int, *, slow: bool) -> list[dict[str, Any]]:
    """Time, memory and agreement of all ways at one size."""
    rows: list[dict[str, Any]] = []
    for name, way in WAYS.items():
        if (way.peer and find_spec("delicatessen") is None) or (is_slow(name, n, p) and not slow):
            continue
        several = 200 if n <= 1000 else 5
        seconds, above, (theta, error) = in_a_process(cell, name, n, p, 1 if way.peer and n > 1000 else several)
        if not rows:
            floor, expected, scale = seconds, theta, error
        rows.append(
            {
                "way": name,
                "n": n,
                "p": p,
                "milliseconds": 1000 * seconds,
                "ratio to floor": seconds / floor,
                "MiB above data": above,
                "2np8 in MiB": 2 * n * p * 8 / MIB,
                "estimates differ, in se": float(np.abs((theta - expected) / scale).max()),
                "se differ, relative": float(np.abs(error / scale - 1).max()),
            }
        )
    return rows


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each size shows of the ratios asked for."""
    at = {row["way"]: row for row in rows}
    time = {way: row["milliseconds"] for way, row in at.items()}
    if (rows[0]["n"], rows[0]["p"]) == SMALL:
        pairs = [("overhead of moments.logit, ms", time[COLUMNS] - time[FLOOR], "at most 1")]
    else:
        pairs = [
            ("moments.logit / floor", time[COLUMNS] / time[FLOOR], "at most 1.5"),
            ("moments.logit / statsmodels", time[COLUMNS] / time[STATSMODELS], "at most 1"),
            ("plain psi / floor", time[PLAIN] / time[FLOOR], "at most 5"),
            ("MiB above data / 2np8", at[COLUMNS]["MiB above data"] / at[COLUMNS]["2np8 in MiB"], "at most 1"),
        ]
    pairs += [
        (f"{peer} / plain psi", time[peer] / time[PLAIN], f"at least {factor}")
        for peer, factor in ((DEFAULT, 5), (EXACT, 50))
        if peer in time and rows[0]["n"] > SMALL[0]
    ]
    size = {"n": rows[0]["n"], "p": rows[0]["p"]}
    return [{**size, "quantity": name, "measured": value, "target": target} for name, value, target in pairs]


def main() -> None:
    """Print a table a size and one of targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of n")
    parser.add_argument("--slow", action="store_true", help="include fits that take minutes")
    parser.add_argument("--out", type=Path, help="CSV file")
    options = parser.parse_args()
    console, every, reached = Console(), [], []
    installed = find_spec("delicatessen") is not None
    if not installed:
        console.print("delicatessen is not installed; its rows are left out.")
    for n, p in (SMALL, *((max(10 * p, round(options.scale * n)), p) for n, p in SIZES)):
        rows = size_rows(n, p, slow=options.slow)
        console.print(as_table(f"logistic regression with HC0, n = {n:,}, p = {p}", rows))
        every += rows
        reached += targets(rows)
    console.print(as_table("targets", reached))
    if options.out:
        packages = ("numpy", "torch", "pandas", "statsmodels", *(("delicatessen",) if installed else ()))
        write(options.out, every, packages)


if __name__ == "__main__":
    main()
