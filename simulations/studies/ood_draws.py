"""How many draws at inference a perturbed language model needs, inside and outside its training domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from eeqs.llm.methods import Method
from simulations.claims import ood_draws as claims
from simulations.designs.ood_methods import DRAWN_METHODS
from simulations.designs.ood_training import Size, at_draws
from simulations.studies.ood import STUDY as OOD
from simulations.studies.ood import OODStudy
from simulations.study import Preset

__all__ = ["STUDY", "OODDraws"]


def _sizes() -> Mapping[Preset, tuple[Size, ...]]:
    """Little text: with the seeds of ``ood``, the models are those of ``ood`` under equal updates."""
    return {preset: (replace(found[0], methods=DRAWN_METHODS),) for preset, found in OOD.sizes.items()}


@dataclass(frozen=True)
class OODDraws(OODStudy):
    """Models of ``ood``, tested with several numbers of draws at inference.

    Attributes
    ----------
    sizes, device
        As in `OODStudy`.
    draws : tuple of int
        Numbers of draws, ascending.
    """

    name: str = "ood_draws"
    summary: str = "bits a byte in and out of domain against the number of draws at inference"
    sizes: Mapping[Preset, tuple[Size, ...]] = field(default_factory=_sizes)
    draws: tuple[int, ...] = (1, 2, 6, 24)

    def rows(self, size: Size, method: Method, seed: int) -> list[tuple[str, float, float]]:
        """Train a method with one seed and test it with every number of draws: rows (parameter, estimate, se)."""
        return at_draws(size, method, seed, self.device, self.draws)

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge that more draws do not hurt."""
        del preset
        return claims.judge(table, self.draws)


STUDY = OODDraws()
