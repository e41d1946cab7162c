"""Positions of padded rows that may hold several documents: which are real, predicted, and seen from where."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["IGNORED", "next_tokens", "real_positions", "visible_positions"]

IGNORED = -100
"""Label of a position that is not predicted, as everywhere in PyTorch."""


@torch.compiler.disable  # looks at numbers, which a graph cannot
def real_positions(input_ids: Tensor, attention_mask: Tensor | None, vocab_size: int) -> Tensor:
    """Where a token is not padding, of tokens that the model knows.

    Parameters
    ----------
    input_ids : Tensor of shape (B, T)
    attention_mask : Tensor of shape (B, T), optional
    vocab_size : int
        Number of tokens V.

    Returns
    -------
    Tensor of shape (B, T), bool

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, or a token is not among 0..V-1.
    """
    if input_ids.ndim != 2 or input_ids.is_floating_point():
        raise ValueError(f"input_ids are {input_ids.dtype} of shape {tuple(input_ids.shape)}; pass integers (B, T).")
    if attention_mask is not None and attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, input_ids {tuple(input_ids.shape)}; they agree."
        )
    _check_tokens("input_ids", input_ids, vocab_size)
    return torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()


@torch.compiler.disable  # looks at numbers, which a graph cannot
def next_tokens(labels: Tensor, real: Tensor, segment_ids: Tensor | None, vocab_size: int) -> Tensor:
    """Token to predict from every position, `IGNORED` at padding and at the last token of a document.

    Parameters
    ----------
    labels, real : Tensor of shape (B, T)
    segment_ids : Tensor of shape (B, T), optional
        Document of a token.
    vocab_size : int

    Returns
    -------
    Tensor of shape (B, T)
        ``labels[:, t + 1]`` at position t.

    Raises
    ------
    ValueError
        If shapes differ, no token is predicted, or one is not among 0..V-1.
    """
    if labels.shape != real.shape:
        raise ValueError(f"labels have shape {tuple(labels.shape)}, input_ids {tuple(real.shape)}; they agree.")
    inside = real[:, 1:] & real[:, :-1]
    if segment_ids is not None:
        inside = inside & (segment_ids[:, 1:] == segment_ids[:, :-1])
    targets = pad(labels[:, 1:].masked_fill(~inside, IGNORED), (0, 1), value=IGNORED)
    predicted = targets[targets != IGNORED]
    if not len(predicted):
        raise ValueError("no token is predicted: every label is ignored, or every document has one token only.")
    _check_tokens("labels", predicted, vocab_size)
    return targets


@torch.compiler.disable  # looks at numbers, which a graph cannot
def visible_positions(real: Tensor, segment_ids: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Which positions see which, and their place in their document.

    Parameters
    ----------
    real : Tensor of shape (B, T)
    segment_ids : Tensor of shape (B, T), optional

    Returns
    -------
    visible : Tensor of shape (B, T, T), bool, or None
    position_ids : Tensor of shape (B, T), or None
        None for both where plain causal order says all.
    """
    padded_on_the_right = bool((real[:, :-1] | ~real[:, 1:]).all())
    if padded_on_the_right and _one_document(real, segment_ids):
        return None, None
    length = real.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=real.device).tril()
    visible = causal & real[:, None, :]
    starts = real & ~pad(real, (1, 0))[:, :-1]
    if segment_ids is not None:
        visible = visible & (segment_ids[:, :, None] == segment_ids[:, None, :])
        changes = pad(segment_ids[:, 1:] != segment_ids[:, :-1], (1, 0), value=True)
        starts = starts | (changes & real)
    # A padded position sees itself, for a row of the softmax needs an entry.
    visible = visible | torch.eye(length, dtype=torch.bool, device=real.device)
    index = torch.arange(length, device=real.device).expand_as(real)
    origin = torch.where(starts, index, 0).cummax(dim=1).values
    return visible, (index - origin).clamp(min=0)


def _one_document(real: Tensor, segment_ids: Tensor | None) -> bool:
    """Whether no row holds more than one document."""
    if segment_ids is None:
        return True
    one_and_the_same = segment_ids == segment_ids.masked_fill(~real, -1).amax(dim=1, keepdim=True)
    return bool((one_and_the_same | ~real).all())


def _check_tokens(name: str, tokens: Tensor, vocab_size: int) -> None:
    if not tokens.numel():
        return
    least, most = torch.stack(tokens.aminmax()).tolist()  # one wait for the device
    if least < 0 or most >= vocab_size:
        raise ValueError(
            f"{name} contain token {most if most >= vocab_size else least}, and the model has tokens "
            f"0..{vocab_size - 1}: tokenizer and model do not belong together; use the model's own tokenizer, or "
            "resize its embeddings before it is perturbed."
        )
