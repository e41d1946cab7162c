r"""Variance and cost of the random-cost scores: ``python tests/benchmarks/bench_debiased.py``, ``--out FILE`` for CSV.

The design is `FrozenKernel`: data from the truth, scores at the truth and at log-scales 0.5 below and above it. A score
minus the exact one of the same observation (quadrature) has mean zero if it is unbiased; its variance is the simulation
variance. Work is (sampling + simulation variance) x mean cost: the variance of a mean score bought by one draw.

plug_in is run beside each at K = the other's mean cost, rounded. Its mean over n observations has squared error
bias^2 + variance / n, against variance / n: above ``n where equal`` the unbiased score is the better one. Zero there
says that it already is for one observation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from cells import as_table, write
from rich.console import Console
from torch import Tensor

from eeqs.marginal import Marginal, exact, plug_in
from eeqs.marginal.random_cost import RandomCostScore, multilevel, posterior
from simulations.designs.frozen_kernel import FrozenKernel

SHIFTS = (0.0, -0.5, 0.5)
SIZES = (100, 1_000, 10_000, 100_000)
BLOCK = 20_000
SCORES: dict[str, Callable[[], RandomCostScore]] = {
    "posterior, m = 1": lambda: posterior(1),
    "posterior, m = 4": lambda: posterior(4),
    "multilevel, b = 1": lambda: multilevel(1),
    "multilevel, b = 4": lambda: multilevel(4),
    "multilevel, b = 16": lambda: multilevel(16),
    "multilevel, b = 4, r = 1.2": lambda: multilevel(4, rate=1.2),
    "multilevel, b = 4, r = 1.8": lambda: multilevel(4, rate=1.8),
}


def plug_in_values(model: Marginal, x: Tensor, y: Tensor, n_draws: int, generator: torch.Generator) -> Tensor:
    """psi (n, 1) of plug_in in blocks of observations, with fresh draws."""
    psi = model.psi(plug_in, draws=n_draws)
    blocks = zip(x.split(BLOCK), y.split(BLOCK), strict=True)
    return torch.cat([psi(model.theta, {"x": a, "y": b, "z": model.draw(a, n_draws, generator)}) for a, b in blocks])


def table_at(shift: float, n: int) -> Iterator[dict[str, Any]]:
    """Rows of one parameter: all scores on the same observations."""
    design = FrozenKernel(nodes=64)
    data = design.sample(n, None, torch.Generator().manual_seed(20))
    model = design.model(design.truth + shift)
    truth = model.psi(exact(design.nodes))(model.theta, data)
    for name in SCORES:
        yield {"score": name, "shift": shift, "n": n} | compare(name, model, data, truth)


def compare(name: str, model: Marginal, data: dict[str, Tensor], truth: Tensor) -> dict[str, float]:
    """Errors and costs of a score, and of plug_in at its cost."""
    generator = torch.Generator().manual_seed(21)
    x, y, n = data["x"], data["y"], len(truth)
    values, cost = SCORES[name]().score_sample(model, x, y, generator)
    rival = plug_in_values(model, x, y, round(float(cost.double().mean())), generator)
    error, bias = values - truth, (rival - truth).mean()
    variance, rival_variance = float(values.var()), float(rival.var())
    # The error of the estimated bias adds to its square.
    squared_bias = max(0.0, float(bias**2 - (rival - truth).var() / n))
    mean_cost = float(cost.double().mean())
    return {
        "mean error": float(error.mean()),
        "z": float(error.mean() / error.std() * n**0.5),
        "sampling variance": float(truth.var()),
        "simulation variance": float(error.var()),
        "mean cost": mean_cost,
        "median cost": float(cost.double().median()),
        "99 % cost": float(cost.double().quantile(0.99)),
        "largest cost": int(cost.max()),
        "work": variance * mean_cost,
        "plug_in bias": float(bias),
        "plug_in z": float(bias / (rival - truth).std() * n**0.5),
        "plug_in variance": rival_variance,
        **{f"MSE ratio at {size}": (squared_bias + rival_variance / size) / (variance / size) for size in SIZES},
        "n where equal": max(0.0, variance - rival_variance) / squared_bias if squared_bias else float("inf"),
    }


def main() -> None:
    """Print the table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for shift in SHIFTS for row in table_at(shift, options.n)]
    Console(width=320).print(as_table("scores of random cost, against plug_in at equal cost", rows))
    if options.out:
        write(options.out, rows, ("numpy", "torch"))


if __name__ == "__main__":
    main()
