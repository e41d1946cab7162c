"""A report that stands alone: one HTML page with its figures inside, and the tables as CSV and LaTeX."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from jinja2 import Environment, PackageLoader

from simulations.files import write_atomically
from simulations.report import Report, joined, number, summary

__all__ = ["Draw", "write"]

Draw = Callable[[Path, Path], Iterable[Path]]
"""Draws every figure of a results directory into another one and yields the files; none where no figure shows it."""


def write(directory: Path, reports: list[Report], draw: Draw) -> Iterator[Path]:
    """Write ``report.html``, and ``verdicts`` and ``measures`` of each study as CSV and LaTeX in ``tables/``.

    Parameters
    ----------
    directory : Path
        Where to write.
    reports : list of Report
        The studies.
    draw : callable
        See `Draw`.

    Yields
    ------
    Path
        Each file written.
    """
    folder = directory / "tables"
    folder.mkdir(exist_ok=True)
    tables = {"verdicts": joined(reports)}
    tables |= {f"measures_{report.store.plan.study}": summary(report.measures) for report in reports}
    for name, table in tables.items():
        for suffix, text in (("csv", table.to_csv(index=False)), ("tex", latex(table))):
            path = folder / f"{name}.{suffix}"
            write_atomically(path, methodcaller("write", text.encode()))
            yield path
    template = Environment(loader=PackageLoader("simulations", "."), autoescape=True).get_template("page.html.j2")
    content = template.render(
        verdicts=_rows(tables["verdicts"]),
        minutes=sum(report.minutes for report in reports),
        studies=[_study(report, draw) for report in reports],
    )
    path = directory / "report.html"
    write_atomically(path, methodcaller("write", content.encode()))
    yield path


def latex(table: pd.DataFrame) -> str:
    """Write a table for the LaTeX package booktabs, four significant digits, special characters escaped."""
    return (
        table.map(number)
        .style.hide(axis="index")
        .format(escape="latex")
        .format_index(axis="columns", escape="latex")
        .to_latex(hrules=True, environment="longtable")
    )


def _study(report: Report, draw: Draw) -> dict[str, object]:
    manifest = report.store.manifest
    cells = pd.DataFrame([{**cell.parameters, "replicates": cell.replicates} for cell in manifest.plan.cells])
    failures = report.measures[report.measures["measure"].str.startswith("failed: ")]
    return {
        "name": manifest.plan.study,
        "preset": manifest.plan.preset,
        "seed": manifest.plan.seed,
        "digest": manifest.digest,
        "minutes": report.minutes,
        "figures": _figures(report.store.directory, draw),
        "measures": _rows(summary(report.measures)),
        "failures": _rows(failures.drop(columns="n_used")),
        "cells": _rows(cells),
        "runs": json.dumps(list(manifest.runs), indent=1),
    }


def _figures(results: Path, draw: Draw) -> list[dict[str, str]]:
    """Draw into a folder that goes away, and keep the vector files as text for the page."""
    with TemporaryDirectory() as folder:
        vectors = [path for path in draw(results, Path(folder)) if path.suffix == ".svg"]
        return [{"name": path.stem, "data": base64.b64encode(path.read_bytes()).decode()} for path in vectors]


def _rows(table: pd.DataFrame) -> dict[str, list]:
    short = table.map(partial(number, digits=4))
    return {"columns": list(map(str, table.columns)), "rows": short.to_numpy().tolist()}
