"""Every study in turn, and one table of what the theory predicts against what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from pathlib import Path

import pandas as pd
from rich.console import Console

from simulations import runner
from simulations.executors import Execute
from simulations.files import write_atomically
from simulations.manifest import Plan, ResultsError
from simulations.progress import progress
from simulations.report import Report, joined, number, table
from simulations.store import Store, open_store
from simulations.study import Preset, Study

__all__ = ["Verification", "complete", "verify"]

_SHOWN = ("claim", "regime", "quantity", "predicted", "measured [interval]", "mcse", "minutes", "verdict")


@dataclass(frozen=True)
class Verification:
    """Outcome of a verification.

    Parameters
    ----------
    reports : list of Report
        One a study that ran.
    errors : dict of str to str
        Message by study that could not.
    """

    reports: list[Report]
    errors: dict[str, str]

    def table(self) -> pd.DataFrame:
        """Verdicts of all studies, in the order of the claims."""
        return joined(self.reports)

    @property
    def exit_code(self) -> int:
        """2 where a study could not run, 1 where a claim fails, else 0."""
        return 2 if self.errors else int(any(report.failed for report in self.reports))

    def show(self, console: Console) -> None:
        """Print the table of verdicts, the time and the errors."""
        if self.reports:
            rows = self.table()
            counts = ", ".join(f"{count} {name}" for name, count in rows["verdict"].value_counts().items())
            console.print(table("Claims against simulation", _short(rows)))
            total = sum(report.minutes for report in self.reports)
            console.print(f"{counts}; {total:.1f} core minutes in {len(self.reports)} studies", highlight=False)
        for study, message in self.errors.items():
            console.print(f"error: {study}: {message}", style="red", markup=False, highlight=False)


def verify(
    studies: Iterable[Study], preset: Preset, root: Path, *, seed: int, execute: Execute, console: Console
) -> Verification:
    """Run what is missing of each study and judge all claims.

    Parameters
    ----------
    studies : iterable of Study
        The studies.
    preset : Preset
        Size of each.
    root : Path
        Holds one results directory a study; a run that is there is continued. ``verdicts.csv`` is written to it.
    seed : int
        Seed of every study.
    execute : callable
        From `simulations.executors`.
    console : rich.console.Console
        Where to report progress.

    Returns
    -------
    Verification
        A study that fails to run is an error in it; the others run all the same.
    """
    reports, errors = [], {}
    for study in studies:
        try:
            plan = Plan(study.name, preset, seed, study.cells(preset))
            with open_store(root / study.name, plan, resume=True) as store:
                complete(study, store, execute, console)
                report = Report.of(study, store)
                report.save()
            reports.append(report)
        except (ResultsError, runner.BatchError) as error:
            errors[study.name] = str(error)
    done = Verification(reports, errors)
    if reports:
        content = done.table().to_csv(index=False).encode()
        write_atomically(root / "verdicts.csv", methodcaller("write", content))
    return done


def complete(study: Study, store: Store, execute: Execute, console: Console) -> None:
    """Run what a store misses, showing progress, and finish it."""
    batches = store.missing()
    if batches:
        with progress(study.name, batches, console) as on_done:
            runner.run(study, store, batches=batches, execute=execute, on_done=on_done)
    if batches or not store.manifest.digest:
        store.finish()


def _short(rows: pd.DataFrame) -> pd.DataFrame:
    short = partial(number, digits=3)
    ends = zip(rows["estimate"], rows["low"], rows["high"], strict=True)
    shown = rows.assign(
        mcse=rows["monte_carlo_se"].map(partial(number, digits=2)), minutes=rows["minutes"].map("{:.1f}".format)
    )
    shown["measured [interval]"] = [f"{short(value)} [{short(low)}, {short(high)}]" for value, low, high in ends]
    return shown[list(_SHOWN)]
