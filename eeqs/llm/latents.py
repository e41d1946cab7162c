"""Latents of token sequences: a stream of random numbers a sequence, whatever batch it is in."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from eeqs.marginal.draws import Draws
from eeqs.marginal.laws import LatentLaw

__all__ = ["row_generator", "row_latents"]


@torch.compiler.disable  # hashes and generators are no tensors to compile
def row_latents(
    input_ids: Tensor,
    real: Tensor,
    draws: Draws,
    dim: int,
    law: LatentLaw,
    *,
    seed: int,
    step: int,
    dtype: torch.dtype = torch.float32,
    segment_ids: Tensor | None = None,
) -> Tensor:
    """Draw the latents of every position of every sequence.

    The stream of a sequence is a function of (seed, step, its tokens). A batch split over processes, or padded to
    another length, therefore sees the draws of the whole batch on one process, and a resumed run those of the
    uninterrupted one. Two equal sequences in one step share their draws.

    Parameters
    ----------
    input_ids : Tensor of shape (B, T)
        Tokens.
    real : Tensor of shape (B, T)
        True where a token is not padding.
    draws : Draws
        Design of the K draws of a position.
    dim : int
        Latent dimension q.
    law : LatentLaw
        Law of one latent entry.
    seed, step : int
        At least 0. Another step gives fresh draws.
    dtype : torch.dtype
    segment_ids : Tensor of shape (B, T), optional
        Documents of rows that hold several; each then has a stream of its own, whatever else its row holds.

    Returns
    -------
    Tensor of shape (K, B, T, q)
        Zero at padding.

    Notes
    -----
    A CPU generator keeps 32 bits of its seed, so two of many sequences may by chance share their draws; that
    correlates their noise and biases nothing.
    """
    latents = torch.zeros(len(draws), *input_ids.shape, dim, dtype=dtype, device=input_ids.device)
    tokens, kept = input_ids.cpu(), real.cpu()
    segments = torch.zeros_like(tokens) if segment_ids is None else segment_ids.cpu()
    for row in range(len(tokens)):
        for segment in segments[row][kept[row]].unique().tolist():
            held = kept[row] & (segments[row] == segment)
            generator = row_generator(tokens[row][held], seed, step, input_ids.device)
            z = draws.sample(int(held.sum()), dim, generator, law=law, dtype=dtype)
            latents[:, row, held.to(input_ids.device)] = z.flatten(1, -2).transpose(0, 1)
    return latents


def row_generator(tokens: Tensor, seed: int, step: int, device: torch.device) -> torch.Generator:
    """Build the generator of the stream of a sequence, a function of (seed, step, its tokens), as in `row_latents`."""
    content = tokens.to("cpu", torch.int64).numpy().tobytes() + f"|{seed}|{step}".encode()
    word = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
    return torch.Generator(device).manual_seed(word >> 1)
