"""A stored study as the figures see it: its table, its measures, and what its preset fixed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from simulations.measures import measures
from simulations.store import Store
from simulations.studies.rates import ROOT, STUDY, Size
from simulations.study import Preset

__all__ = ["Results"]


@dataclass(frozen=True)
class Results:
    """Table of a finished run of the study ``rates``.

    Attributes
    ----------
    table : DataFrame
        The stored table.
    size : Size
        What the preset ran.
    """

    table: pd.DataFrame
    size: Size

    symbols = {"log_scale": r"log-scale $\phi$"}  # noqa: RUF012 - read only

    @classmethod
    def read(cls, directory: Path) -> Results:
        """Read a results directory.

        Raises
        ------
        ValueError
            The directory holds no complete run of ``rates``.
        """
        store = Store.read(directory)
        if store.plan.study != STUDY.name:
            raise ValueError(f"{directory} holds the study {store.plan.study!r}; these figures show {STUDY.name!r}.")
        return cls(store.table(), STUDY.size(Preset(store.plan.preset)))

    @property
    def parameters(self) -> list[str]:
        """Parameter names."""
        return sorted(self.table["parameter"].unique())

    @property
    def draws(self) -> tuple[int, ...]:
        """Numbers of draws of the grid."""
        return STUDY.draws

    @property
    def sizes(self) -> list[float]:
        """Sample sizes of the grid."""
        return [float(n) for n in self.size.sizes]

    @property
    def burn_in(self) -> int:
        """Sample size from which slopes are fitted."""
        return self.size.burn_in

    @property
    def bias_size(self) -> int:
        """Sample size at which the number of draws varies."""
        return self.size.bias_size

    @cached_property
    def _measures(self) -> pd.DataFrame:
        return measures(self.table[self.table["quantity"] == ROOT])

    def measure(self, name: str, **levels: str | int) -> pd.DataFrame:
        """Values of one measure where the given columns have the given levels."""
        return _where(self._measures[self._measures["measure"] == name], levels)

    def roots(self, **levels: str | int) -> pd.DataFrame:
        """Replicates where the given columns have the given levels."""
        return _where(self.table[self.table["quantity"] == ROOT], levels)


def _where(frame: pd.DataFrame, levels: dict[str, str | int]) -> pd.DataFrame:
    for column, level in levels.items():
        frame = frame[frame[column] == level]
    return frame
