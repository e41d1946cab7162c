"""The report of a finished study: measures and verdicts, from the stored table alone."""

from dataclasses import dataclass
from operator import methodcaller
from typing import Protocol, runtime_checkable

import pandas as pd
from rich.console import Console
from rich.table import Table

from simulations.files import write_atomically
from simulations.measures import measures
from simulations.store import Store
from simulations.study import Preset, Study
from simulations.verdicts import FAILS, HOLDS, check_verdicts

SHOWN = ("failed", "bias", "rmse", "empirical_se", "model_se_relative_error", "coverage")


@runtime_checkable
class Summarised(Protocol):
    """A study whose table has rows, such as those of single documents, that are not for the table of measures."""

    def summarised(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows that measures are made of."""


@dataclass(frozen=True)
class Report:
    """Measures and verdicts of a study.

    Parameters
    ----------
    store : Store
        Where the table is.
    measures : pandas.DataFrame
        See `simulations.measures.measures`.
    verdicts : pandas.DataFrame
        Columns `simulations.study.VERDICT_COLUMNS`.
    minutes : float
        Core minutes that the replicates took.
    """

    store: Store
    measures: pd.DataFrame
    verdicts: pd.DataFrame
    minutes: float

    @classmethod
    def of(cls, study: Study, store: Store) -> "Report":
        """Summarise and judge the table of a store."""
        table = store.table()
        verdicts = study.verdicts(table, Preset(store.plan.preset))
        check_verdicts(verdicts)
        factors = list(store.plan.cells[0].parameters)
        seconds = table.drop_duplicates([*factors, "replicate"])["seconds"].sum()
        summarised = study.summarised(table) if isinstance(study, Summarised) else table
        return cls(store, measures(summarised), verdicts, float(seconds) / 60)

    @property
    def failed(self) -> bool:
        """Whether some claim fails."""
        return bool((self.verdicts["verdict"] == FAILS).any())

    def save(self) -> None:
        """Write ``measures.csv`` and ``verdicts.csv``."""
        for name, frame in (("measures", self.measures), ("verdicts", self.verdicts)):
            content = frame.to_csv(index=False).encode()
            write_atomically(self.store.directory / f"{name}.csv", methodcaller("write", content))

    def show(self, console: Console) -> None:
        """Print the main measures, each with its Monte Carlo standard error, and the verdicts."""
        console.print(table("Measures (Monte Carlo standard error)", summary(self.measures)))
        console.print(table("Verdicts", self.verdicts))


def joined(reports: list[Report]) -> pd.DataFrame:
    """One verdict table of several studies, in the order of the claims, with the core minutes of each row's study."""
    frames = [report.verdicts.assign(minutes=report.minutes, study=report.store.plan.study) for report in reports]
    rows = pd.concat(frames, ignore_index=True)
    order = rows["claim"].str.extract(r"(\d+)", expand=False).astype(float)
    columns = ["claim", "study", *rows.columns.drop(["claim", "study", "verdict", "minutes"]), "minutes", "verdict"]
    return rows.loc[order.sort_values(kind="stable").index, columns].reset_index(drop=True)


def summary(long: pd.DataFrame) -> pd.DataFrame:
    """Lay the main measures side by side, one row a group, as ``value (mcse)``."""
    shown = long[long["measure"].isin(SHOWN)]
    keys = [name for name in long.columns if name not in ("measure", "value", "mcse", "n_used")]
    text = [f"{number(v)} ({number(e, 2)})" for v, e in zip(shown["value"], shown["mcse"], strict=True)]
    wide = shown.assign(text=text).pivot_table("text", keys, "measure", aggfunc="first", sort=False)
    return wide[list(SHOWN)].reset_index()


def table(title: str, frame: pd.DataFrame) -> Table:
    """Lay a frame out for a console; rows of a verdict table take the colour of the verdict."""
    laid = Table(*map(str, frame.columns), title=title, title_justify="left")
    styles = {HOLDS: "green", FAILS: "bold red"}
    for row in frame.map(number).itertuples(index=False):
        laid.add_row(*map(str, row), style=styles.get(str(row[-1])))
    return laid


def number(value: object, digits: int = 4) -> str:
    """Write a value with `digits` significant digits where it is a float."""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
