"""A trained run, or a model as it is, ready to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eeqs.engine.errors import DataError
from eeqs.llm.cli import kernels
from eeqs.llm.cli.console import note
from eeqs.llm.cli.kernels import Source
from eeqs.llm.cli.saved import MODEL, as_perturbed, read_run
from eeqs.llm.cli.text import Corpus
from eeqs.llm.cli.vocabulary import Vocabulary
from eeqs.llm.evaluation import DocumentScores, score_documents
from eeqs.llm.perturbed import PerturbedLM

__all__ = ["Opened", "opened", "scored"]

_LENGTH = 128


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that predicts.

    Parameters
    ----------
    label : str
        What tables call it.
    method : str
        How it was trained.
    model : PerturbedLM
    vocabulary : Vocabulary
    length : int
        Tokens of a training row.
    """

    label: str
    method: str
    model: PerturbedLM
    vocabulary: Vocabulary
    length: int


def opened(
    source: str, device: str, *, draws: int | None = None, length: int | None = None, tokenizer: Path | None = None
) -> Opened:
    """Open the directory of a run, or a model.

    Parameters
    ----------
    source, device : str
        What ``train --out`` was, or what ``train --model`` takes; and where it is to run.
    draws : int, optional
        Of the mixture mean; those of the method by default.
    length : int, optional
        Tokens a row; by default that of training, and of a model 128, or as many as it reads.
    tokenizer : Path, optional
        For a model: see `eeqs.llm.cli.kernels.Source`.

    Raises
    ------
    DataError
        The run has not been finished, or a file cannot be read.
    """
    place = kernels.on_device(device)
    held = read_run(Path(source))
    folder = Path(source) / MODEL if held else Path(source)
    if held and not ("result" in held and folder.is_dir()):
        raise DataError(f"{source} is not finished; repeat the training command, which goes on to the end.")
    kernel = kernels.load(Source(str(folder), tokenizer))
    vocabulary = kernel.vocabulary
    method, rows = "none", min(_LENGTH, kernels.context_of(kernel.model) or _LENGTH)
    if held:
        identity = held["identity"]
        method, rows = identity["method"], identity["length"]
        marks = identity["tokenizer"]
        vocabulary = Vocabulary(vocabulary.tokenizer, vocabulary.size, marks["bos"], marks["stop"])
    rows = length or rows
    kernels.check_length(kernel.model, rows, "--length")
    model = as_perturbed(kernel.model, folder if held else None).to(place)
    if draws is not None:
        model.inference_draws = draws
    return Opened(Path(source).name or source, method, model.eval(), vocabulary, rows)


def scored(one: Opened, corpora: Sequence[Corpus], device: str, overlap: int = 0) -> Mapping[str, DocumentScores]:
    """Scores of every document, by domain.

    Raises
    ------
    DataError
        Two domains have one name, or a text cannot be scored.
    """
    found: dict[str, DocumentScores] = {}
    for corpus in corpora:
        if corpus.name in found:
            raise DataError(f'two data sets are called "{corpus.name}"; rename one of the files.')
        note(f"{one.label} on {corpus.name}: {len(corpus.documents)} documents, {corpus.n_bytes:,} bytes")
        rows = one.vocabulary.rows(corpus.documents, one.length, corpus.name, overlap)
        found[corpus.name] = score_documents(one.model, rows.to(device))
    return found
