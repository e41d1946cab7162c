"""Training by stochastic approximation: every block of parameters solves its estimating equation."""

from eeqs.llm.training.data import TrainingText
from eeqs.llm.training.errors import CheckpointError, TrainingError
from eeqs.llm.training.fit import fit
from eeqs.llm.training.run import Outcome, Run
from eeqs.llm.training.settings import Settings
from eeqs.llm.training.solver import Solver, Term
from eeqs.llm.training.stream import Stream
from eeqs.llm.training.train import training_run

__all__ = [
    "CheckpointError",
    "Outcome",
    "Run",
    "Settings",
    "Solver",
    "Stream",
    "Term",
    "TrainingError",
    "TrainingText",
    "fit",
    "training_run",
]
