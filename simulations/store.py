"""A results directory that survives a kill at any moment: a manifest, and one part a batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from simulations import parts
from simulations.files import TEMPORARY, lock, write_atomically
from simulations.manifest import Manifest, Plan, ResultsError, provenance
from simulations.schema import columns
from simulations.study import Batch, check_cells


@dataclass
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
    def data(self) -> Path:
        """Root of the parquet dataset."""
        return self.directory / "data"

    def missing(self) -> list[Batch]:
        """Return the batches still to run, in the order of the table."""
        return [batch for cell in self.plan.cells for batch in parts.missing(self.data, cell)]

    def write(self, batch: Batch, rows: pd.DataFrame) -> None:
        """Check the rows of a batch and store them.

        Raises
        ------
        ValueError, TypeError
            Rows that violate the schema, see `simulations.schema.check_rows`.
        """
        parts.write_part(self.data, batch, rows)

    def finish(self) -> pd.DataFrame:
        """Join the parts of each cell, record the digest of the table and return it."""
        self._check_complete()
        table = pd.concat([parts.compact(self.data, cell) for cell in self.plan.cells], ignore_index=True)
        self.save(replace(self.manifest, digest=parts.digest(table)))
        return table

    def table(self) -> pd.DataFrame:
        """Read the whole table, sorted by cell, replicate and parameter.

        Raises
        ------
        ResultsError
            Batches are missing, a file is damaged or holds other rows than its name says, or the table is not the
            one whose digest the manifest holds.
        """
        self._check_complete()
        stored = [part for cell in self.plan.cells for part in parts.stored(self.data, cell)]
        table = pd.concat([parts.read_part(self.data, part) for part in stored], ignore_index=True)
        if self.manifest.digest and parts.digest(table) != self.manifest.digest:
            raise ResultsError(
                f"{self.data} does not hold the table that was finished there (its digest differs): "
                "delete the cells that were changed and run the study again with --resume"
            )
        return table

    def check_parts(self) -> None:
        """Read every stored part, so that damage is reported when a run is resumed and not at its end."""
        for cell in self.plan.cells:
            for part in parts.stored(self.data, cell):
                parts.read_part(self.data, part)

    def extend(self, plan: Plan) -> None:
        """Take up a plan that adds replicates to the cells of the present one."""
        self.save(replace(self.manifest, plan=plan, digest=""))

    def save(self, manifest: Manifest) -> None:
        """Write a manifest."""
        write_atomically(self.directory / "manifest.json", lambda file: file.write(manifest.to_json().encode()))
        self.manifest = manifest

    def _check_complete(self) -> None:
        missing = self.missing()
        if missing:
            raise ResultsError(
                f"{self.directory} is incomplete: {len(missing)} batches are missing, first {missing[0].name}; "
                "run the study again with --resume"
            )


@contextmanager
def open_store(directory: Path, plan: Plan, *, resume: bool = False, extended: bool = False) -> Iterator[Store]:
    """Start or resume a run in a directory, and keep other runs out of it meanwhile.

    Parameters
    ----------
    directory : Path
        Made if need be. A run killed before its manifest was written left nothing to resume: it starts anew.
    plan : Plan
        What to compute.
    resume : bool
        Continue a run already there.
    extended : bool
        Continue it even where `Store.extend` gave it more replicates than `plan` has, and keep those.

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
    with lock(directory):
        earlier = _earlier(directory, plan, resume=resume, extended=extended)
        for orphan in (*directory.glob(f"*{TEMPORARY}"), *(directory / "data").rglob(f"*{TEMPORARY}")):
            orphan.unlink()
        store = Store(directory, earlier)
        store.save(replace(earlier, runs=(*earlier.runs, provenance())))
        store.check_parts()
        yield store


def _earlier(directory: Path, plan: Plan, *, resume: bool, extended: bool) -> Manifest:
    """Return the manifest to continue; a new one where the directory is fresh."""
    if not (directory / "manifest.json").exists():
        strangers = [path for path in directory.iterdir() if path.name != f"manifest.json{TEMPORARY}"]
        if strangers:
            raise ResultsError(f"{directory} holds {strangers[0].name} but no manifest: choose an empty directory")
        return Manifest(plan, ())
    if not resume:
        raise ResultsError(f"{directory} already holds a run: add --resume to continue it, or choose another --out")
    stored = Store.read(directory).manifest
    differences = stored.plan.differences(stored.plan.covering(plan) if extended else plan)
    if differences:
        raise ResultsError(
            f"{directory} holds another run (stored against asked): {'; '.join(differences)}. "
            "Ask for the stored run, or choose another --out"
        )
    return stored if extended else replace(stored, plan=plan)
