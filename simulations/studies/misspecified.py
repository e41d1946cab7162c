"""Wrong models and clustered data: what each standard error covers, claim T10 of the theory notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.random import SeedSequence
from torch import Tensor

import eeqs
from simulations.claims import misspecified as claims
from simulations.designs.foreign_noise import ForeignNoise
from simulations.designs.grouped_lines import ClusteredLine, CrossedLine
from simulations.designs.wrong_regressions import bent_line, flipped_responses, overdispersed_counts
from simulations.seeds import torch_generator
from simulations.study import Cell, Preset

__all__ = ["STUDY", "Design", "Meat", "Misspecified", "Size"]

Data: TypeAlias = dict[str, Tensor]
# Numbers an observation times observations held by one batch: a few MB, so that temporaries stay near the cache.
_BATCH_NUMBERS = 400_000


class Design(Protocol):
    """A law of the data, an estimating function it does not obey or obey with dependence, and where its root goes."""

    @property
    def stream(self) -> str:
        """Name of the random stream: designs that share it see the same observations."""

    @property
    def column(self) -> int:
        """Position of the reported coefficient."""

    @property
    def truth(self) -> float:
        """Its pseudo-true value."""

    @property
    def start(self) -> tuple[float, ...]:
        """Where the solver starts, (p,)."""

    @property
    def numbers(self) -> int:
        """Numbers an evaluation of psi holds an observation."""

    @property
    def psi(self) -> eeqs.EstimatingFunction:
        """The fitted estimating function."""

    def sample(self, n: int, generator: torch.Generator) -> Data:
        """Draw n observations."""

    def dispersion(self, theta: Tensor, data: Data) -> Tensor:
        """Factor (R,) of the information that the model takes for the variance of psi."""


Meat: TypeAlias = Callable[[Design, Tensor, Data], Tensor]
"""``meat(design, theta (R, p), data)`` is the assumed variance of psi, (R, p, p)."""


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    sizes : mapping of str to tuple of int
        Sample sizes of each design.
    replicates : mapping of str to int
        Replicates of each design.
    coverage_width, ratio_width, difference_width : float
        Widest interval of a coverage, of a ratio of standard errors, and of the difference of two pseudo-true values
        that can support a claim.
    """

    sizes: Mapping[str, tuple[int, ...]]
    replicates: Mapping[str, int]
    coverage_width: float
    ratio_width: float
    difference_width: float


def _size(
    regressions: tuple[int, ...], clusters: tuple[int, ...], pairs: tuple[int, ...], noise: tuple[int, ...], *,
    many: int, few: int, widths: tuple[float, float, float],
) -> Size:  # fmt: skip
    """Size with many replicates of the cheap designs and few of those whose roots or covariances are dear."""
    sizes = dict.fromkeys(("poisson", "logit", "least_squares"), regressions)
    sizes |= {"exact": noise, "cross_fitted": noise, "clustered": clusters, "crossed": pairs}
    replicates = {name: few if name in ("exact", "cross_fitted", "crossed") else many for name in sizes}
    return Size(sizes, replicates, *widths)


def _presets() -> dict[Preset, Size]:
    return {
        Preset.QUICK: _size(
            (250, 1000), (300, 3000), (400, 3000), (250, 1500), many=2000, few=400, widths=(0.08, 0.3, 0.04)
        ),
        Preset.FULL: _size(
            (125, 250, 500, 1000, 4000),
            (300, 1000, 3000, 6000),
            (400, 1000, 3000, 6000),
            (250, 1000, 4000),
            many=6000,
            few=1000,
            widths=(0.06, 0.15, 0.02),
        ),
    }


def _designs() -> dict[str, Design]:
    return {
        "poisson": overdispersed_counts(),
        "logit": flipped_responses(),
        "least_squares": bent_line(),
        "exact": ForeignNoise(),
        "cross_fitted": ForeignNoise(draws=4),
        "clustered": ClusteredLine(),
        "crossed": CrossedLine(),
    }


def information(design: Design, theta: Tensor, data: Data) -> Tensor:
    """Variance of psi when the model is right: its information times the dispersion (the information equality)."""
    return -design.dispersion(theta, data)[:, None, None] * eeqs.bread(design.psi, theta, data)


def independent(design: Design, theta: Tensor, data: Data) -> Tensor:
    """Variance of psi of independent observations, whatever their law (HC0)."""
    return eeqs.meat(design.psi, theta, data)


def clustered(design: Design, theta: Tensor, data: Data) -> Tensor:
    """Variance of psi of independent clusters (CR1)."""
    return eeqs.meat(design.psi, theta, data, eeqs.Cluster("cluster"))


def two_way(design: Design, theta: Tensor, data: Data) -> Tensor:
    """Variance of psi under dependence in rows and in columns (CR1), one replicate at a time; NaN where negative."""
    kind = eeqs.TwoWay("cluster", "column")

    def one(at: Tensor, part: Data) -> Tensor:
        try:
            return eeqs.meat(design.psi, at, part, kind)
        except eeqs.DataError:  # the difference of inclusion and exclusion is negative
            return torch.full((len(at), len(at)), torch.nan, dtype=at.dtype)

    parts = ({name: leaf[r] for name, leaf in data.items()} for r in range(len(theta)))
    return torch.stack([one(at, part) for at, part in zip(theta, parts, strict=True)])


def _meats() -> dict[str, Meat]:
    return {"model_based": information, "sandwich": independent, "cluster": clustered, "two_way": two_way}


def _covariances() -> dict[str, tuple[str, ...]]:
    plain = ("model_based", "sandwich")
    offered = dict.fromkeys(("poisson", "logit", "least_squares", "exact", "cross_fitted"), plain)
    return offered | {"clustered": (*plain, "cluster"), "crossed": (*plain, "cluster", "two_way")}


@dataclass(frozen=True)
class Misspecified:
    """Coverage of pseudo-true values by intervals of several covariances.

    A cell is a design at a sample size ``n``; designs ``exact`` and ``cross_fitted`` share their observations. One
    coefficient is estimated. ``parameter`` names the covariance of its standard error, so that a replicate gives the
    same estimate as many times as there are covariances of its design.

    Attributes
    ----------
    covariances : mapping of str to tuple of str
        Names of the covariances of each design; the last one is claimed to cover, the others not.
    meats : mapping of str to callable
        The assumed variance of psi of each covariance.
    """

    name: str = "misspecified"
    summary: str = "Coverage of pseudo-true values by model-based, sandwich and cluster standard errors (T10)"
    sizes: Mapping[Preset, Size] = field(default_factory=_presets)
    designs: Mapping[str, Design] = field(default_factory=_designs)
    covariances: Mapping[str, tuple[str, ...]] = field(default_factory=_covariances)
    meats: Mapping[str, Meat] = field(default_factory=_meats)

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset."""
        size = self.sizes[preset]
        return [self._cell(name, n, size.replicates[name]) for name in self.designs for n in size.sizes[name]]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Simulate and estimate a batch of replicates at once."""
        name, n = str(cell.parameters["design"]), int(cell.parameters["n"])
        design = self.designs[name]
        samples = [design.sample(n, torch_generator(seed)) for seed in seeds]
        data = {leaf: torch.stack([sample[leaf] for sample in samples]) for leaf in samples[0]}
        start = torch.tensor(design.start, dtype=torch.float64).expand(len(seeds), -1)
        solution = eeqs.solve(design.psi, data, start, tolerance=1e-4)
        bread = eeqs.bread(design.psi, solution.theta, data)
        rows = {
            "replicate": np.asarray(replicates, dtype=np.int64),
            "truth": design.truth,
            "estimate": solution.theta[:, design.column].numpy(),
            "status": [status.label for status in solution.status],
        }
        variances = {
            kind: eeqs.sandwich(bread, self.meats[kind](design, solution.theta, data), n)
            for kind in self.covariances[name]
        }
        return pd.concat(
            [
                pd.DataFrame(
                    {**rows, "parameter": kind, "se": variance[:, design.column, design.column].sqrt().numpy()}
                )
                for kind, variance in variances.items()
            ],
            ignore_index=True,
        )

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge T10."""
        size = self.sizes[preset]
        return claims.judge(
            table,
            covering={name: kinds[-1] for name, kinds in self.covariances.items()},
            coverage_width=size.coverage_width,
            ratio_width=size.ratio_width,
            difference_width=size.difference_width,
        )

    def _cell(self, name: str, n: int, replicates: int) -> Cell:
        design = self.designs[name]
        numbers = n * design.numbers
        return Cell(
            self.name,
            {"design": name, "n": n},
            replicates,
            batch=min(replicates, max(1, _BATCH_NUMBERS // numbers)),
            stream=f"{design.stream},n={n}",
            cost=float(numbers) + 1e3,
        )


STUDY = Misspecified()
