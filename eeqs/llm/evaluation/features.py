"""Features of texts: hidden states of a language model, one vector a sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from eeqs.engine.errors import DataError
from eeqs.llm.backend import Backend

__all__ = ["Pooling", "last_state", "mean_state", "sequence_features"]

Pooling = Callable[[Tensor, Tensor], Tensor]
"""``pooling(states, lengths)``: from hidden states (B, T, h) and lengths (B,) to features (B, h)."""


def mean_state(states: Tensor, lengths: Tensor) -> Tensor:
    """Mean (B, h) of the hidden states of all tokens."""
    real = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
    return (states * real[:, :, None]).sum(dim=1) / lengths[:, None]


def last_state(states: Tensor, lengths: Tensor) -> Tensor:
    """Hidden state (B, h) of the last token, which has seen the whole sequence."""
    return states[torch.arange(len(states), device=states.device), lengths - 1]


@torch.no_grad()
def sequence_features(
    backend: Backend, sequences: Sequence[Tensor], *, pooling: Pooling = last_state, batch_size: int = 16
) -> np.ndarray:
    """Features of token sequences from exact, unperturbed embeddings.

    One model must give the features of all texts that are compared, as ``PerturbedLM.backend`` of a model that is none
    of the methods compared.

    Parameters
    ----------
    backend : Backend
        A torch module is run in evaluation mode and left in the mode it had.
    sequences : sequence of Tensor
        Tokens (T,) of every text, on the device of the backend.
    pooling : callable
        `last_state`, as in MAUVE, or `mean_state`.
    batch_size : int

    Returns
    -------
    ndarray of shape (n, h)
        float64.

    Raises
    ------
    DataError
        There is no sequence, or one is empty.
    ValueError
        ``batch_size`` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a batch has at least one sequence.")
    if not sequences:
        raise DataError("there are no sequences to take features of.")
    for place, one in enumerate(sequences):
        if one.ndim != 1 or not len(one):
            raise DataError(f"sequence {place} has shape {tuple(one.shape)}; pass at least one token, (T,).")
    module = backend if isinstance(backend, nn.Module) else None
    training = module is not None and module.training
    starts = range(0, len(sequences), batch_size)
    try:
        if module is not None:
            module.eval()
        parts = [_batch(backend, sequences[start : start + batch_size], pooling) for start in starts]
    finally:
        if module is not None:
            module.train(training)
    return np.concatenate(parts)


def _batch(backend: Backend, sequences: Sequence[Tensor], pooling: Pooling) -> np.ndarray:
    # Padding comes last, so that causal order hides it.
    tokens = nn.utils.rnn.pad_sequence(list(sequences), batch_first=True)
    lengths = torch.tensor([len(one) for one in sequences], device=tokens.device)
    states = backend.hidden(backend.embed(tokens), None, None).double()
    features: np.ndarray = pooling(states, lengths).numpy(force=True)
    return features
