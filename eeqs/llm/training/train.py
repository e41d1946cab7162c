"""A method on a model and a text, as a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from eeqs.llm.evaluation.document_scores import score_documents
from eeqs.llm.methods.method import Method
from eeqs.llm.packing import Rows
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.training.data import TrainingText
from eeqs.llm.training.run import Run
from eeqs.llm.training.settings import Settings
from eeqs.llm.training.solver import Solver, Term
from eeqs.llm.training.stream import Stream

__all__ = ["device_of", "identity_of", "term", "training_run"]


def training_run(
    model: PerturbedLM,
    method: Method,
    text: TrainingText,
    validation: Rows,
    settings: Settings,
    directory: Path | None = None,
    *,
    report: Callable[[dict[str, float | str]], None] | None = None,
    initial: Mapping[str, Tensor] | None = None,
) -> Run:
    """Set up the run that trains a model by a method; `Run.advance` trains.

    Parameters
    ----------
    model : PerturbedLM
        From ``method.model(backend, seed)``; trained in place.
    method : Method
    text : TrainingText
        Its documents are split into the folds of the method.
    validation : Rows
        In-domain text that chooses when to stop: bits per byte of what the method predicts with.
    settings : Settings
    directory, report
        See `Run`.
    initial : mapping of str to Tensor, optional
        State that the method's predictor takes for that before training; the model's present one by default.

    Returns
    -------
    Run
    """
    before = initial or {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    held = validation.to(device_of(model))

    def validate() -> float:
        return score_documents(method.predictor(model, before), held, batch_size=settings.batch_rows).bits_per_byte

    rows = text.folds(method, settings.seed)
    solvers = [
        Solver(equation, [term(model, rows[equation.fold], settings, number)], settings)
        for number, equation in enumerate(method.equations)
    ]
    return Run(model, solvers, validate, settings, directory, identity=identity_of(model, method, text), report=report)


def term(model: PerturbedLM, rows: Callable[[int], Rows], settings: Settings, number: int) -> Term:
    """Return a model with batches in an order that depends on the seed and a number."""
    return Term(model, Stream(rows, settings.batch_rows, 1009 * settings.seed + number))


def identity_of(model: PerturbedLM, method: Method, text: TrainingText) -> dict[str, object]:
    """Return what tells a run from another, besides its settings."""
    equations = [
        [e.name, e.score.name, str(e.draws), e.fold, sorted(map(list, e.rates.items()))] for e in method.equations
    ]
    return {
        "method": [method.name, method.summary, equations, method.inference_draws],
        "text": text.digest,
        "model_seed": model.seed,
    }


def device_of(model: PerturbedLM) -> torch.device:
    """Return where a model is."""
    return next(model.parameters()).device
