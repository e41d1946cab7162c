"""``python -m eeqs.llm eval``."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from eeqs.engine.errors import DataError
from eeqs.llm.cli.console import out, refusals
from eeqs.llm.cli.continuations import Continuations, generation_measures
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
    continue_: Annotated[
        int, typer.Option("--generate", min=0, help="Tokens to continue documents by, for ROUGE-1; 0 for none.")
    ] = 0,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a document before what is generated.")] = 32,
    features: Annotated[str | None, typer.Option(help="Model of the features of MAUVE; none without it.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is generated.")] = 0,
    device: Device = "cpu",
    csv: Csv = None,
    json_path: Json = None,
) -> None:
    """Perplexity, bits per byte, accuracy, calibration, and on demand generation, with errors by document."""
    with refusals():
        if features and not continue_:
            raise DataError("--features is the model of MAUVE, which compares generated text; add --generate.")
        corpora = [corpus(name, limit_bytes) for name in data]
        one = opened(source, device, draws=draws, length=length, tokenizer=tokenizer)
        about = {"source": source, "method": one.method, "draws": one.model.inference_draws, "length": one.length}
        whole = f"{one.label}, {one.method}"
        table = evaluate(scored(one, corpora, device, overlap))
        show(measures_by_domain(table), out(), f"{whole}: estimate (standard error by document)")
        if continue_:
            asked = Continuations(prompt_tokens, continue_, seed, features)
            more = generation_measures(one, corpora, asked, device)
            title = f"{whole}: {continue_} tokens generated after {prompt_tokens} of a document"
            show(measures_by_domain(more), out(), title)
            table = pd.concat([table, more], ignore_index=True)
            about |= {"generate": continue_, "prompt_tokens": prompt_tokens, "features": features, "seed": seed}
        write(table, about, csv, json_path)
