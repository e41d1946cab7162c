"""What stops a training run."""

from __future__ import annotations

from eeqs.engine.errors import EeqsError

__all__ = ["CheckpointError", "TrainingError"]


class TrainingError(EeqsError, RuntimeError):
    """Training cannot go on: a loss or gradient is not finite, or a file cannot be written; checkpoints are kept."""


class CheckpointError(EeqsError, ValueError):
    """A checkpoint that is damaged, or of another run; the message names the file and the remedy."""
