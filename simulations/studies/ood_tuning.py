"""Settings of the methods of the study ``ood``, chosen on in-domain validation text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd
from numpy.random import SeedSequence

from simulations.designs.ood_methods import METHODS, at
from simulations.designs.ood_training import Size, validated
from simulations.schema import CONVERGED
from simulations.studies.ood import STUDY as OOD
from simulations.study import VERDICT_COLUMNS, Cell, Preset
from simulations.verdicts import COULD_NOT_TELL, HOLDS

__all__ = ["STUDY", "OODTuning"]


@dataclass(frozen=True)
class OODTuning:
    """Candidates of every method that has any, three each, in the regime of little text under equal updates.

    Learned perturbations of a split sample have none: they are to find their scale by themselves. The learning rate is
    the candidate of plain training, and what it chooses serves all methods.

    Attributes
    ----------
    sizes : mapping of Preset to Size
    device : str
        Where models are trained.
    """

    name: str = "ood_tuning"
    summary: str = "settings of the methods of ood, chosen on in-domain validation text"
    sizes: Mapping[Preset, Size] = field(default_factory=lambda: {p: found[0] for p, found in OOD.sizes.items()})
    device: str = "cpu"

    @property
    def presets(self) -> tuple[Preset, ...]:
        """Sizes of the study."""
        return tuple(self.sizes)

    def cells(self, preset: Preset) -> list[Cell]:
        """Return a cell a method and candidate."""
        regime = self.sizes[preset].regime.name
        return [
            Cell(self.name, {"regime": regime, "method": name, "candidate": value}, 1, 1, stream=regime)
            for name, method in METHODS.items()
            for value in method.candidates
        ]

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Train a candidate and validate it."""
        size = next(size for size in self.sizes.values() if size.regime.name == cell.parameters["regime"])
        name, value = str(cell.parameters["method"]), float(cell.parameters["candidate"])
        if METHODS[name].setting == "learning rate":
            size = replace(size, settings=replace(size.settings, learning_rate=value))
        method = at(name, size.inference_draws, value)
        best = [validated(size, method, int(seed.generate_state(1)[0]) >> 1, self.device) for seed in seeds]
        rows = {"replicate": list(replicates), "parameter": "validation", "truth": 0.0, "estimate": best}
        return pd.DataFrame(rows).assign(se=float("nan"), status=CONVERGED)

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Say which candidate won, and whether it is the one that the study ``ood`` uses."""
        del preset
        rows = []
        for name, found in table.groupby("method", sort=False):
            best = found.sort_values("estimate").iloc[0]
            chosen, won = METHODS[str(name)].chosen, float(best["candidate"])
            quantity = f"{METHODS[str(name)].setting} with the lowest bits a byte on validation text"
            verdict = HOLDS if chosen == won else COULD_NOT_TELL
            rows.append(("LM", str(name), quantity, chosen, won, won, won, float("nan"), verdict))
        return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))


STUDY = OODTuning()
