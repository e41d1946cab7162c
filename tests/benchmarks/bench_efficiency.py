r"""Efficiency of scores against maximum likelihood, by design of draws, and what an observation costs.

At the truth an unbiased psi has the sandwich covariance :math:`A^{-1} B A^{-\top}`, and maximum likelihood the inverse
of the information. The relative efficiency of a parameter is the ratio of the two variances. The bread is estimated by
the covariance of psi with the exact score, :math:`A = -E[\psi s^\top]`, which holds for a psi that is unbiased at every
parameter value and has lighter tails than the derivative of psi. Standard errors are those of the variance of the
influence function; the exact score is by quadrature, on the same observations.

Biased scores have no efficiency; their cost is shown beside the others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from cells import as_table, write
from rich.console import Console
from torch import Tensor

from eeqs.marginal import (
    Draws,
    Marginal,
    Score,
    antithetic,
    cross_fitted,
    exact,
    iid,
    plug_in,
    quadratic,
    shifted_grid,
    single_draw,
    sobol,
    two_sample,
)
from simulations.designs.frozen_kernel import FrozenKernel
from simulations.designs.two_scales import TwoScales

BLOCK = 5000
DESIGNS = {"two_scales": TwoScales(), "frozen_kernel": FrozenKernel()}
NUMBERS = (4, 8, 16)


def lines(n_draws: int, dim: int) -> Iterator[tuple[Score, Draws]]:
    """Scores and designs of ``n_draws`` draws that are compared."""
    for score in (single_draw, plug_in, quadratic, cross_fitted):
        yield score, iid(n_draws)
    for score in (quadratic, cross_fitted):
        yield score, antithetic(n_draws)
    if n_draws >= 8:
        yield cross_fitted, sobol(n_draws, groups=4)
    yield quadratic, sobol(n_draws)
    for design in (iid(n_draws, groups=2), antithetic(n_draws, groups=2), sobol(n_draws)):
        yield two_sample, design
    if dim == 1:
        yield two_sample, shifted_grid(n_draws)


def rows_of_psi(
    model: Marginal, score: Score, draws: Draws | None, data: dict[str, Tensor], generator: torch.Generator
) -> tuple[Tensor, float]:
    """Psi (n, p) at the truth, and CPU microseconds an observation, draws not counted."""
    psi, theta, rows, seconds = model.psi(score, draws=draws), model.theta, [], 0.0
    for x, y in zip(data["x"].split(BLOCK), data["y"].double().split(BLOCK), strict=True):
        block = {"x": x, "y": y} | ({} if draws is None else {"z": model.draw(x, draws, generator)})
        start = time.process_time()
        rows.append(psi(theta, block))
        seconds += time.process_time() - start
    return torch.cat(rows), 1e6 * seconds / len(data["y"])


def efficiencies(psi: Tensor, score: Tensor) -> tuple[Tensor, Tensor, float]:
    """Relative efficiency of every parameter, its standard error, and that of the generalised variance."""
    n, p = psi.shape
    bread, best = psi.mT @ score / n, torch.linalg.inv(score.mT @ score / n)
    influence = torch.linalg.solve(bread, psi.mT).mT
    covariance = influence.mT @ influence / n
    ratio = best.diagonal() / covariance.diagonal()
    kurtosis = influence.pow(4).mean(0) / influence.square().mean(0).square()
    overall = (torch.linalg.det(best) / torch.linalg.det(covariance)) ** (1 / p)
    return ratio, ratio * ((kurtosis - 1) / n).sqrt(), float(overall)


def main() -> None:
    """Print and store a table a design."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000, help="observations")
    parser.add_argument("--out", type=Path, help="CSV file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    every: list[dict[str, Any]] = []
    for name, design in DESIGNS.items():
        model = design.model()
        data = design.sample(options.n, None, torch.Generator().manual_seed(1))
        best, cost = rows_of_psi(model, exact(design.nodes), None, data, torch.Generator())
        table = [{"design": name, "score": "exact", "draws": "quadrature", "K": 0, "microseconds": cost}]
        for n_draws in NUMBERS:
            for score, draws in lines(n_draws, data["x"].shape[1]):
                psi, cost = rows_of_psi(model, score, draws, data, torch.Generator().manual_seed(2))
                row: dict[str, Any] = {"design": name, "score": score.name, "draws": str(draws), "K": n_draws}
                row["microseconds"] = cost
                if score.unbiased:
                    ratio, error, overall = efficiencies(psi, best)
                    row |= {parameter: float(r) for parameter, r in zip(model.names, ratio, strict=True)}
                    row |= {f"se {parameter}": float(e) for parameter, e in zip(model.names, error, strict=True)}
                    row["generalised variance"] = overall
                table.append(row)
        keys = list(dict.fromkeys(key for row in table for key in row if not key.startswith("se ")))
        Console(width=160).print(as_table(name, [{key: row.get(key, "") for key in keys} for row in table]))
        every += table
    if options.out:
        write(options.out, every, ("torch", "numpy"))


if __name__ == "__main__":
    main()
