"""The figures and tables there are: every module of a package, found by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from operator import methodcaller
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.style import save, style
from simulations.files import write_atomically
from simulations.page import latex

__all__ = ["discover", "discover_tables", "draw_all"]

Draw = Callable[[Results], Figure]
Make = Callable[[Results], pd.DataFrame]


def discover(study: str | None = None, package: str = "paper_figures.figures") -> dict[str, Draw]:
    """Find the figures of a study, or all: name of the module to its function ``draw``.

    Raises
    ------
    ValueError
        A module lacks ``STUDY`` or ``draw``.
    """
    return _functions(package, "draw", study)


def discover_tables(study: str | None = None, package: str = "paper_figures.tables") -> dict[str, Make]:
    """Find the tables of a study, or all: name of the module to its function ``make``.

    Raises
    ------
    ValueError
        A module lacks ``STUDY`` or ``make``.
    """
    return _functions(package, "make", study)


def draw_all(source: Path, out: Path) -> Iterator[Path]:
    """Draw every figure of the study in a results directory, write its tables, and yield the files.

    Raises
    ------
    simulations.manifest.ResultsError
        The directory holds no complete run.
    """
    results = Results.read(source)
    for name, draw in discover(results.study).items():
        with style():
            yield from save(draw(results), out, name)
    for name, make in discover_tables(results.study).items():
        table = make(results)
        for extension, text in (("csv", table.to_csv(index=False)), ("tex", latex(table))):
            path = out / f"{name}.{extension}"
            write_atomically(path, methodcaller("write", text.encode()))
            yield path


def _functions(package: str, function: str, study: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for info in iter_modules(import_module(package).__path__):
        module = import_module(f"{package}.{info.name}")
        if not (hasattr(module, "STUDY") and callable(getattr(module, function, None))):
            raise ValueError(f"module {package}.{info.name} needs STUDY, a study's name, and {function}(results)")
        if study in (None, module.STUDY):
            found[info.name] = getattr(module, function)
    return found
