"""Tables of results: on the console, as CSV and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from eeqs.llm.training.files import written_atomically

__all__ = ["measures_by_domain", "show", "write"]


def measures_by_domain(table: pd.DataFrame) -> pd.DataFrame:
    """One row a domain and one column a measure, ``estimate (se)``, from the long table of `evaluate`.

    Without a standard error there is the estimate alone.
    """
    pairs = zip(table["estimate"], table["se"], strict=True)
    cells = table.assign(cell=[f"{e:.4g}" + ("" if np.isnan(s) else f" ({s:.2g})") for e, s in pairs])
    wide = cells.pivot_table(
        index=["domain", "n_documents"], columns="measure", values="cell", aggfunc="first", sort=False
    )
    return wide[list(dict.fromkeys(table["measure"]))].reset_index()


def show(frame: pd.DataFrame, console: Console, title: str) -> None:
    """Print a table, numbers with four digits."""
    table = Table(title=title, title_justify="left")
    for name in frame.columns:
        table.add_column(str(name).replace("_", " "), justify="left" if frame[name].dtype.kind in "OU" else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
    console.print(table)


def write(frame: pd.DataFrame, about: Mapping[str, Any], csv: Path | None, json_path: Path | None) -> None:
    """Write a long table, with unrounded numbers.

    Parameters
    ----------
    frame : DataFrame
    about : mapping
        What JSON says beside the rows.
    csv, json_path : Path, optional
        Where to.

    Raises
    ------
    TrainingError
        A file cannot be written.
    """
    if csv is not None:
        written_atomically(csv, lambda temporary: frame.to_csv(temporary, index=False))
    if json_path is not None:
        rows = json.loads(frame.to_json(orient="records", double_precision=15))
        text = json.dumps({**about, "rows": rows}, indent=1)
        written_atomically(json_path, lambda temporary: temporary.write_text(text))
