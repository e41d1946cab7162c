"""The report of a finished study: measures and verdicts, from the stored table alone."""

from dataclasses import dataclass
from operator import methodcaller

import pandas as pd
from rich.console import Console
from rich.table import Table

from simulations.measures import measures
from simulations.store import Store, write_atomically
from simulations.study import Preset, Study
from simulations.verdicts import FAILS, HOLDS, check_verdicts

SHOWN = ("failed", "bias", "rmse", "empirical_se", "model_se_relative_error", "coverage")


@dataclass(frozen=True)
class Report:
    """Measures and verdicts of a study.

    Parameters
    ----------
    measures : pandas.DataFrame
        See `simulations.measures.measures`.
    verdicts : pandas.DataFrame
        Columns `simulations.study.VERDICT_COLUMNS`.
    """

    measures: pd.DataFrame
    verdicts: pd.DataFrame

    @classmethod
    def of(cls, study: Study, store: Store) -> "Report":
        """Summarise and judge the table of a store."""
        table = store.table()
        verdicts = study.verdicts(table, Preset(store.plan.preset))
        check_verdicts(verdicts)
        return cls(measures(table), verdicts)

    @property
    def failed(self) -> bool:
        """Whether some claim fails."""
        return bool((self.verdicts["verdict"] == FAILS).any())

    def save(self, store: Store) -> None:
        """Write ``measures.csv`` and ``verdicts.csv``."""
        for name, frame in (("measures", self.measures), ("verdicts", self.verdicts)):
            content = frame.to_csv(index=False).encode()
            write_atomically(store.directory / f"{name}.csv", methodcaller("write", content))

    def show(self, console: Console) -> None:
        """Print the main measures, each with its Monte Carlo standard error, and the verdicts."""
        console.print(_table("Measures (Monte Carlo standard error)", summary(self.measures)))
        console.print(_table("Verdicts", self.verdicts.map(_number)))


def summary(long: pd.DataFrame) -> pd.DataFrame:
    """Lay the main measures side by side, one row a group, as ``value (mcse)``."""
    shown = long[long["measure"].isin(SHOWN)]
    keys = [name for name in long.columns if name not in ("measure", "value", "mcse", "n_used")]
    text = [f"{_number(v)} ({_number(e, 2)})" for v, e in zip(shown["value"], shown["mcse"], strict=True)]
    wide = shown.assign(text=text).pivot_table("text", keys, "measure", aggfunc="first", sort=False)
    return wide[list(SHOWN)].reset_index()


def _table(title: str, frame: pd.DataFrame) -> Table:
    table = Table(*map(str, frame.columns), title=title, title_justify="left")
    styles = {HOLDS: "green", FAILS: "bold red"}
    for row in frame.itertuples(index=False):
        table.add_row(*map(str, row), style=styles.get(str(row[-1])))
    return table


def _number(value: object, digits: int = 4) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
