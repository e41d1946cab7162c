"""``python -m eeqs.llm eval``."""

from pathlib import Path
from typing import Annotated

import typer

from eeqs.llm.cli.console import out, refusals
from eeqs.llm.cli.opened import opened, scored
from eeqs.llm.cli.tables import measures_by_domain, show, write
from eeqs.llm.cli.text import corpus
from eeqs.llm.evaluation import evaluate

__all__ = ["Csv", "Data", "Device", "Draws", "Json", "Length", "LimitBytes", "Overlap", "evaluate_model"]

_DATA = (
    "JSON lines, a data set of the folder EEQS_DATA, or hub:NAME@SPLIT; again for more. "
    "NAME#question,answer names the fields of a document."
)
Data = Annotated[list[str], typer.Option(help=_DATA)]
Draws = Annotated[int | None, typer.Option(min=1, help="Draws of the mixture mean; the method's by default.")]
Length = Annotated[int | None, typer.Option(min=2, help="Tokens a row; as in training by default.")]
LimitBytes = Annotated[int | None, typer.Option(min=1, help="Whole documents up to so many bytes of each.")]
Overlap = Annotated[int, typer.Option(min=0, help="Tokens of context a row repeats of the one before.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")]
Csv = Annotated[Path | None, typer.Option(help="Write the long table here.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the long table here, with what was asked.")]


def evaluate_model(
    source: Annotated[str, typer.Argument(help="Directory of a run, or a model as train --model takes it.")],
    *,
    data: Data,
    draws: Draws = None,
    length: Length = None,
    overlap: Overlap = 0,
    limit_bytes: LimitBytes = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Of a model, in place of its own.")] = None,
    device: Device = "cpu",
    csv: Csv = None,
    json_path: Json = None,
) -> None:
    """Perplexity, bits per byte, accuracy and calibration by domain, with errors clustered by document."""
    with refusals():
        corpora = [corpus(name, limit_bytes) for name in data]
        one = opened(source, device, draws=draws, length=length, tokenizer=tokenizer)
        table = evaluate(scored(one, corpora, device, overlap))
        about = {"source": source, "method": one.method, "draws": one.model.inference_draws, "length": one.length}
        show(measures_by_domain(table), out(), f"{one.label}, {one.method}: estimate (standard error by document)")
        write(table, about, csv, json_path)
