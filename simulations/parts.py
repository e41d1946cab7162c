"""A parquet dataset partitioned by study and cell: one part a range of replicates."""

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from simulations.files import write_atomically
from simulations.manifest import ResultsError
from simulations.schema import check_rows
from simulations.study import Batch, Cell

_NAME = re.compile(r"part-(\d+)-(\d+)\.parquet")


def part_path(root: Path, batch: Batch) -> Path:
    """Return the place of a part: ``root/study=STUDY/cell=CELL/part-START-STOP.parquet``."""
    first, last = batch.replicates.start, batch.replicates.stop
    return _folder(root, batch.cell) / f"part-{first:07d}-{last:07d}.parquet"


def write_part(root: Path, batch: Batch, rows: pd.DataFrame) -> None:
    """Check the rows of a batch and store them; the study's name is in the path and not in the file.

    Raises
    ------
    ValueError, TypeError
        Rows that violate the schema, see `simulations.schema.check_rows`.
    """
    check_rows(rows, batch)
    path = part_path(root, batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, partial(_write_parquet, rows.drop(columns="study")))


def read_part(root: Path, batch: Batch) -> pd.DataFrame:
    """Read and check the rows of one stored part.

    Raises
    ------
    ResultsError
        The file is damaged or holds other rows than its name says.
    """
    path = part_path(root, batch)
    try:
        # The file alone, not as a member of the dataset: the path would add its columns.
        rows = pq.ParquetFile(path, page_checksum_verification=True).read().to_pandas()
        rows.insert(0, "study", pd.Series([batch.cell.study] * len(rows), dtype=str))
        check_rows(rows, batch)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise ResultsError(f"{path} is damaged ({error}): delete it and run the study again with --resume") from error
    return rows


def stored(root: Path, cell: Cell) -> list[Batch]:
    """Return the parts of a cell, by replicate.

    A part inside another is what a kill during `compact` left: it is passed over.
    """
    found = [_NAME.fullmatch(path.name) for path in _folder(root, cell).glob("part-*.parquet")]
    ranges = sorted((range(*map(int, match.groups())) for match in found if match), key=lambda r: (r.start, -r.stop))
    kept: list[Batch] = []
    for candidate in ranges:
        if not kept or candidate.stop > kept[-1].replicates.stop:
            kept.append(Batch(cell, candidate))
    return kept


def missing(root: Path, cell: Cell) -> Iterator[Batch]:
    """Yield what of a cell is still to run, in batches that end where the batches of a fresh run end."""
    done = {replicate for part in stored(root, cell) for replicate in part.replicates}
    for batch in cell.batches():
        left = [replicate for replicate in batch.replicates if replicate not in done]
        if left:
            yield Batch(cell, range(left[0], left[-1] + 1))


def compact(root: Path, cell: Cell) -> pd.DataFrame:
    """Join the parts of a finished cell into one and return its rows."""
    parts = stored(root, cell)
    rows = pd.concat([read_part(root, part) for part in parts], ignore_index=True)
    whole = Batch(cell, range(cell.replicates))
    keep = part_path(root, whole)
    if len(parts) > 1:
        write_part(root, whole, rows)
    for path in keep.parent.glob("part-*.parquet"):
        if path != keep:
            path.unlink()
    return rows


def digest(table: pd.DataFrame) -> str:
    """Return the SHA-256 of every column but ``seconds``: equal for equal tables, to the last bit.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of a study, see `simulations`.
    """
    found = hashlib.sha256()
    for name in table.columns.drop("seconds"):
        column = table[name]
        numeric = pd.api.types.is_numeric_dtype(column)
        found.update(name.encode() + b"\0")
        found.update(np.ascontiguousarray(column).tobytes() if numeric else "\0".join(column).encode())
    return found.hexdigest()


def _folder(root: Path, cell: Cell) -> Path:
    return root / f"study={cell.study}" / f"cell={cell.key}"


def _write_parquet(rows: pd.DataFrame, file: BinaryIO) -> None:
    rows.to_parquet(file, index=False, write_page_checksum=True)
