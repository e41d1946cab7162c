"""Noise of a frozen language model: intervals for phi from documents, claim LM of the documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import pandas as pd
import torch
from numpy.random import SeedSequence
from torch import Tensor

import eeqs
from eeqs.marginal import plug_in
from simulations.claims import phi_coverage as claims
from simulations.designs.perturbed_text import PSEUDO_TRUE, PerturbedText
from simulations.seeds import torch_generator
from simulations.study import Cell, Preset

__all__ = ["STUDY", "PhiCoverage", "Size", "by_document", "by_token"]

Data: TypeAlias = dict[str, Tensor]
Meat: TypeAlias = Callable[[PerturbedText, Tensor, Data], Tensor]
"""``meat(design, theta (p,), data)`` is the assumed variance of psi of a document, (p, p)."""

# The solver's tolerance in standard errors: far below what a coverage shows.
_TOLERANCE = 1e-4
_BATCH = 10


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs.

    Attributes
    ----------
    documents : tuple of int
        Numbers of documents; claims are judged at the largest.
    replicates : mapping of str to int
        Replicates of each design.
    coverage_width, ratio_width : float
        Widest interval of a coverage, and of a ratio of standard errors, that can support a claim.
    """

    documents: tuple[int, ...]
    replicates: Mapping[str, int]
    coverage_width: float
    ratio_width: float


def _presets() -> dict[Preset, Size]:
    quick = {"one_scale": 100, "two_scales": 60, "styles": 100, "plug_in": 24}
    full = {"one_scale": 600, "two_scales": 300, "styles": 600, "plug_in": 100}
    return {Preset.QUICK: Size((60,), quick, 0.2, 0.5), Preset.FULL: Size((40, 160), full, 0.08, 0.25)}


def _designs() -> dict[str, PerturbedText]:
    kinds = (0.0, -0.3)
    return {
        "one_scale": PerturbedText(),
        "two_scales": PerturbedText(truth=kinds, noise=kinds, stream="kinds"),
        "styles": PerturbedText(truth=(PSEUDO_TRUE,), style=0.8, length=16, stream="styles"),
        "plug_in": PerturbedText(score=plug_in),
    }


def by_document(design: PerturbedText, theta: Tensor, data: Data) -> Tensor:
    """Variance of psi of independent documents, rows of psi: CR1 with documents as clusters."""
    n = len(data["labels"])
    return eeqs.meat(design.psi, theta, data, eeqs.Cluster(torch.arange(n)))


def by_token(design: PerturbedText, theta: Tensor, data: Data) -> Tensor:
    """Variance of psi of a document were its tokens independent."""
    values = design.token_values(theta, data)
    return values.mT @ values / len(data["labels"])


def _meats() -> dict[str, Meat]:
    return {"document": by_document, "token": by_token}


@dataclass(frozen=True)
class PhiCoverage:
    """Coverage of log-scales of noise in a frozen transformer, by two covariances.

    A cell is a design with ``n`` documents. ``parameter`` names the log-scale and the covariance of its standard error,
    as ``log_scale:document``; a replicate gives the same estimate with each covariance. The designs ``one_scale`` and
    ``plug_in`` share their documents and draws.

    Attributes
    ----------
    meats : mapping of str to callable
        The assumed variance of psi of each covariance.
    """

    name: str = "phi_coverage"
    summary: str = "Coverage of noise scales of a frozen language model by document-clustered intervals (LM)"
    sizes: Mapping[Preset, Size] = field(default_factory=_presets)
    designs: Mapping[str, PerturbedText] = field(default_factory=_designs)
    meats: Mapping[str, Meat] = field(default_factory=_meats)

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the grid of a preset."""
        size = self.sizes[preset]
        return [self._cell(name, n, size.replicates[name]) for name in size.replicates for n in size.documents]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Simulate documents and estimate phi, one replicate at a time."""
        design, n = self.designs[str(cell.parameters["design"])], int(cell.parameters["n"])
        pairs = zip(replicates, seeds, strict=True)
        parts = [self._replicate(design, design.sample(n, torch_generator(seed)), number) for number, seed in pairs]
        return pd.concat(parts, ignore_index=True)

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge claim LM."""
        size = self.sizes[preset]
        return claims.judge(table, coverage_width=size.coverage_width, ratio_width=size.ratio_width)

    def _replicate(self, design: PerturbedText, data: Data, number: int) -> pd.DataFrame:
        psi, n = design.psi, len(data["labels"])
        solution = eeqs.solve(psi, data, tolerance=_TOLERANCE)
        theta, names = solution.theta, psi.names
        bread = eeqs.bread(psi, theta, data) if solution.jacobian is None else solution.jacobian
        parts = []
        for kind, meat in self.meats.items():
            variance = _sandwich(bread, meat(design, theta, data), n)
            parts.append(
                pd.DataFrame(
                    {
                        "replicate": number,
                        "parameter": [f"{name}:{kind}" for name in names],
                        "truth": design.truth,
                        "estimate": theta.numpy(),
                        "se": variance.diagonal().sqrt().numpy(),
                        "status": solution.status.label,
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)

    def _cell(self, name: str, n: int, replicates: int) -> Cell:
        design = self.designs[name]
        cost = float(n * design.length * len(design.truth))
        return Cell(
            self.name,
            {"design": name, "n": n},
            replicates,
            batch=min(replicates, _BATCH),
            stream=f"{design.stream},n={n}",
            cost=cost,
        )


def _sandwich(bread: Tensor, meat: Tensor, n: int) -> Tensor:
    """Covariance (p, p), or NaN where the bread is singular, which a replicate without a root may have."""
    try:
        return eeqs.sandwich(bread, meat, n)
    except eeqs.SingularBreadError:
        return torch.full_like(bread, torch.nan)


STUDY = PhiCoverage()
