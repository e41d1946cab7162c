"""Which parameters of a checkpoint are those of attention, and a checkpoint that keeps the training of these alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from eeqs.engine.errors import DataError

__all__ = ["is_attention", "taia_adapter", "taia_state"]

# Llama and its kin, OPT: self_attn. GPT-2, MPT: attn. GPT-NeoX: attention. Falcon, BLOOM: self_attention. The last
# alternative is eeqs.llm.ToyTransformer. Whole components of the path only: post_attention_layernorm is none.
_ATTENTION = re.compile(r"(?:^|\.)(?:(?:self_)?(?:attn|attention)|blocks\.\d+\.(?:attend|project))\.")
_FACTOR = re.compile(r"\.lora_(?:embedding_)?([AB])(?:\.|$)")
_MOST_NAMED = 12


def is_attention(name: str) -> bool:
    """Whether a parameter belongs to an attention module, by the modules in its dotted name."""
    return _ATTENTION.search(name) is not None


def taia_state(
    initial: Mapping[str, Tensor], trained: Mapping[str, Tensor], is_attention: Callable[[str], bool] = is_attention
) -> dict[str, Tensor]:
    """Take attention from the trained state and everything else from the initial one.

    Works on the state of a whole model, of one that peft has wrapped, and of an adapter alone.

    Parameters
    ----------
    initial, trained : mapping of str to Tensor
        States before and after training, with the same names and shapes.
    is_attention : callable
        Tells from the name of a tensor; the default knows the names of usual architectures.

    Returns
    -------
    dict of str to Tensor
        The given tensors themselves, not copies, in the order of ``trained``.

    Raises
    ------
    DataError
        Names or shapes differ, or no name is one of attention.

    References
    ----------
    Jiang et al. (2024) TAIA: large language models are out-of-distribution data learners, NeurIPS.
    """
    if odd := sorted(initial.keys() ^ trained.keys()):
        raise DataError(f"only one of the two states has {_listed(odd)}; pass two states of the same model.")
    if odd := [name for name in trained if initial[name].shape != trained[name].shape]:
        raise DataError(f"the two states have other shapes of {_listed(odd)}; pass two states of the same model.")
    _check_found(trained, is_attention)
    return {name: tensor if is_attention(name) else initial[name] for name, tensor in trained.items()}


def taia_adapter(
    trained: Mapping[str, Tensor], is_attention: Callable[[str], bool] = is_attention
) -> dict[str, Tensor]:
    """Switch off all of a LoRA adapter but its updates of attention, without the adapter from before training.

    Parameters
    ----------
    trained : mapping of str to Tensor
        State of an adapter under the names of peft, with or without the adapter's own.
    is_attention : callable
        See `taia_state`.

    Returns
    -------
    dict of str to Tensor
        Outside attention the second factor, ``lora_B``, is zero.

    Raises
    ------
    DataError
        The state is no adapter, trains more than LoRA factors outside attention, or nothing of attention.

    Notes
    -----
    Right for adapters that start at zero, as the usual ones do. Those whose start changes the base weights (PiSSA,
    OLoRA, CorDA) need `taia_state` with the initial adapter.
    """
    factor = {name: match[1] for name in trained if (match := _FACTOR.search(name))}
    if not factor:
        raise DataError(
            f"no LoRA factors among {_listed(_modules(trained))}; pass the state of an adapter, or that of a whole "
            "model with its initial one to taia_state."
        )
    _check_found(trained, is_attention)
    rest = [name for name in trained if not is_attention(name)]
    if odd := [name for name in rest if name not in factor]:
        raise DataError(f"{_listed(odd)} are trained in full; use taia_state with the initial state.")
    off = {name for name in rest if factor[name] == "B"}
    return {name: torch.zeros_like(tensor) if name in off else tensor for name, tensor in trained.items()}


def _check_found(names: Iterable[str], is_attention: Callable[[str], bool]) -> None:
    modules = _modules(names := list(names))
    if not any(map(is_attention, names)):
        raise DataError(
            f"no attention among the modules {_listed(modules)}; pass is_attention=, which tells it from the name."
        )


def _modules(names: Iterable[str]) -> list[str]:
    """Modules that hold the parameters, layers counted once."""
    return list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", name.rpartition(".")[0] or name) for name in names))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
