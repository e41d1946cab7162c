"""Leading-axis data: the one place that validates what users pass in.

Data is a DataFrame, a mapping of named columns, or a tuple of arrays. All leaves share one leading axis of
length n, or two leading axes (R, n) for R independent replicates. Every leaf leaves here as a float64
tensor, so an estimating function never meets an integer overflow or a float32 rounding; use ``.long()``
inside psi where an index is needed.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.errors import DataError

__all__ = ["Data", "Leaves", "Sample", "as_sample", "cluster_codes", "text_columns"]

Data: TypeAlias = pd.DataFrame | Mapping[str, Any] | Sequence[Any] | Tensor
Leaves: TypeAlias = dict[str, Tensor] | tuple[Tensor, ...]

# The largest integer below which every integer is a float64.
_EXACT_INTEGER = 2**53
# Beyond this size, and below its inverse, the square of a number is not a float64.
_LARGEST = 1e150
_TOO_LARGE = "holds integers beyond 2**53, which float64 cannot represent; rescale it."


@dataclass(frozen=True)
class Sample:
    """Validated data.

    Attributes
    ----------
    leaves : dict of str to Tensor, or tuple of Tensor
        float64 leaves of shape (n, ...), or (R, n, ...) when ``replicates`` is R.
    n : int
        Observations (in each replicate).
    replicates : int or None
        Number of independent replicates, None for ordinary data.
    index : pandas.Index or None
        Row labels, where the data had any.
    """

    leaves: Leaves
    n: int
    replicates: int | None
    index: pd.Index | None


def as_sample(
    data: Data, *, columns: Sequence[str] | None = None, skip: Iterable[str] = (), batched: bool = False
) -> Sample:
    """Validate ``data`` and turn its leaves into float64 tensors.

    Parameters
    ----------
    data : DataFrame, mapping of columns, tuple of arrays, or one array
        All with one leading axis n; with two leading axes (R, n) when ``batched``.
    columns : sequence of str, optional
        The named columns that are needed; the others are neither converted nor checked.
    skip : iterable of str, optional
        Columns psi does not see, such as a text column that holds the cluster.
    batched : bool
        Whether the leaves are (R, n, ...).

    Returns
    -------
    Sample

    Raises
    ------
    DataError
        If a column is missing, not numeric, not finite, or of another length than the rest.
    """
    index = data.index if isinstance(data, pd.DataFrame) else None
    named = _named_columns(data, columns, set(skip))
    if not named:
        raise DataError("data has no columns; pass at least one column of numbers.")
    tensors = {name: _as_tensor(name, column) for name, column in named.items()}
    lead = _common_lead(tensors, 2 if batched else 1)
    leaves: Leaves = tensors if isinstance(data, Mapping | pd.DataFrame) else tuple(tensors.values())
    return Sample(leaves, lead[-1], lead[0] if batched else None, index)


def cluster_codes(data: Data, by: Any) -> Tensor:
    """Integer cluster codes 0..G-1 of a named column or of an array of labels.

    Raises
    ------
    DataError
        If the column is unknown, a label is missing, or all observations share one label.
    """
    if isinstance(by, str):
        if not isinstance(data, Mapping | pd.DataFrame):
            raise DataError(f'cluster column "{by}" needs named data; pass a DataFrame, a mapping or the labels.')
        _require_columns(data, (by,))
        name, labels = f'cluster column "{by}"', data[by]
    else:
        name, labels = "cluster labels", by
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    codes, uniques = pd.factorize(array.ravel())
    if (codes < 0).any():
        rows = int((codes < 0).sum())
        raise DataError(
            f"{name}: {rows} missing label(s), first at row {int(np.argmax(codes < 0))}; fill or drop them."
        )
    if len(uniques) < 2:
        raise DataError(f"{name}: every observation has the same label; clustering needs at least two clusters.")
    return torch.from_numpy(codes.reshape(array.shape).astype(np.int64))


def text_columns(groups: tuple[Any, ...], data: Any) -> tuple[str, ...]:
    """Name the label columns that psi cannot read because they are not numeric."""
    if not isinstance(data, Mapping | pd.DataFrame):
        return ()
    names = [by for by in groups if isinstance(by, str) and by in data]
    return tuple(name for name in names if not _is_numeric(data[name]))


def _is_numeric(column: Any) -> bool:
    return isinstance(column, Tensor) or np.asarray(column).dtype.kind in "biuf"


def _named_columns(data: Data, columns: Sequence[str] | None, skip: set[str]) -> dict[str, Any]:
    if isinstance(data, pd.DataFrame):
        duplicated = data.columns[data.columns.duplicated()]
        if len(duplicated):
            raise DataError(f'column "{duplicated[0]}" appears more than once; give every column its own name.')
    if isinstance(data, pd.DataFrame | Mapping):
        if columns is not None:
            _require_columns(data, columns)
            return {name: data[name] for name in columns}
        return {name: data[name] for name in data.keys() if name not in skip}  # noqa: SIM118 - a DataFrame too
    if columns is not None:
        raise DataError(f"psi needs the columns {list(columns)}; pass a DataFrame or a mapping of named columns.")
    if isinstance(data, Tensor | np.ndarray):
        data = (data,)
    if isinstance(data, list) and data and isinstance(data[0], pd.DataFrame | Mapping):
        raise DataError("a list is read as columns; pass batches as a function of no arguments, lambda: iter(batches).")
    if not isinstance(data, tuple | list):
        raise DataError(f"data is a {type(data).__name__}; pass a DataFrame, a mapping or a tuple of arrays.")
    return {f"data[{position}]": leaf for position, leaf in enumerate(data)}


def _require_columns(data: pd.DataFrame | Mapping[str, Any], columns: Sequence[str]) -> None:
    known = [str(name) for name in data.keys()]  # noqa: SIM118 - a DataFrame too
    for name in columns:
        if name not in data:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"the data has {known}."
            raise DataError(f'unknown column "{name}"; {hint}')


def _as_tensor(name: str, column: Any) -> Tensor:
    if not isinstance(column, Tensor):
        column = _to_numpy(name, column)
    if column.ndim == 0:
        raise DataError(f'column "{name}" is a scalar; every column needs a leading axis of observations.')
    if column.dtype.is_complex:
        raise DataError(f'column "{name}" is complex; split it into its real and imaginary parts.')
    if column.dtype == torch.int64 and bool(((column > _EXACT_INTEGER) | (column < -_EXACT_INTEGER)).any()):
        raise DataError(f'column "{name}" {_TOO_LARGE}')
    tensor = column.detach().to(torch.float64)
    if tensor.numel() == 0:
        return tensor
    low, high = (float(end) for end in torch.aminmax(tensor))  # one pass, and NaN where there is one
    if not math.isfinite(low) or not math.isfinite(high):
        bad = (~torch.isfinite(tensor)).reshape(len(tensor), -1).any(dim=1)
        first = int(torch.nonzero(bad)[0])
        raise DataError(
            f'column "{name}" has {int(bad.sum())} row(s) with NaN or infinite values, first at row {first}; '
            "drop or impute them before estimating."
        )
    size = max(-low, high)
    if size > _LARGEST or 0 < size < 1 / _LARGEST:
        raise DataError(
            f'column "{name}" has values of size {size:.1e}, whose squares leave the range of float64; change its unit.'
        )
    return tensor


def _to_numpy(name: str, column: Any) -> Tensor:
    if isinstance(column, pd.Series) and isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        array = column.to_numpy()  # missing values are NaN, which the range check finds
    elif isinstance(column, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        series = pd.Series(column)
        missing = series.isna().to_numpy()
        if missing.any():
            raise DataError(
                f'column "{name}" has {int(missing.sum())} row(s) with NaN or missing values, first at row '
                f"{int(missing.argmax())}; drop or impute them before estimating."
            )
        array = series.to_numpy()
        if array.dtype == object and pd.api.types.is_numeric_dtype(series):  # nullable integers and booleans
            array = series.to_numpy(dtype=np.float64)
    else:
        try:
            array = np.asarray(column)
        except ValueError as error:
            raise DataError(f'column "{name}" is not a rectangular array of numbers: {error}') from error
    if array.dtype.kind not in "biufc":
        kind = series.dtype if isinstance(column, pd.Series) else array.dtype
        raise DataError(
            f'column "{name}" has dtype {kind}, which is not numeric; encode it (for instance with '
            "pandas.get_dummies) or leave it out of the data."
        )
    if array.dtype.kind == "u":
        if array.size and array.max() > _EXACT_INTEGER:
            raise DataError(f'column "{name}" {_TOO_LARGE}')
        array = array.astype(np.float64)
    if array.dtype.kind == "f":
        array = array.astype(np.float64, copy=False)
    # A writable array is shared with torch, which never writes to it; a read-only one is copied.
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _common_lead(tensors: dict[str, Tensor], axes: int) -> tuple[int, ...]:
    first, leader = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if tensor.ndim < axes:
            raise DataError(f'column "{name}" has shape {tuple(tensor.shape)}; batched data is (R, n, ...).')
        if tensor.shape[:axes] != leader.shape[:axes]:
            raise DataError(
                f'column "{name}" has leading shape {tuple(tensor.shape[:axes])} but "{first}" has '
                f"{tuple(leader.shape[:axes])}; all columns need the same rows."
            )
        if tensor.device != leader.device:
            raise DataError(f'column "{name}" is on {tensor.device} but "{first}" on {leader.device}; use one device.')
    lead = tuple(leader.shape[:axes])
    if 0 in lead:
        raise DataError("data has no rows.")
    return lead
