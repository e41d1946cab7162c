"""A method on a model and a text, as a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from eeqs.llm.evaluation.document_scores import score_documents
from eeqs.llm.methods.method import Method
from eeqs.llm.packing import Rows
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.training.data import TrainingText
from eeqs.llm.training.run import Run
from eeqs.llm.training.settings import Settings
from eeqs.llm.training.solver import Solver, Term
from eeqs.llm.training.stream import Stream

__all__ = ["training_run"]


def training_run(
    model: PerturbedLM,
    method: Method,
    text: TrainingText,
    validation: Rows,
    settings: Settings,
    directory: Path | None = None,
    *,
    report: Callable[[dict[str, float | str]], None] | None = None,
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

    Returns
    -------
    Run
    """
    initial = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    device = next(model.parameters()).device
    held = validation.to(device)

    def validate() -> float:
        return score_documents(method.predictor(model, initial), held, batch_size=settings.batch_rows).bits_per_byte

    rows = text.folds(method, settings.seed)
    solvers = [
        Solver(
            equation,
            [Term(model, Stream(rows[equation.fold], settings.batch_rows, 1009 * settings.seed + number))],
            settings,
        )
        for number, equation in enumerate(method.equations)
    ]
    identity = {"method": method.name, "text": text.digest, "model_seed": model.seed}
    return Run(model, solvers, validate, settings, directory, identity=identity, report=report)
