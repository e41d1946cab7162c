"""A GPT-2 with random weights."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from eeqs.llm.huggingface.backend import HuggingFaceBackend

__all__ = ["random_gpt2"]


def random_gpt2(seed: int, *, layers: int = 12, heads: int = 12, dim: int = 768) -> HuggingFaceBackend:
    """Draw the weights of a GPT-2, by default of the small one with 124 million parameters.

    Parameters
    ----------
    seed : int
        Of the weights.
    layers, heads, dim : int
        Blocks, attention heads, embedding dimension.

    Notes
    -----
    There is no dropout: noise is what training methods add, and it would perturb all of them.
    """
    config = GPT2Config(n_layer=layers, n_head=heads, n_embd=dim, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # transformers draws initial weights from the global stream
        return HuggingFaceBackend(GPT2LMHeadModel(config))
