r"""Claims of unbiasedness over the whole grid: score x family x kernel x number of draws x design of draws.

``python tests/contract/unbiased_grid.py --out docs/results/unbiased_grid.csv`` runs `eeqs.check_unbiased` in every cell
and prints how many of each score's cells passed. The level is split over the cells whose score is claimed unbiased, so
one rejection among all of them has probability ``LEVEL`` at most if every claim is true. A cell whose score is claimed
biased must be rejected unless its bias is below what the test detects in nine of ten samples of its size; the bias is
then measured on ``FINER`` times as many observations. Of families without parameters, the kernel's first is estimated;
families made of networks, with 18 to 28 parameters, meet one kernel.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

import eeqs
from eeqs.marginal import (
    MLP,
    Affine,
    Contextual,
    Draws,
    Dropout,
    Flow,
    Gaussian,
    Hull,
    Identity,
    LogLinear,
    LowRank,
    Marginal,
    NEFTune,
    Network,
    Ordered,
    PerToken,
    Poisson,
    Pushforward,
    QuadraticSoftmax,
    Rotation,
    Score,
    Softmax,
    UniformBall,
    antithetic,
    cross_fitted,
    exact,
    iid,
    plug_in,
    quadratic,
    single_draw,
    sobol,
    two_sample,
)

N, FINER, LEVEL = 4000, 4, 0.05
NUMBERS = (2, 4, 8, 16)
CLASSES = 5
NODES = 24


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generic(module: nn.Module) -> nn.Module:
    """Move a network off the zeros it starts at."""
    with torch.no_grad():
        for i, value in enumerate(module.parameters()):
            value.add_(0.3 * normal(*value.shape, seed=i))
    return module


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


FAMILIES: dict[str, Callable[[], Any]] = {
    "identity": lambda: Identity(2),
    "gaussian": lambda: Gaussian(2, [-0.2, -0.7]),
    "per_token": lambda: PerToken(2, 1, -0.3),
    "low_rank": lambda: LowRank(torch.tensor([[0.8, 0.0], [0.3, 0.6]], dtype=torch.float64)),
    "affine": lambda: Affine(2, [-0.2, -0.7], 0.2, [0.9, 1.2]),
    "log_linear": lambda: LogLinear(2, [-0.2, -0.7], 0.4, [[True, False], [False, False]]),
    "contextual": lambda: generic(Contextual(2, (2,), generator=rng(), log_scale=-0.3)),
    "pushforward": lambda: Pushforward(2, (3,), generator=rng(), latent_dim=2, scale=1.0),
    "flow": lambda: generic(Flow(2, 2, (2,), generator=rng())),
    "hull": lambda: Hull(2 * normal(12, 2, seed=3), 3, log_scale=0.3),
    "rotation": lambda: Rotation(2, -0.3),
    "uniform_ball": lambda: UniformBall(2, 1.5),
    "neftune": lambda: NEFTune(2, 2.0, 1),
    "dropout": lambda: Dropout(2, [0.3, 0.4]),
}
NETWORKS = {"contextual", "pushforward", "flow"}
KERNELS: dict[str, Callable[[], Any]] = {
    "softmax": lambda: Softmax(2 * normal(CLASSES, 2, seed=1), normal(CLASSES, seed=2)),
    "quadratic": lambda: QuadraticSoftmax(2 * normal(CLASSES, 2, seed=1), normal(CLASSES, 2, seed=3)),
    "mlp": lambda: MLP(generic(Network.random((2, 4, CLASSES), rng()))),
    "ordered": lambda: Ordered(2 * normal(2, seed=4), normal(CLASSES - 1, seed=5).sort().values),
    "poisson": lambda: Poisson(torch.tensor([0.7, -0.5], dtype=torch.float64), 0.3, n_classes=CLASSES),
}


def designs(score: Score, n_draws: int) -> Iterator[Draws]:
    """Designs of ``n_draws`` draws that a score takes."""
    if score.max_groups == 2:
        yield iid(n_draws, groups=2)
    else:
        yield iid(n_draws)
    if score.max_groups != 2 and n_draws // 2 >= score.min_groups:
        yield antithetic(n_draws)
    groups = max(score.min_groups, score.max_groups or 1)
    if n_draws // groups >= 2:
        yield antithetic(n_draws, groups=groups)
        yield sobol(n_draws, groups=groups)


def model(family: str, kernel: str) -> Marginal:
    """Model with the parameters of the family free, or the first of the kernel if it has none."""
    made = Marginal(FAMILIES[family](), KERNELS[kernel]().requires_grad_(requires_grad=False))
    if not made.names:
        next(made.kernel.parameters()).requires_grad_(requires_grad=True)
    return made


def cells(family: str, kernel: str) -> Iterator[tuple[Score, Draws | None]]:
    """Scores and designs for one model; quadrature where the rule of its latent is small."""
    for score in (single_draw, plug_in, quadratic, cross_fitted, two_sample):
        for n_draws in NUMBERS:
            yield from ((score, design) for design in designs(score, n_draws))
    if family not in NETWORKS and FAMILIES[family]().latent_dim <= 2 and kernel in {"softmax", "quadratic"}:
        yield exact(NODES), None


def verdict(
    family: str, kernel: str, score: Score, draws: Draws | None, level: float, seed: int, size: int = N
) -> dict[str, Any]:
    """Record of one cell of ``size`` observations."""
    made = model(family, kernel)
    psi = made.psi(score, draws=draws)

    def simulate(n: int, generator: torch.Generator) -> dict[str, Tensor]:
        x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        data = made.sample(x, draws or 1, generator)
        return data if draws is not None else {"x": data["x"], "y": data["y"]}

    report = eeqs.check_unbiased(psi, made.theta, simulate, size, level=level, seed=seed)
    outcome = "passed" if report.passed else "rejected"
    if report.passed and not score.unbiased:
        finer = eeqs.check_unbiased(psi, made.theta, simulate, FINER * size, level=level, seed=seed + 1)
        too_small = finer.table["mean"].abs() - 2 * finer.table["mc_se"] <= report.table["detectable"]
        outcome = "bias too small to see" if bool(too_small.all()) else "missed"
    return {
        "family": family,
        "kernel": kernel,
        "score": score.name,
        "draws": str(draws) if draws is not None else "quadrature",
        "K": 0 if draws is None else len(draws),
        "claimed": "unbiased" if score.unbiased else "biased",
        "outcome": outcome,
        "p_value": report.p_value,
        "largest_z": float(report.table["z"].abs().max()),
    }


def every_cell() -> list[tuple[str, str, Score, Draws | None]]:
    """List the grid."""
    pairs = [
        (family, kernel) for family in FAMILIES for kernel in KERNELS if family not in NETWORKS or kernel == "quadratic"
    ]
    return [(*pair, score, draws) for pair in pairs for score, draws in cells(*pair)]


def level_of_a_cell(grid: list[tuple[str, str, Score, Draws | None]]) -> float:
    """Bonferroni's share of the level, over the cells that should pass."""
    return LEVEL / sum(score.unbiased for _, _, score, _ in grid)


def main() -> None:
    """Run the grid, print a summary, and exit with an error if a claim failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV file")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    grid = every_cell()
    level = level_of_a_cell(grid)
    # A run that was cut off goes on; its first two lines are no cells.
    done = max(0, len(options.out.read_text().splitlines()) - 2) if options.out.exists() else 0
    if not done:
        options.out.write_text(f"# n = {N}, level {LEVEL} over the cells claimed unbiased\n")
    run = Parallel(options.jobs, return_as="generator")(
        delayed(verdict)(*cell, level, 2 * seed) for seed, cell in enumerate(grid) if seed >= done
    )
    for seed, record in enumerate(track(run, total=len(grid) - done, description="cells"), start=done):
        pd.DataFrame([record]).to_csv(options.out, mode="a", header=seed == 0, index=False)
    table = pd.read_csv(options.out, comment="#")
    summary = pd.crosstab([table["claimed"], table["score"]], table["outcome"])
    Console().print(summary.to_string())
    wrong = (table["claimed"] == "unbiased") & (table["outcome"] != "passed") | (table["outcome"] == "missed")
    raise SystemExit(int(wrong.any()))


if __name__ == "__main__":
    main()
