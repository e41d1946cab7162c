r"""Estimation at scale: ``python tests/benchmarks/bench_scale.py``. One thread, CPU times, one process a row.

Logistic regression with HC0 errors from parquet, p = 10: n = 1e5 and 1e6, and with ``--large`` 1e7 (0.8 GB on disk). A
pass reads 8 n p bytes, decodes them, and does the 2.4e8 operations and 1e6 exponentials a million rows that
`bench_logit` counts. Six evaluations and the meat are seven passes, and the first batch is read once more for the
start: 0.56 GB a million rows, a quarter of a second at 2 GB/s of uncompressed parquet, as much for the products and as
much for copies. Time is linear in n. Memory is that of some batches of 2^17 rows, 10 MB each, whatever n.

Matrix-free ridge-logistic regression with an interval for one coefficient: p = 2,000 and n = 500, and with ``--large``
p = 20,000 and n = 5,000. The design is 8 n p bytes, 0.8 GB, and the Jacobian would be 8 p^2, 3.2 GB. A product with the
Jacobian is two passes over the design, 4 n p operations: 0.4 s at 4 GB/s, as is an evaluation of psi with its squares.
The time is that of the passes: 100 products and 10 evaluations are under a minute. Memory above the data is a few
vectors of length p and a block of rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from cells import as_table, in_a_process, measure, write
from rich.console import Console

import eeqs

REGRESSORS = [f"x{j}" for j in range(9)]
SLOPES = np.resize([1 / 3, -1 / 3], len(REGRESSORS))
ROWS_A_BATCH = 2**17
RIDGE = 0.01


def write_parquet(path: str, n: int) -> None:
    """Write a logistic regression in row groups, uncompressed as random numbers are anyway."""
    rng = np.random.default_rng(0)
    schema = pa.schema([(name, pa.float64()) for name in ("y", *REGRESSORS)])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        for start in range(0, n, ROWS_A_BATCH):
            x = rng.standard_normal((len(REGRESSORS), min(ROWS_A_BATCH, n - start)))
            y = rng.random(x.shape[1]) < 1 / (1 + np.exp(0.5 - SLOPES @ x))
            file.write_table(pa.table([pa.array(column) for column in (y.astype(float), *x)], schema=schema))


def parquet_cell(path: str, small: str, repeats: int) -> tuple[float, float, float, np.ndarray]:
    """Seconds, MiB above the imports and in all, and z-scores of the slopes against the truth."""
    torch.set_num_threads(1)
    psi = eeqs.moments.logit("y", REGRESSORS)
    eeqs.estimate(psi, small)  # what is imported at first use
    cost = measure(lambda: eeqs.estimate(psi, path), repeats)
    return cost.seconds, cost.above, cost.peak, (cost.result.params[1:] - SLOPES) / cost.result.bse[1:]


def parquet_rows(sizes: list[int]) -> list[dict[str, Any]]:
    """One row a size; files are written to a temporary directory, one at a time."""
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        small, path = (str(Path(folder, name)) for name in ("small.parquet", "rows.parquet"))
        in_a_process(write_parquet, small, 1000)
        for n in sizes:
            in_a_process(write_parquet, path, n)
            seconds, above, peak, z = in_a_process(parquet_cell, path, small, 3)
            rows.append(
                {
                    "way": "eeqs, parquet",
                    "n": n,
                    "p": 1 + len(REGRESSORS),
                    "file, MB": Path(path).stat().st_size / 1e6,
                    "seconds": seconds,
                    "microseconds a row": 1e6 * seconds / n,
                    "MiB above imports": above,
                    "MiB in all": peak,
                    "largest |z| of a slope": float(np.abs(z).max()),
                }
            )
    return rows


def ridge_logit(p: int) -> eeqs.EstimatingFunction:
    """Logistic regression of a matrix of regressors, ridge penalty per observation."""

    def slope(index: torch.Tensor, _: Any) -> torch.Tensor:
        mean = torch.sigmoid(index)
        return mean * (mean - 1)

    psi = eeqs.from_linear_index(
        lambda index, data: data["y"] - torch.sigmoid(index),
        lambda data: data["X"],
        slope=slope,
        start=lambda data: data["X"].new_zeros(p),
    )
    return eeqs.ridge(psi, RIDGE)


def matrix_free_cell(n: int, p: int) -> tuple[float, float, float, dict[str, Any]]:
    """Seconds, MiB above the data and in all, and the functional."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p))
    truth = np.r_[np.ones(10), np.zeros(p - 10)] / np.sqrt(10)
    data = {"X": X, "y": (rng.random(n) < 1 / (1 + np.exp(-(X @ truth)))).astype(float)}
    chosen = np.eye(1, p)[0]
    part = {"X": X[:50, :20].copy(), "y": data["y"][:50]}
    eeqs.estimate_functional(ridge_logit(20), part, chosen[:20])  # what is imported at first use
    cost = measure(lambda: eeqs.estimate_functional(ridge_logit(p), data, chosen), 1)
    found: eeqs.Functional = cost.result
    shown = {
        "Newton steps": found.iterations,
        "products": found.products,
        "estimate": found.estimate,
        "se": found.se,
        "residual, in se": found.residual_norm,
    }
    return cost.seconds, cost.above, cost.peak, shown


def matrix_free_rows(sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """One row a size."""
    rows = []
    for n, p in sizes:
        seconds, above, peak, shown = in_a_process(matrix_free_cell, n, p)
        memory = {"MiB above data": above, "MiB in all": peak}
        rows.append({"way": "eeqs, matrix-free", "n": n, "p": p, "seconds": seconds, **memory, **shown})
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="include 10 million rows and 20,000 parameters")
    parser.add_argument("--out", type=Path, help="CSV file")
    options = parser.parse_args()
    console = Console()
    parquet = parquet_rows([100_000, 1_000_000, *([10_000_000] if options.large else [])])
    console.print(as_table("logistic regression with HC0 from parquet", parquet))
    free = matrix_free_rows([(500, 2_000), *([(5_000, 20_000)] if options.large else [])])
    console.print(as_table("ridge-logistic regression, interval of one coefficient, matrix-free", free))
    if options.out:
        write(options.out, [*parquet, *free], ("numpy", "torch", "pyarrow"))


if __name__ == "__main__":
    main()
