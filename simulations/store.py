"""A results directory that survives a kill at any moment: a manifest, one part a batch, then one table."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pyarrow as pa

from simulations.manifest import Manifest, Plan, ResultsError, provenance
from simulations.schema import check_rows, columns
from simulations.study import Batch, check_cells

TEMPORARY = ".tmp"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that at every moment `path` holds the old content or the new, whole and on disk.

    Parameters
    ----------
    path : Path
        Destination; its directory exists.
    write : callable
        Writes the content to the binary file it is given.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # without this the new name may be lost with the power
    finally:
        os.close(directory)


@dataclass(frozen=True)
class Store:
    """A results directory. Open an existing one with `Store.read`, start or resume one with `open_store`.

    Parameters
    ----------
    directory : Path
        The directory.
    manifest : Manifest
        Content of its ``manifest.json``.
    """

    directory: Path
    manifest: Manifest

    @classmethod
    def read(cls, directory: Path) -> "Store":
        """Open a results directory to read it.

        Raises
        ------
        ResultsError
            The directory holds no manifest, or one that is damaged or of another schema version.
        """
        path = directory / "manifest.json"
        if not path.exists():
            raise ResultsError(f"{directory} is not a results directory: it holds no manifest.json")
        return cls(directory, Manifest.read(path))

    @property
    def plan(self) -> Plan:
        """What the directory's run computes."""
        return self.manifest.plan

    @property
    def _table(self) -> Path:
        return self.directory / "table.parquet"

    def _part(self, batch: Batch) -> Path:
        return self.directory / "parts" / f"{batch.name}.parquet"

    def _batches(self) -> Iterator[Batch]:
        for cell in self.plan.cells:
            yield from cell.batches()

    def missing(self) -> list[Batch]:
        """Return the batches still to run, in the order of the table."""
        if self._table.exists():
            return []
        return [batch for batch in self._batches() if not self._part(batch).exists()]

    def write(self, batch: Batch, rows: pd.DataFrame) -> None:
        """Check the rows of a batch and store them.

        Raises
        ------
        ValueError, TypeError
            Rows that violate the schema, see `simulations.schema.check_rows`.
        """
        check_rows(rows, batch)
        write_atomically(self._part(batch), partial(_write_parquet, rows))

    def finish(self) -> pd.DataFrame:
        """Join all parts into ``table.parquet`` and return the table."""
        table = self.table()
        write_atomically(self._table, partial(_write_parquet, table))
        return table

    def table(self) -> pd.DataFrame:
        """Read the whole table, sorted by cell, replicate and parameter.

        Raises
        ------
        ResultsError
            Batches are missing, or a file is damaged or holds other rows than its name says.
        """
        if self._table.exists():
            table = _read_parquet(self._table)
            self._check_complete(table)
            return table
        missing = self.missing()
        if missing:
            raise ResultsError(
                f"{self.directory} is incomplete: {len(missing)} of {len(list(self._batches()))} batches are "
                f"missing, first {missing[0].name}; run the study again with --resume"
            )
        return pd.concat([self.read_part(batch) for batch in self._batches()], ignore_index=True)

    def read_part(self, batch: Batch) -> pd.DataFrame:
        """Read and check the rows of one stored batch.

        Raises
        ------
        ResultsError
            The file is damaged or holds other rows than its name says.
        """
        path = self._part(batch)
        rows = _read_parquet(path)
        try:
            check_rows(rows, batch)
        except (ValueError, TypeError) as error:
            raise ResultsError(_damaged(path, error)) from error
        return rows

    def check_parts(self) -> None:
        """Read every stored part, so that damage is reported when a run is resumed and not at its end."""
        for batch in self._batches():
            if self._part(batch).exists():
                self.read_part(batch)

    def _check_complete(self, table: pd.DataFrame) -> None:
        factors = [*self.plan.cells[0].parameters, "replicate"]
        expected = pd.DataFrame(
            [{**cell.parameters, "replicate": i} for cell in self.plan.cells for i in range(cell.replicates)]
        )
        known = list(table.columns) == columns(next(self._batches()))
        if not known or not table[factors].drop_duplicates().reset_index(drop=True).equals(expected):
            raise ResultsError(_damaged(self._table, "it does not hold the cells and replicates of the manifest"))


@contextmanager
def open_store(directory: Path, plan: Plan, *, resume: bool = False) -> Iterator[Store]:
    """Start or resume a run in a directory, and keep other runs out of it meanwhile.

    Parameters
    ----------
    directory : Path
        Made if need be. A run killed before its manifest was written left nothing to resume: it starts anew.
    plan : Plan
        What to compute.
    resume : bool
        Continue a run already there.

    Yields
    ------
    Store
        The directory, its manifest extended by this run.

    Raises
    ------
    ValueError
        Cells that cannot share a table.
    ResultsError
        A directory that is in use by a run, holds a run although `resume` is
        False, holds another plan than the one to resume, or holds anything but a run.
    """
    check_cells(plan.study, plan.cells)
    columns(next(plan.cells[0].batches()))  # refuses a parameter named as a column of every table
    directory.mkdir(parents=True, exist_ok=True)
    with _lock(directory):
        earlier = _earlier(directory, plan, resume=resume)
        for orphan in (*directory.glob(f"*{TEMPORARY}"), *directory.glob(f"parts/*{TEMPORARY}")):
            orphan.unlink()
        store = Store(directory, Manifest(plan, (*earlier, provenance())))
        write_atomically(directory / "manifest.json", lambda file: file.write(store.manifest.to_json().encode()))
        (directory / "parts").mkdir(exist_ok=True)
        store.check_parts()
        yield store


def _earlier(directory: Path, plan: Plan, *, resume: bool) -> tuple[dict, ...]:
    """Return the provenance of the runs to continue; none where the directory is fresh."""
    if not (directory / "manifest.json").exists():
        strangers = [path for path in directory.iterdir() if path.name != f"manifest.json{TEMPORARY}"]
        if strangers:
            raise ResultsError(f"{directory} holds {strangers[0].name} but no manifest: choose an empty directory")
        return ()
    if not resume:
        raise ResultsError(f"{directory} already holds a run: add --resume to continue it, or choose another --out")
    stored = Store.read(directory).manifest
    differences = stored.plan.differences(plan)
    if differences:
        raise ResultsError(
            f"{directory} holds another run (stored against asked): {'; '.join(differences)}. "
            "Ask for the stored run, or choose another --out"
        )
    return stored.runs


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Hold an advisory lock on the directory itself: the system drops it however the process ends."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultsError(f"{directory} is in use by another run: wait for it or choose another --out") from None
        yield
    finally:
        os.close(handle)


def _write_parquet(rows: pd.DataFrame, file: BinaryIO) -> None:
    rows.to_parquet(file, index=False, write_page_checksum=True)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise ResultsError(_damaged(path, error)) from error


def _damaged(path: Path, cause: object) -> str:
    return f"{path} is damaged ({cause}): delete it and run the study again with --resume"
