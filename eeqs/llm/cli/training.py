"""What ``python -m eeqs.llm train`` does, once its arguments are read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from eeqs.llm.cli import kernels
from eeqs.llm.cli.catalogue import method_of
from eeqs.llm.cli.console import note
from eeqs.llm.cli.kernels import Kernel, Source
from eeqs.llm.cli.progress import Meter, progress
from eeqs.llm.cli.saved import check_same_run, save_model, versions, write_run
from eeqs.llm.cli.text import Corpus
from eeqs.llm.methods.method import Method
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.training import Run, Settings, TrainingText, fit

__all__ = ["Plan", "run_training"]

_FREE = ("micro_rows", "checkpoint_every")


@dataclass(frozen=True)
class Plan:
    """A training run as asked for.

    Parameters
    ----------
    source : Source
    training, validation : Corpus
    method : str
        Of `eeqs.llm.cli.catalogue`.
    options : mapping of str to str
        Of the method.
    length : int
        Tokens a row.
    settings : Settings
        With the seed of everything.
    updates : int
        Of every stage.
    directory : Path
    device : str
    """

    source: Source
    training: Corpus
    validation: Corpus
    method: str
    options: Mapping[str, str]
    length: int
    settings: Settings
    updates: int
    directory: Path
    device: str

    def identity(self, kernel: Kernel, weights: str) -> dict[str, Any]:
        """Return what makes a run the same run, whatever its length and wherever its files are."""
        settings = {name: value for name, value in asdict(self.settings).items() if name not in _FREE}
        vocabulary = kernel.vocabulary
        return {
            "method": self.method,
            "options": dict(self.options),
            "length": self.length,
            "seed": self.settings.seed,
            "settings": settings,
            "weights": weights,
            "tokenizer": {"sha256": vocabulary.digest, "bos": vocabulary.bos, "stop": vocabulary.stop},
            "training": self.training.digest,
            "validation": self.validation.digest,
        }


def run_training(plan: Plan, console: Console) -> None:
    """Train, or go on training, and save the best model.

    Raises
    ------
    DataError, CheckpointError, TrainingError, ValueError
        What a user can mend; the message says how.
    """
    device = kernels.on_device(plan.device)
    method = method_of(plan.method).build(plan.options, plan.length)
    kernel = kernels.load(plan.source, plan.training.documents, plan.settings.seed)
    kernels.check_length(kernel.model, plan.length, "--length")
    identity = plan.identity(kernel, kernels.digest(kernel.model.state_dict()))
    check_same_run(plan.directory, identity)
    model = method.model(kernels.backend_of(kernel.model), plan.settings.seed)
    assert isinstance(model.perturbation, nn.Module)  # noqa: S101 - checked by PerturbedLM
    # The precision that it is saved in, so that what is validated is what is saved.
    model.perturbation.float()
    model.to(device)
    described = _described(plan, identity)
    write_run(plan.directory, described)
    initial = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    start = time.monotonic()
    run = _fitted(plan, method, model, kernel, console)
    outcome = run.advance(plan.updates)
    predictor = method.predictor(model, initial)
    assert isinstance(predictor, PerturbedLM)  # noqa: S101 - of all methods of the catalogue
    # A predictor may be a copy, and a file names a score by identity.
    predictor.score = method.equations[0].score
    save_model(plan.directory, predictor, kernel.vocabulary, identity)
    result = asdict(outcome) | {"earlier_passes": run.earlier_passes, "seconds": time.monotonic() - start}
    write_run(plan.directory, described | {"result": result})
    console.print(
        f"{plan.directory / 'model'}: {outcome.best:.4f} bits/byte on {plan.validation.name} after update "
        f"{outcome.best_update} of {outcome.update}{', stopped early' if outcome.stopped_early else ''}",
        highlight=False,
        soft_wrap=True,
    )


def _fitted(plan: Plan, method: Method, model: PerturbedLM, kernel: Kernel, console: Console) -> Run:
    text = TrainingText(plan.training.documents, kernel.vocabulary.telling(plan.training.name), plan.length)
    for name, corpus in (("training", plan.training), ("validation", plan.validation)):
        note(f"{name}: {corpus.name}, {len(corpus.documents)} documents, {corpus.n_bytes:,} bytes")
    held_out = kernel.vocabulary.rows(plan.validation.documents, plan.length, plan.validation.name)
    meter = Meter(("perturbation", "kernel") if method.splits else ("kernel",), plan.updates)
    with progress(meter, console) as report:
        return fit(model, method, text, held_out, plan.settings, plan.updates, plan.directory, report=report)


def _described(plan: Plan, identity: Mapping[str, Any]) -> dict[str, Any]:
    corpora = {"training": plan.training, "validation": plan.validation}
    return {
        "identity": dict(identity),
        "source": asdict(plan.source) | {"tokenizer": str(plan.source.tokenizer) if plan.source.tokenizer else None},
        "data": {
            name: {"name": one.name, "documents": len(one.documents), "bytes": one.n_bytes, "sha256": one.digest}
            for name, one in corpora.items()
        },
        "updates": plan.updates,
        "device": plan.device,
        "versions": versions(),
    }
