"""Train a model by a method, in the one or two stages that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from eeqs.llm.corpus import folds
from eeqs.llm.evaluation.document_scores import score_documents
from eeqs.llm.methods.method import THETA, Method
from eeqs.llm.packing import Rows
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.training.data import TrainingText
from eeqs.llm.training.run import Run
from eeqs.llm.training.settings import Settings
from eeqs.llm.training.solver import Solver
from eeqs.llm.training.train import device_of, identity_of, term, training_run

__all__ = ["fit"]

Report = Callable[[dict[str, float | str]], None]


def fit(
    model: PerturbedLM,
    method: Method,
    text: TrainingText,
    validation: Rows,
    settings: Settings,
    updates: int,
    directory: Path | None = None,
    *,
    report: Report | None = None,
) -> Run:
    """Train a model by a method.

    A method without splits has one stage. One with splits learns its perturbation first: with K kernels, each trained
    on all documents but those of one fold and judging the perturbation, which they share, on that fold. Then the
    kernel starts again and solves its own equation on all documents, the perturbation being fixed.

    Parameters
    ----------
    model : PerturbedLM
        From ``method.model(backend, seed)``; trained in place.
    method : Method
    text : TrainingText
    validation : Rows
        In-domain text that chooses when to stop: bits per byte of what the method predicts with.
    settings : Settings
    updates : int
        Updates of each stage.
    directory : Path, optional
        For metrics and checkpoints, in one folder a stage; a run that was killed goes on there.
    report : callable, optional
        Called with every record of the metrics, which names its ``stage``.

    Returns
    -------
    Run
        Of the last stage, advanced to ``updates``; `Run.advance` goes on with it. ``earlier_passes`` has the cost of
        the first stage.
    """
    initial = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    last, earlier = method, 0
    if method.splits:
        splits = _splits(model, method, text, validation, settings, _within(directory, "perturbation"), report)
        earlier = splits.advance(updates).passes
        model.backend.load_state_dict(_part(initial, THETA))  # type: ignore[attr-defined]
        last = replace(method, equations=(replace(method.equations[0], fold=0),), splits=0)
    folder = _within(directory, "kernel")
    run = training_run(
        model, last, text, validation, settings, folder, report=_named(report, "kernel"), initial=initial
    )
    run.earlier_passes = earlier
    run.advance(updates)
    return run


def _splits(
    model: PerturbedLM,
    method: Method,
    text: TrainingText,
    validation: Rows,
    settings: Settings,
    directory: Path | None,
    report: Report | None,
) -> Run:
    """Build the run in which kernels of their own learn the perturbation of ``model`` on documents they do not see."""
    theta, phi = method.equations
    parts = folds(text.documents, max(2, method.splits), settings.seed)
    held_out = parts[: method.splits] if method.splits > 1 else parts[1:]
    models = nn.ModuleList(_beside(model) for _ in held_out)
    kernels, judges = [], []
    for number, (one, fold) in enumerate(zip(models, held_out, strict=True)):
        assert isinstance(one, PerturbedLM)  # noqa: S101 - made above
        names = {document.id for document in fold}
        seen = [document for document in text.documents if document.id not in names]
        key = (settings.seed, number)
        equation = replace(theta, name=f"theta_{number}")
        kernels.append(
            Solver(equation, [term(one, text.epochs(seen, method, (*key, 0)), settings, 2 * number)], settings)
        )
        judges.append(term(one, text.epochs(fold, method, (*key, 1)), settings, 2 * number + 1))
    held = validation.to(device_of(model))

    def validate() -> float:
        found = [score_documents(one, held, batch_size=settings.batch_rows) for one in models]  # type: ignore[arg-type]
        return sum(scores.bits_per_byte for scores in found) / len(found)

    solvers = [*kernels, Solver(phi, judges, settings)]
    identity = identity_of(model, method, text) | {"splits": method.splits}
    return Run(models, solvers, validate, settings, directory, identity=identity, report=_named(report, "perturbation"))


def _beside(model: PerturbedLM) -> PerturbedLM:
    """Copy a model but for the parameters of its perturbation, which the copy shares."""
    # Parameters and not the module: a perturbation may hold on to the embeddings of its own model.
    return deepcopy(model, {id(parameter): parameter for parameter in model.perturbation.parameters()})  # type: ignore[attr-defined]


def _within(directory: Path | None, stage: str) -> Path | None:
    return None if directory is None else directory / stage


def _named(report: Report | None, stage: str) -> Report | None:
    return None if report is None else lambda record: report(record | {"stage": stage})


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
