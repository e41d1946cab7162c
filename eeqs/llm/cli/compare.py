"""``python -m eeqs.llm compare``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from eeqs.engine.errors import DataError
from eeqs.llm.cli.console import out, refusals
from eeqs.llm.cli.evaluate import Csv, Data, Device, Draws, Json, Length, LimitBytes, Overlap
from eeqs.llm.cli.opened import opened, scored
from eeqs.llm.cli.tables import show, write
from eeqs.llm.cli.text import Corpus, corpus
from eeqs.llm.evaluation import RATIO_MEASURES, DocumentScores, Measure, compare, compare_over_seeds

__all__ = ["compare_runs"]

_MEASURES = {measure.name: measure for measure in RATIO_MEASURES}
_SHOWN = ["method", "domain", "estimate", "se", "low", "high", "simultaneous_low", "simultaneous_high"]


def compare_runs(
    sources: Annotated[list[str], typer.Argument(help="Directories of runs, or models; the first is subtracted.")],
    *,
    data: Data,
    measure: Annotated[str, typer.Option(help=f"One of {', '.join(_MEASURES)}.")] = "bits_per_byte",
    over_seeds: Annotated[
        bool, typer.Option("--over-seeds", help="Runs of one method are its seeds, a second level of variation.")
    ] = False,
    draws: Draws = None,
    length: Length = None,
    overlap: Overlap = 0,
    limit_bytes: LimitBytes = None,
    device: Device = "cpu",
    csv: Csv = None,
    json_path: Json = None,
) -> None:
    """Paired differences from the first, with intervals that hold for all domains of a method at once."""
    with refusals():
        if measure not in _MEASURES:
            raise DataError(f'there is no measure "{measure}"; there are: {", ".join(_MEASURES)}.')
        corpora = [corpus(name, limit_bytes) for name in data]
        runs = [_scores(source, corpora, device, draws, length, overlap) for source in sources]
        table = _seeds(runs, _MEASURES[measure]) if over_seeds else _pairs(sources, runs, _MEASURES[measure])
        reference = table["reference"].iloc[0]
        show(table[_SHOWN], out(), f"{measure.replace('_', ' ')}, minus that of {reference}")
        write(table, {"sources": sources, "measure": measure}, csv, json_path)


_Run = tuple[str, str, Mapping[str, DocumentScores]]


def _scores(
    source: str, corpora: Sequence[Corpus], device: str, draws: int | None, length: int | None, overlap: int
) -> _Run:
    """Label, method and scores; the model is let go."""
    one = opened(source, device, draws=draws, length=length)
    return one.label, one.method, scored(one, corpora, device, overlap)


def _pairs(sources: Sequence[str], runs: Sequence[_Run], measure: Measure) -> pd.DataFrame:
    labels = [label for label, _, _ in runs]
    names = labels if len(set(labels)) == len(labels) else [str(Path(source)) for source in sources]
    if len(set(names)) < len(names):
        raise DataError(f"one of {', '.join(names)} is given twice; give each once.")
    found = {name: run[2] for name, run in zip(names, runs, strict=True)}
    return compare(found, names[0], measure)


def _seeds(runs: Sequence[_Run], measure: Measure) -> pd.DataFrame:
    """Group runs by method, in the order given."""
    grouped: dict[str, dict[str, list[DocumentScores]]] = {}
    for _, method, domains in runs:
        for domain, found in domains.items():
            grouped.setdefault(method, {}).setdefault(domain, []).append(found)
    return compare_over_seeds(grouped, runs[0][1], measure)
