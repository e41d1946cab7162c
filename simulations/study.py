"""What a study is: cells, a function that runs a batch of replicates of one, verdicts on the finished table."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from math import isfinite
from pkgutil import iter_modules
from typing import Protocol

import pandas as pd
from numpy.random import SeedSequence

VERDICT_COLUMNS = (
    "claim", "regime", "quantity", "predicted", "estimate", "low", "high", "monte_carlo_se", "verdict",
)  # fmt: skip


class Preset(StrEnum):
    """Size of a study.

    ``quick`` shows the verdicts in minutes, ``full`` with narrow intervals. Studies of language models have a size for
    two cores and one for a GPU instead, ``cpu`` and ``gpu``.
    """

    QUICK = "quick"
    FULL = "full"
    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True)
class Cell:
    """One setting of a study's factors, and how many replicates to run there.

    Parameters
    ----------
    study : str
        Name of the study.
    parameters : mapping of str to str, int or float
        Level of each factor; becomes columns of the table.
    replicates : int
        Number of independent replicates.
    batch : int
        Replicates handed to `Study.run` at once.
    stream : str, optional
        Name of the random stream, by default `key`. Cells that share one see the same replicates (common
        random numbers).
    cost : float
        Expected time a replicate, in any unit common to the study: orders the batches and weighs progress.
    """

    study: str
    parameters: Mapping[str, str | int | float]
    replicates: int
    batch: int
    stream: str = ""
    cost: float = field(default=1.0, compare=False)

    def __post_init__(self) -> None:
        for name, value in self.parameters.items():
            if type(value) not in (str, int, float):
                raise TypeError(f"cell parameter {name!r} is a {type(value).__name__}: use str, int or float")
            if isinstance(value, float) and not isfinite(value):
                raise ValueError(f"cell parameter {name!r} is {value}: use a finite number")
        if self.replicates < 1 or self.batch < 1:
            raise ValueError(f"cell {self.key}: replicates and batch are at least 1")
        if not (isfinite(self.cost) and self.cost > 0):
            raise ValueError(f"cell {self.key}: cost is {self.cost}, use a positive number")
        if not re.fullmatch(r"[A-Za-z0-9_.+=,-]{1,200}", self.key):
            raise ValueError(f"cell key {self.key!r} names files: use letters, digits and _ . + - only, at most 200")
        object.__setattr__(self, "parameters", dict(self.parameters))
        object.__setattr__(self, "stream", self.stream or self.key)

    @property
    def key(self) -> str:
        """Readable name, unique in the study and safe as a file name: ``estimator=exact,n=250``."""
        return ",".join(f"{name}={value}" for name, value in self.parameters.items())

    def batches(self) -> Iterator["Batch"]:
        """Split the replicates into consecutive batches."""
        for start in range(0, self.replicates, self.batch):
            yield Batch(self, range(start, min(start + self.batch, self.replicates)))


@dataclass(frozen=True)
class Batch:
    """Consecutive replicates of one cell: what a worker runs at once and what one part stores."""

    cell: Cell
    replicates: range

    @property
    def name(self) -> str:
        """Name of the batch in file names and messages."""
        return f"{self.cell.key}.{self.replicates.start:07d}-{self.replicates.stop:07d}"

    @property
    def cost(self) -> float:
        """Expected time of the whole batch, in the unit of `Cell.cost`."""
        return self.cell.cost * len(self.replicates)


class Study(Protocol):
    """A simulation study: a frozen dataclass in a module of its own, which exposes an instance as ``STUDY``."""

    @property
    def name(self) -> str:
        """Name on the command line; equals the name of the module."""

    @property
    def summary(self) -> str:
        """One line for ``python -m simulations list``."""

    def cells(self, preset: Preset) -> list[Cell]:
        """Return the cells of a preset, in the order the table lists them."""

    def run(self, cell: Cell, replicates: Sequence[int], seeds: list[SeedSequence]) -> pd.DataFrame:
        """Run a batch of replicates of one cell.

        Parameters
        ----------
        cell : Cell
            The setting.
        replicates : sequence of int
            Replicate numbers, consecutive.
        seeds : list of numpy.random.SeedSequence
            One stream a replicate, the only source of randomness.

        Returns
        -------
        pandas.DataFrame
            One row a replicate and parameter, columns ``replicate, parameter, truth, estimate, se, status``.
            The caller adds the other columns of the table.
        """

    def verdicts(self, table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
        """Judge the study's claims on the finished table; columns `VERDICT_COLUMNS`."""


def presets(study: Study) -> tuple[Preset, ...]:
    """Sizes that a study has: those it names as ``presets``, by default quick and full."""
    return getattr(study, "presets", (Preset.QUICK, Preset.FULL))


def check_cells(study: str, cells: Sequence[Cell]) -> None:
    """Refuse a list of cells that cannot share one table.

    Raises
    ------
    ValueError
        No cells, a cell of another study, a repeated key, or parameters that differ in name or type.
    """
    if not cells:
        raise ValueError(f"study {study!r} has no cells")
    types = {name: type(value) for name, value in cells[0].parameters.items()}
    for cell in cells:
        if cell.study != study:
            raise ValueError(f"cell {cell.key} belongs to study {cell.study!r}, not {study!r}")
        if {name: type(value) for name, value in cell.parameters.items()} != types:
            raise ValueError(
                f"cell {cell.key} and cell {cells[0].key} differ in the names or types of their parameters: "
                "give every cell the same ones"
            )
    # File systems may fold case, so keys that differ in case only would share a file.
    key, count = Counter(cell.key.lower() for cell in cells).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} cells share the key {key!r}: give each its own parameters")


def discover(package: str = "simulations.studies") -> dict[str, Study]:
    """Find the studies of a package: every module of its folder, by name.

    Raises
    ------
    ValueError
        A module without ``STUDY``, or whose study has another name.
    """
    studies: dict[str, Study] = {}
    for info in iter_modules(import_module(package).__path__):
        study = getattr(import_module(f"{package}.{info.name}"), "STUDY", None)
        if study is None:
            raise ValueError(f"module {package}.{info.name} exposes no STUDY: add one, or move it out of the folder")
        if study.name != info.name:
            raise ValueError(f"module {package}.{info.name} holds study {study.name!r}: give both the same name")
        studies[info.name] = study
    return studies
