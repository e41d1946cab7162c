"""The figures there are: every module of a package, found by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.style import save, style

__all__ = ["discover", "draw_all"]

Draw = Callable[[Results], Figure]


def discover(study: str | None = None, package: str = "paper_figures.figures") -> dict[str, Draw]:
    """Find the figures of a study, or all: name of the module to its function ``draw``.

    Raises
    ------
    ValueError
        A module lacks ``STUDY`` or ``draw``.
    """
    found: dict[str, Draw] = {}
    for info in iter_modules(import_module(package).__path__):
        module = import_module(f"{package}.{info.name}")
        if not (hasattr(module, "STUDY") and callable(getattr(module, "draw", None))):
            raise ValueError(f"module {package}.{info.name} needs STUDY, a study's name, and draw(results)")
        if study in (None, module.STUDY):
            found[info.name] = module.draw
    return found


def draw_all(source: Path, out: Path) -> Iterator[Path]:
    """Draw every figure of the study in a results directory and yield the files; none where no figure shows it.

    Raises
    ------
    simulations.manifest.ResultsError
        The directory holds no complete run.
    """
    results = Results.read(source)
    for name, draw in discover(results.study).items():
        with style():
            yield from save(draw(results), out, name)
