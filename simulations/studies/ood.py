"""Language models outside their training domain: learned perturbations against plain training and other baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from numpy.random import SeedSequence

from eeqs.llm.methods import Method
from eeqs.llm.training import Settings
from simulations.claims import ood as claims
from simulations.designs.ood_bases import GPT2_SMALL, STORIES
from simulations.designs.ood_methods import COMPARED, LEARNING_RATE, MAIN_METHODS, METHODS, SCAN_METHODS, TWO_CORES, at
from simulations.designs.ood_regime import Regime
from simulations.designs.ood_rows import single_documents
from simulations.designs.ood_scan import ScanRegime
from simulations.designs.ood_text_regime import TextRegime
from simulations.designs.ood_training import Size, trained
from simulations.schema import CONVERGED
from simulations.study import Cell, Preset

__all__ = ["STUDY", "OODStudy"]


_TEXT = Settings(batch_rows=4, learning_rate=LEARNING_RATE, warmup=10, validate_every=25, patience=4)
_SCAN = Settings(batch_rows=32, learning_rate=3e-3, warmup=50, validate_every=100, patience=5)
_LARGE = Settings(
    batch_rows=32, learning_rate=3e-4, warmup=100, validate_every=100, patience=5, weight_decay=0.01, bfloat16=True
)
COMPUTE = 4
"""Passes an update that equal compute allows: those of a split sample with one kernel and two draws, then a kernel."""


def _text(regime: Regime, settings: Settings, seeds: int, updates: int, methods: Sequence[str] = COMPARED) -> Size:
    return Size(regime, tuple(methods), seeds, settings, updates, COMPUTE * updates)


def _scan(name: str, split: str, seeds: int, updates: int) -> Size:
    return Size(ScanRegime(name, split), SCAN_METHODS, seeds, _SCAN, updates, COMPUTE * updates)


def _presets() -> dict[Preset, tuple[Size, ...]]:
    return {
        Preset.CPU: (
            _text(TextRegime("little_text", STORIES, 120_000), _TEXT, 3, 250, TWO_CORES),
            _text(TextRegime("all_text", STORIES, None), _TEXT, 3, 120, MAIN_METHODS),
            _scan("scan_length", "length", 3, 1000),
            _scan("scan_jump", "addprim_jump", 3, 1000),
        ),
        Preset.GPU: (
            _text(TextRegime("gpt2_little_text", GPT2_SMALL, 120_000), _LARGE, 5, 1000),
            _text(TextRegime("gpt2_all_text", GPT2_SMALL, None), _LARGE, 5, 4000),
            _scan("gpu_scan_length", "length", 5, 10_000),
            _scan("gpu_scan_jump", "addprim_jump", 5, 10_000),
        ),
    }


@dataclass(frozen=True)
class OODStudy:
    """Methods of training on in-domain text, tested on other domains.

    A cell is a method in a regime, a replicate a training seed. It trains for a number of updates, is tested, goes on
    to the number of passes, and is tested again; at both times with the weights that were best on in-domain validation
    text so far. All methods see the same seeds.

    Attributes
    ----------
    sizes : mapping of Preset to tuple of Size
    device : str
        Where models are trained.
    """

    name: str = "ood"
    summary: str = "language models out of domain: learned perturbations and baselines, on text and on SCAN"
    sizes: Mapping[Preset, tuple[Size, ...]] = field(default_factory=_presets)
    device: str = "cpu"

    @property
    def presets(self) -> tuple[Preset, ...]:
        """Sizes of the study."""
        return tuple(self.sizes)

    def cells(self, preset: Preset) -> list[Cell]:
        """Return a cell a method and regime."""
        return [
            Cell(
                self.name,
                {"regime": size.regime.name, "method": method},
                size.seeds,
                1,
                stream=size.regime.name,
                cost=float(METHODS[method].passes + 1),
            )
            for size in self.sizes[preset]
            for method in size.methods
        ]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Train and test a method, once a seed."""
        # The names of regimes tell presets apart, too.
        size = next(s for found in self.sizes.values() for s in found if s.regime.name == cell.parameters["regime"])
        method = at(str(cell.parameters["method"]), size.inference_draws)
        parts = []
        for replicate, sequence in zip(replicates, seeds, strict=True):
            rows = self.rows(size, method, int(sequence.generate_state(1)[0]) >> 1)
            frame = pd.DataFrame(rows, columns=["parameter", "estimate", "se"])
            parts.append(frame.assign(replicate=replicate, truth=0.0, status=CONVERGED))
        return pd.concat(parts, ignore_index=True)[["replicate", "parameter", "truth", "estimate", "se", "status"]]

    def rows(self, size: Size, method: Method, seed: int) -> list[tuple[str, float, float]]:
        """Train and test a method with one seed: rows (parameter, estimate, se)."""
        return trained(size, method, seed, self.device)

    def summarised(self, table: pd.DataFrame) -> pd.DataFrame:
        """Leave out the rows of single documents."""
        return table[~single_documents(table)]

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Compare learned perturbations with the baselines, outside and inside the domain."""
        domains = {size.regime.name: tuple(size.regime.domains) for size in self.sizes[preset]}
        return claims.judge(table, domains)


STUDY = OODStudy()
