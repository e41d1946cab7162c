"""Data that comes in batches and is read again for every pass: iterables and parquet files, larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.errors import DataError

__all__ = ["LabelCodes", "Stream", "as_stream", "batch_at", "is_stream"]

# Rows of a parquet batch: large enough that the work on a batch outweighs its set-up, small beside memory.
_BATCH_ROWS = 2**17


@dataclass(frozen=True)
class Stream:
    """Batches of rows that can be read any number of times.

    Attributes
    ----------
    open : callable
        ``open() -> iterator`` over batches, each a DataFrame, a mapping of columns or a tuple of arrays.
    n : int
        Rows in all batches.
    """

    open: Callable[[], Iterator[Any]]
    n: int

    def __iter__(self) -> Iterator[Any]:
        return self.open()


def is_stream(data: Any) -> bool:
    """Whether data is a path, a function that returns batches, or an iterable of batches."""
    if isinstance(data, str | Path):
        return True
    if isinstance(data, pd.DataFrame | Mapping | Tensor | np.ndarray | tuple | list):
        return False
    return callable(data) or isinstance(data, Iterable)


def as_stream(data: Any, columns: Sequence[str] | None, count: Callable[[Any], int]) -> Stream:
    """Open a source of batches.

    Parameters
    ----------
    data : str, Path, callable or iterable
        A parquet file or a directory of them; a function that returns a fresh iterator of batches; or an iterable
        that can be iterated again.
    columns : sequence of str or None
        Columns to read from parquet, None for all.
    count : callable
        ``count(batch) -> rows``, run over all batches once where their number is not known.

    Raises
    ------
    DataError
        If the path does not exist, a column is missing, the iterator can be read only once, or there are no rows.
        Batches without rows are passed over.
    """
    if isinstance(data, str | Path):
        stream = _parquet(Path(data), columns)
    else:
        if isinstance(data, Iterator):
            raise DataError(
                "this iterator can be read only once, and solving reads the data many times; pass a function that "
                "returns a fresh iterator, or an object that can be iterated again."
            )
        stream = Stream(lambda: _batches(data), _count(_batches(data), count))
    if stream.n == 0:
        raise DataError("data has no rows.")
    return stream


def _batches(data: Any) -> Iterator[Any]:
    """Batches that have rows."""
    source = data() if callable(data) else data
    if not isinstance(source, Iterable):
        raise DataError(f"the function passed as data returned a {type(source).__name__}; return batches of rows.")
    return (batch for batch in source if not _is_empty(batch))


def _is_empty(batch: Any) -> bool:
    if isinstance(batch, Mapping | tuple | list):
        batch = next(iter(batch.values() if isinstance(batch, Mapping) else batch), ())
    return hasattr(batch, "__len__") and len(batch) == 0


def _count(batches: Iterator[Any], count: Callable[[Any], int]) -> int:
    total = 0
    for batch in batches:
        with batch_at(total):
            total += count(batch)
    return total


@contextmanager
def batch_at(row: int) -> Iterator[None]:
    """Say in which batch bad data is, for its rows are numbered from the start of the batch."""
    try:
        yield
    except DataError as error:
        raise DataError(f"in the batch that starts at row {row}: {error}") from error


def _parquet(path: Path, columns: Sequence[str] | None) -> Stream:
    if not path.exists():
        raise DataError(f'no parquet file or directory "{path}"; a string as data is read as a path.')
    try:
        import pyarrow.dataset as ds
        from pyarrow import ArrowInvalid
    except ImportError as error:
        raise DataError("reading parquet needs pyarrow: pip install eeqs[parquet].") from error
    try:
        # Without the pre-buffer, which holds whole row groups of every column and took 1 GiB where 0.2 are enough.
        options = ds.ParquetFragmentScanOptions(pre_buffer=False)
        source = ds.dataset(path, format=ds.ParquetFileFormat(default_fragment_scan_options=options))
        n = source.count_rows()
    except ArrowInvalid as error:
        raise DataError(f'"{path}" is not readable as parquet: {error}') from error
    names = source.schema.names if columns is None else list(dict.fromkeys(columns))
    missing = [name for name in names if name not in source.schema.names]
    if missing:
        raise DataError(f'unknown column "{missing[0]}" in "{path}"; the file has {source.schema.names}.')

    def batches() -> Iterator[Any]:
        # Reading ahead in threads keeps up to half a gibibyte of batches when the solver is slower than the disk.
        reader = source.scanner(columns=names, batch_size=_BATCH_ROWS, batch_readahead=1, use_threads=False)
        for batch in reader.to_batches():
            if batch.num_rows:
                yield {name: _column(batch.column(name)) for name in names}

    return Stream(batches, n)


def _column(column: Any) -> Any:
    """Turn an arrow column into numpy without a copy where it has no missing values, else into a pandas series."""
    if column.null_count == 0 and not _is_text(column):
        return column.to_numpy(zero_copy_only=False)
    return column.to_pandas()


def _is_text(column: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(column.type) or types.is_large_string(column.type) or types.is_dictionary(column.type))


class LabelCodes:
    """Cluster codes of labels that arrive in batches: the same label has the same code in all of them."""

    def __init__(self, by: Any) -> None:
        if not isinstance(by, str):
            raise DataError("cluster labels of a stream must be a column of its batches; pass the column's name.")
        self._by = by
        self._known: dict[Any, int] = {}

    def __call__(self, batch: Any) -> Tensor:
        """Codes (b,) of the labels of one batch."""
        if not isinstance(batch, Mapping | pd.DataFrame) or self._by not in batch:
            raise DataError(f'unknown cluster column "{self._by}"; every batch needs it.')
        labels: Any = batch[self._by]
        array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
        codes, uniques = pd.factorize(array)
        if (codes < 0).any():
            raise DataError(f'cluster column "{self._by}" has {int((codes < 0).sum())} missing label(s) in a batch.')
        table = np.array([self._known.setdefault(label, len(self._known)) for label in uniques.tolist()])
        return torch.from_numpy(table[codes])

    def check(self) -> None:
        """Raise when all batches together had one label."""
        if len(self._known) < 2:
            raise DataError(f'cluster column "{self._by}": every observation has the same label; use two or more.')
