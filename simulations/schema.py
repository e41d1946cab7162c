"""The rows of a study's table: completed from what a study returns, and checked when stored or read."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.random import SeedSequence

from simulations.seeds import to_text
from simulations.study import Batch

SCHEMA_VERSION = 2
CONVERGED = "converged"
RETURNED = ("replicate", "parameter", "truth", "estimate", "se", "status")
FIXED = ("study", *RETURNED, "seconds", "seed")


def columns(batch: Batch) -> list[str]:
    """Return the columns of the table, in order.

    Raises
    ------
    ValueError
        A cell parameter has the name of one of the other columns.
    """
    clash = sorted(set(batch.cell.parameters) & set(FIXED))
    if clash:
        raise ValueError(f"cell parameter {clash[0]!r} is the name of a column every table has: rename it")
    return [FIXED[0], *batch.cell.parameters, *FIXED[1:]]


def complete(frame: pd.DataFrame, batch: Batch, seeds: Sequence[SeedSequence], seconds: float) -> pd.DataFrame:
    """Add study, cell parameters, seeds and seconds a replicate to the rows a study returned, and sort them.

    Raises
    ------
    ValueError
        Columns other than `RETURNED`, or a replicate that is not in the batch.
    """
    _same("columns", frame.columns, RETURNED, batch)
    _same("replicates", frame["replicate"], batch.replicates, batch)
    texts = dict(zip(batch.replicates, map(to_text, seeds), strict=True))
    rows = frame.assign(
        study=batch.cell.study,
        **batch.cell.parameters,
        seconds=seconds / len(batch.replicates),
        seed=frame["replicate"].map(texts),
    )
    return rows[columns(batch)].sort_values(["replicate", "parameter"], ignore_index=True)


def check_rows(frame: pd.DataFrame, batch: Batch) -> None:
    """Refuse rows that are not exactly those of the batch, or whose values the schema does not allow.

    Raises
    ------
    ValueError
        Wrong columns, missing, foreign or repeated rows, or values out of range.
    TypeError
        A column of the wrong type.
    """
    _same("columns", frame.columns, columns(batch), batch)
    _check_types(frame, batch)
    for name, value in {"study": batch.cell.study, **batch.cell.parameters}.items():
        _refuse(frame, frame[name] != value, f"{name} differs from the cell's {value!r}", batch)
    _same("replicates", frame["replicate"], batch.replicates, batch)
    _refuse(frame, frame.duplicated(["replicate", "parameter"]), "(replicate, parameter) is repeated", batch)
    if len(frame) != len(batch.replicates) * frame["parameter"].nunique():
        raise ValueError(f"batch {batch.name}: some replicate lacks a parameter; report failures as rows too")
    converged = frame["status"] == CONVERGED
    _refuse(frame, frame["status"] == "", "status is empty", batch)
    _refuse(frame, ~np.isfinite(frame["truth"]), "truth is not finite", batch)
    _refuse(frame, converged & ~np.isfinite(frame["estimate"]), "converged without a finite estimate", batch)
    _refuse(frame, converged & ((frame["se"] < 0) | np.isinf(frame["se"])), "se is negative or infinite", batch)
    _refuse(frame, ~(np.isfinite(frame["seconds"]) & (frame["seconds"] >= 0)), "seconds is not a time", batch)


def _check_types(frame: pd.DataFrame, batch: Batch) -> None:
    expected: dict[str, type] = dict.fromkeys(("truth", "estimate", "se", "seconds"), float)
    expected |= dict.fromkeys(("study", "parameter", "status", "seed"), str)
    expected |= {"replicate": int} | {name: type(value) for name, value in batch.cell.parameters.items()}
    for name, kind in expected.items():
        column = frame[name]
        text = pd.api.types.is_string_dtype(column) and not column.isna().any()
        if not (text if kind is str else column.dtype == ("int64" if kind is int else "float64")):
            raise TypeError(f"batch {batch.name}: column {name!r} is {column.dtype}, it must hold {kind.__name__}")


def _same(what: str, found: pd.Index | pd.Series, expected: Sequence, batch: Batch) -> None:
    missing, foreign = set(expected) - set(found), set(found) - set(expected)
    if missing or foreign:
        raise ValueError(
            f"batch {batch.name}: {what} missing: {sorted(missing)[:5]}, not expected: {sorted(foreign, key=str)[:5]}"
        )


def _refuse(frame: pd.DataFrame, bad: pd.Series, complaint: str, batch: Batch) -> None:
    if bad.any():
        row = frame[bad].iloc[0]
        raise ValueError(
            f"batch {batch.name}: {complaint} in {int(bad.sum())} row(s), "
            f"first in replicate {row['replicate']}, parameter {row['parameter']!r}"
        )
