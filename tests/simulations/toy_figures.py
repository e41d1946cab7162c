"""Draws the name of the study, which is enough to see that it reaches the page."""

from collections.abc import Iterator
from pathlib import Path

from simulations.store import Store


def draw_all(source: Path, out: Path) -> Iterator[Path]:
    study = Store.read(source).plan.study
    for suffix in ("svg", "png"):
        path = out / f"{study}.{suffix}"
        path.write_text(f"<svg>{study}</svg>")
        yield path
