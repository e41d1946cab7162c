"""How long, how fast and on how much text to train."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    r"""Settings of a training run, the same for every method.

    Parameters
    ----------
    batch_rows : int
        Rows of text a batch.
    micro_rows : int, optional
        Rows whose graph exists at a time; the gradients of a batch are added up. The whole batch by default.
    learning_rate : float
        Of the first block of parameters; others are multiples of it, see `eeqs.llm.methods.Equation`.
    warmup : int
        Updates over which the rate rises linearly from zero.
    decay_updates : int, optional
        Update at which the rate has fallen to zero along a cosine; constant after the warm-up without it.
    weight_decay : float
        Of AdamW, for the kernel's matrices; neither vectors nor the perturbation decay.
    clip : float
        Largest norm of the gradient of an equation; a longer one is shortened to it.
    validate_every : int
        Updates between validations.
    patience : int, optional
        Validations in a row without a better one after which training stops; never by default.
    checkpoint_every : int
        Updates between checkpoints.
    bfloat16 : bool
        Whether the kernel computes in bfloat16 where PyTorch's autocast finds it safe; weights, perturbation and sums
        keep their precision.
    seed : int
        Of the order of the batches.

    Raises
    ------
    ValueError
        A number is out of range; it is named.
    """

    batch_rows: int = 8
    micro_rows: int | None = None
    learning_rate: float = 1e-3
    warmup: int = 20
    decay_updates: int | None = None
    weight_decay: float = 0.0
    clip: float = 1.0
    validate_every: int = 50
    patience: int | None = None
    checkpoint_every: int = 100
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_rows", "micro_rows", "validate_every", "checkpoint_every", "patience", "decay_updates"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; pass 1 or more.")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; pass a positive number.")
        for name in ("warmup", "weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; pass 0 or more.")

    def rate(self, update: int) -> float:
        """Learning rate of update 1, 2, ..., as a multiple of ``learning_rate``."""
        rise = min(1.0, update / (self.warmup + 1))
        if self.decay_updates is None:
            return rise
        share = min(1.0, max(0, update - self.warmup) / max(1, self.decay_updates - self.warmup))
        return rise * 0.5 * (1 + math.cos(math.pi * share))
