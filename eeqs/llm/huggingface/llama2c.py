"""Checkpoints of llama2.c as Hugging Face models."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

__all__ = ["Llama2cHeader", "load_llama2c", "read_llama2c"]

_HEADER = struct.Struct("<7i")


@dataclass(frozen=True)
class Llama2cHeader:
    """Sizes in the header of the legacy float32 format.

    Attributes
    ----------
    dim, hidden_dim, layers, heads, kv_heads, vocab_size, context : int
        Width, width of the feed-forward network, blocks, query heads, key-value heads, tokens, longest sequence.
    tied : bool
        Whether the head is the embedding table.
    """

    dim: int
    hidden_dim: int
    layers: int
    heads: int
    kv_heads: int
    vocab_size: int
    context: int
    tied: bool

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every array, in the order of the file."""
        layers, dim, hidden, half = self.layers, self.dim, self.hidden_dim, self.dim // self.heads // 2
        kv = self.kv_heads * (dim // self.heads)
        shapes: dict[str, tuple[int, ...]] = {
            "embedding": (self.vocab_size, dim),
            "attention_norm": (layers, dim),
            "wq": (layers, dim, dim),
            "wk": (layers, kv, dim),
            "wv": (layers, kv, dim),
            "wo": (layers, dim, dim),
            "ffn_norm": (layers, dim),
            "w1": (layers, hidden, dim),
            "w2": (layers, dim, hidden),
            "w3": (layers, hidden, dim),
            "final_norm": (dim,),
            "cosines": (self.context, half),
            "sines": (self.context, half),
        }
        return shapes if self.tied else shapes | {"head": (self.vocab_size, dim)}


def read_llama2c(path: Path) -> tuple[Llama2cHeader, dict[str, Tensor]]:
    """Read the arrays of a llama2.c checkpoint, legacy format (version 0).

    Parameters
    ----------
    path : Path
        The ``.bin`` file: seven little-endian int32, then float32 arrays.

    Returns
    -------
    Llama2cHeader, dict of str to Tensor
        Sizes, and the arrays by the names of `Llama2cHeader.shapes`.

    Raises
    ------
    ValueError
        The file has another length than its header says, or no such header.
    """
    content = Path(path).read_bytes()
    if len(content) < _HEADER.size:
        raise ValueError(f"{path} has {len(content)} bytes; a llama2.c checkpoint has a header of {_HEADER.size}.")
    dim, hidden_dim, layers, heads, kv_heads, vocab_size, context = _HEADER.unpack_from(content)
    # A negative vocabulary marks a head of its own.
    header = Llama2cHeader(dim, hidden_dim, layers, heads, kv_heads, abs(vocab_size), context, tied=vocab_size > 0)
    if (
        min(dim, hidden_dim, layers, heads, kv_heads, header.vocab_size, context) < 1
        or header.dim % header.heads
        or header.heads % header.kv_heads
    ):
        raise ValueError(f"{path} is not a llama2.c checkpoint of the legacy format: its header reads {header}.")
    shapes = header.shapes()
    expected = _HEADER.size + 4 * sum(map(prod, shapes.values()))
    if len(content) != expected:
        raise ValueError(f"{path} has {len(content)} bytes and its header asks for {expected}: it is truncated.")
    numbers = np.frombuffer(content, dtype="<f4", offset=_HEADER.size)
    ends = accumulate(map(prod, shapes.values()), initial=0)
    arrays = {
        name: torch.from_numpy(numbers[start:stop].reshape(shape).copy())
        for (name, shape), (start, stop) in zip(shapes.items(), pairwise(ends), strict=True)
    }
    return header, arrays


def load_llama2c(path: Path) -> LlamaForCausalLM:
    """Build the Hugging Face model of a llama2.c checkpoint.

    Rotary embeddings turn neighbouring coordinates there and coordinates half a head apart here; the rows of the query
    and key matrices are reordered to match.

    Raises
    ------
    ValueError
        See `read_llama2c`.
    """
    header, arrays = read_llama2c(path)
    config = LlamaConfig(
        vocab_size=header.vocab_size,
        hidden_size=header.dim,
        intermediate_size=header.hidden_dim,
        num_hidden_layers=header.layers,
        num_attention_heads=header.heads,
        num_key_value_heads=header.kv_heads,
        max_position_embeddings=header.context,
        rms_norm_eps=1e-5,
        tie_word_embeddings=header.tied,
        bos_token_id=1,
        eos_token_id=2,
    )
    state = {"model.embed_tokens.weight": arrays["embedding"], "model.norm.weight": arrays["final_norm"]}
    state["lm_head.weight"] = arrays["embedding"] if header.tied else arrays["head"]
    for layer in range(header.layers):
        prefix = f"model.layers.{layer}."
        state |= {
            prefix + "self_attn.q_proj.weight": _half_split(arrays["wq"][layer], header.heads),
            prefix + "self_attn.k_proj.weight": _half_split(arrays["wk"][layer], header.kv_heads),
            prefix + "self_attn.v_proj.weight": arrays["wv"][layer],
            prefix + "self_attn.o_proj.weight": arrays["wo"][layer],
            prefix + "mlp.gate_proj.weight": arrays["w1"][layer],
            prefix + "mlp.down_proj.weight": arrays["w2"][layer],
            prefix + "mlp.up_proj.weight": arrays["w3"][layer],
            prefix + "input_layernorm.weight": arrays["attention_norm"][layer],
            prefix + "post_attention_layernorm.weight": arrays["ffn_norm"][layer],
        }
    model = LlamaForCausalLM(config)
    model.load_state_dict(state)
    return model.eval()


def _half_split(weight: Tensor, heads: int) -> Tensor:
    """Reorder the rows of each head from pairs (0, 1), (2, 3), ... to first members, then second members."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
