"""Command line: ``python -m paper_figures --from DIR [--out DIR]``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from paper_figures.gallery import draw_all

app = typer.Typer(add_completion=False)


@app.command()
def main(
    source: Annotated[
        list[Path], typer.Option("--from", help="Results directory of a study; give it again for more.")
    ] = [Path("results/rates-quick")],
    out: Annotated[Path, typer.Option(help="Directory for the figures.")] = Path("results/figures"),
) -> None:
    """Draw every figure of the given studies as PDF, SVG and PNG from their stored tables."""
    console = Console(soft_wrap=True)
    try:
        for directory in source:
            for path in _drawn(directory, out):
                console.print(str(path), markup=False, highlight=False)
    except ValueError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(2) from error


def _drawn(source: Path, out: Path) -> list[Path]:
    paths = list(draw_all(source, out))
    if not paths:
        raise ValueError(f"no figure shows the study in {source}: add a module to paper_figures/figures")
    return paths


if __name__ == "__main__":
    app()
