"""A stored study as the figures see it: its table, its measures and its verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from simulations.measures import measures
from simulations.store import Store
from simulations.study import Preset

__all__ = ["Results"]


@dataclass(frozen=True)
class Results:
    """Table of a finished run.

    Attributes
    ----------
    study : str
        Name of the study.
    preset : Preset
        Which size of the study ran.
    table : DataFrame
        The stored table, see `simulations`.
    """

    study: str
    preset: Preset
    table: pd.DataFrame

    @classmethod
    def read(cls, directory: Path) -> Results:
        """Read a results directory.

        Raises
        ------
        simulations.manifest.ResultsError
            The directory holds no complete run.
        """
        store = Store.read(directory)
        return cls(store.plan.study, Preset(store.plan.preset), store.table())

    @cached_property
    def measures(self) -> pd.DataFrame:
        """Measures of every cell, see `simulations.measures.measures`."""
        return measures(self.table)

    def measure(self, name: str, **levels: str | float) -> pd.DataFrame:
        """Values of one measure where the given columns have the given levels."""
        return where(self.measures[self.measures["measure"] == name], levels)

    def rows(self, **levels: str | float) -> pd.DataFrame:
        """Replicates where the given columns have the given levels."""
        return where(self.table, levels)


def where(frame: pd.DataFrame, levels: dict[str, str | float]) -> pd.DataFrame:
    """Rows where the given columns have the given levels."""
    for column, level in levels.items():
        frame = frame[frame[column] == level]
    return frame
