r"""From log-probabilities of tokens to bits per byte of documents."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eeqs.llm.perturbed import IGNORED

__all__ = ["bits_per_byte", "token_log_probabilities"]


def token_log_probabilities(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    r"""Log-probability of every predicted token, :math:`\log q(y_t \mid y_{<t})`.

    Parameters
    ----------
    log_probabilities : Tensor of shape (B, T, V)
        Position t predicts token t + 1, as `eeqs.llm.PerturbedLM.log_probabilities` returns them.
    labels : Tensor of shape (B, T)
        The tokens, `IGNORED` where none is predicted.

    Returns
    -------
    Tensor of shape (B, T)
        At the place of the label; 0 where there is none.

    Raises
    ------
    ValueError
        A label stands in the first position, before which nothing predicts it, or shapes differ.
    """
    if log_probabilities.shape[:-1] != labels.shape:
        raise ValueError(f"log_probabilities are {tuple(log_probabilities.shape)}, labels {tuple(labels.shape)}.")
    kept = labels != IGNORED
    if bool(kept[:, 0].any()):
        raise ValueError(f"a label stands at position 0, where nothing predicts it; set it to {IGNORED}.")
    targets = labels.clamp(min=0)[:, 1:, None]
    found = log_probabilities[:, :-1].gather(-1, targets).squeeze(-1)
    return torch.nn.functional.pad(found, (1, 0)).masked_fill(~kept, 0.0)


def bits_per_byte(log_probability: Tensor, n_bytes: Tensor | int) -> Tensor:
    r"""Code length of a text a byte, :math:`-\log_2 q / n`.

    Parameters
    ----------
    log_probability : Tensor
        Natural log-probability of texts, summed over their predicted tokens.
    n_bytes : Tensor or int
        Bytes that these tokens stand for; see `eeqs.llm.tokens.TokenisedDocument`.
    """
    return -log_probability / (math.log(2) * n_bytes)
