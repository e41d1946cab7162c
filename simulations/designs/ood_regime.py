"""What the study ``ood`` asks of a regime: a model to start from, text to train on, tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eeqs.llm.backend import Backend
from eeqs.llm.evaluation import DocumentScores
from eeqs.llm.language_model import LanguageModel
from eeqs.llm.packing import Rows
from eeqs.llm.training import TrainingText

__all__ = ["Regime"]


class Regime(Protocol):
    """Data and model, the same for all methods."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def domains(self) -> Sequence[str]:
        """Names of the test sets, the first from the domain of the training text."""

    def backend(self, seed: int) -> Backend:
        """Return the model before training."""

    def text(self, several: bool) -> TrainingText:
        """Return the training documents; ``several`` documents may share a row."""

    def validation(self) -> Rows:
        """Return in-domain text that chooses when to stop."""

    def test(self, model: LanguageModel) -> dict[str, DocumentScores]:
        """Score the test sets."""
