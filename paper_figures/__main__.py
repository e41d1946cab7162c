"""Command line: ``python -m paper_figures [--from DIR] [--out DIR]``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from paper_figures import bias, coverage, rmse
from paper_figures.results import Results
from paper_figures.style import save, style

FIGURES = {"rmse": rmse.draw, "bias": bias.draw, "coverage": coverage.draw}

app = typer.Typer(add_completion=False)


@app.command()
def main(
    source: Annotated[Path, typer.Option("--from", help="Results directory of the study rates.")] = Path(
        "results/rates-quick"
    ),
    out: Annotated[Path, typer.Option(help="Directory for the figures.")] = Path("results/figures"),
) -> None:
    """Draw every figure as PDF, SVG and PNG from a stored table."""
    console = Console(soft_wrap=True)
    try:
        results = Results.read(source)
    except ValueError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(2) from error
    with style():
        for name, draw in FIGURES.items():
            for path in save(draw(results), out, name):
                console.print(str(path), markup=False, highlight=False)


if __name__ == "__main__":
    app()
