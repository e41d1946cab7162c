"""A training run: updates, validation, early stopping, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from eeqs.llm.training import checkpoint
from eeqs.llm.training.checkpoint import Checkpoint
from eeqs.llm.training.errors import CheckpointError
from eeqs.llm.training.metrics import Metrics
from eeqs.llm.training.settings import Settings
from eeqs.llm.training.solver import Solver

__all__ = ["Outcome", "Run"]

_FREE = ("checkpoint_every", "micro_rows")
"""Settings that may change between a run and its resumption."""


@dataclass(frozen=True)
class Outcome:
    """Where a run stands.

    Attributes
    ----------
    update : int
        Updates made.
    best_update : int
        The update with the lowest validation measure, whose weights `Run.advance` leaves in the model.
    best : float
        That measure.
    passes : int
        Forward and backward passes of a batch made so far, over all equations.
    stopped_early : bool
        Whether patience ended it.
    """

    update: int
    best_update: int
    best: float
    passes: int
    stopped_early: bool


class Run:
    """Updates of one module by several estimating equations, kept on disk if asked.

    Parameters
    ----------
    module : torch.nn.Module
        Holds all parameters and buffers: a `eeqs.llm.PerturbedLM`, or several that share a perturbation.
    solvers : sequence of Solver
        Take a step each an update, in this order.
    validate : callable
        Returns the measure to minimise on in-domain validation text, such as bits per byte.
    settings : Settings
    directory : Path, optional
        For metrics and checkpoints. A run that was killed goes on from its last checkpoint, to the same result.
    identity : mapping, optional
        What must be the same in a resumed run, besides the settings: data, method, model; JSON.
    report : callable, optional
        Called with every record of the metrics.

    Attributes
    ----------
    metrics : Metrics
    earlier_passes : int
        Forward and backward passes of a batch that an earlier stage took.

    Raises
    ------
    CheckpointError
        The directory holds another run, or a damaged checkpoint.
    """

    def __init__(
        self,
        module: nn.Module,
        solvers: Sequence[Solver],
        validate: Callable[[], float],
        settings: Settings,
        directory: Path | None = None,
        *,
        identity: Mapping[str, Any] | None = None,
        report: Callable[[dict[str, float | str]], None] | None = None,
    ) -> None:
        self._module, self._solvers, self._validate, self._settings = module, solvers, validate, settings
        self._directory = directory
        fixed = {name: value for name, value in asdict(settings).items() if name not in _FREE}
        self._identity = {"settings": fixed, **(identity or {})}
        self._report = report
        self.earlier_passes = 0
        self._update, self._passes, self._stale = 0, 0, 0
        self._best, self._best_update = float("inf"), 0
        self._best_tensors: dict[str, Tensor] = {}
        self._current: dict[str, Tensor] | None = None
        found = checkpoint.latest(self._checkpoints) if directory is not None else None
        if found is not None:
            self._restore(found)
        self.metrics = Metrics(None if directory is None else directory / "metrics.jsonl", self._update)

    def advance(self, updates: int) -> Outcome:
        """Train until so many updates have been made in all, or patience ends; put the best weights into the module.

        A later call with more updates goes on where training was, not from the best weights.

        Raises
        ------
        TrainingError
            A loss or gradient is not finite, or a file cannot be written.
        """
        if self._current is not None:
            self._put(self._current)
            self._current = None
        self._module.train()
        if self._update == 0 and not self._best_tensors:
            self._judge()
        start, tokens = time.perf_counter(), 0
        while self._update < updates and not self._stopped():
            self._update += 1
            record: dict[str, float | str] = {"update": self._update}
            for solver in self._solvers:
                values = solver.step(self._update)
                record |= {f"{solver.equation.name}_{name}": value for name, value in values.items()}
                self._passes += solver.passes
                tokens += solver.tokens
            record |= {"passes": self._passes, "tokens_per_second": tokens / (time.perf_counter() - start)}
            self._tell(record)
            if self._update % self._settings.validate_every == 0 or self._update == updates:
                self._judge()
            if self._update % self._settings.checkpoint_every == 0:
                self._save()
        self._save()
        self._current = self._tensors(self._module)
        self._put(self._best_tensors)
        return Outcome(self._update, self._best_update, self._best, self._passes, self._stopped())

    @property
    def _checkpoints(self) -> Path:
        assert self._directory is not None  # noqa: S101 - asked for with a directory only
        return self._directory / "checkpoints"

    def _stopped(self) -> bool:
        return self._settings.patience is not None and self._stale >= self._settings.patience

    def _judge(self) -> None:
        value = self._validate()
        if value < self._best:
            self._best, self._best_update, self._stale = value, self._update, 0
            self._best_tensors = self._tensors(self._module)
        else:
            self._stale += 1
        self._tell({"update": self._update, "validation": value, "best": self._best, "best_update": self._best_update})

    def _tell(self, record: dict[str, float | str]) -> None:
        self.metrics.add(record)
        if self._report is not None:
            self._report(record)

    @staticmethod
    def _tensors(module: nn.Module) -> dict[str, Tensor]:
        """Copy parameters and buffers to the CPU."""
        return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}

    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        self._module.load_state_dict(dict(tensors))

    def _save(self) -> None:
        if self._directory is None:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self._module.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best_tensors.items()}
        for solver in self._solvers:
            tensors |= {f"optimiser.{solver.equation.name}.{name}": t for name, t in solver.optimiser_tensors().items()}
        numbers = {
            "identity": self._identity,
            "passes": self._passes,
            "stale": self._stale,
            "best": self._best,
            "best_update": self._best_update,
            "places": {s.equation.name: [term.stream.place for term in s.terms] for s in self._solvers},
        }
        checkpoint.save(self._checkpoints, Checkpoint(self._update, tensors, numbers))

    def _restore(self, path: Path) -> None:
        held = checkpoint.load(path)
        _check_identity(path, held.numbers["identity"], self._identity)
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimiser": {}}
        for name, tensor in held.tensors.items():
            kind, rest = name.split(".", 1)
            groups[kind][rest] = tensor
        self._put(groups["model"])
        self._best_tensors = groups["best"]
        for solver in self._solvers:
            prefix = solver.equation.name + "."
            own = {name.removeprefix(prefix): t for name, t in groups["optimiser"].items() if name.startswith(prefix)}
            solver.load_optimiser(own)
            for term, place in zip(solver.terms, held.numbers["places"][solver.equation.name], strict=True):
                term.stream.place = (place[0], place[1])
        self._update, self._passes, self._stale = held.update, held.numbers["passes"], held.numbers["stale"]
        self._best, self._best_update = held.numbers["best"], held.numbers["best_update"]


def _check_identity(path: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse to resume a run under other settings, naming what differs."""
    for name in sorted({*stored, *asked}):
        if stored.get(name) != asked.get(name):
            raise CheckpointError(
                f"{path} is of another run: {name} was {stored.get(name)}, now {asked.get(name)}. Use the same, or "
                "another directory."
            )
