"""TAIA: tune all parameters, predict with the updates of attention only."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from eeqs.llm.methods.attention import is_attention, taia_state
from eeqs.llm.methods.method import THETA, Method, equations_of_one_sample
from eeqs.llm.perturbed import PerturbedLM
from eeqs.marginal.perturbations.identity import Identity

__all__ = ["taia"]


def taia(is_attention: Callable[[str], bool] = is_attention) -> Method:
    """Plain training of all parameters; in prediction all but those of attention are what they were before it.

    Parameters
    ----------
    is_attention : callable
        Tells a parameter of attention from its name in the back-end; see `eeqs.llm.methods.attention`.

    References
    ----------
    Jiang et al. (2024) TAIA: large language models are out-of-distribution data learners, NeurIPS.
    """
    return Method(
        "taia",
        "next-token training of all parameters, attention updates alone kept in prediction",
        lambda backend, _: Identity(backend.dim),
        equations_of_one_sample(),
        inference_draws=1,
        predictor=partial(_attention_of, is_attention=is_attention),
    )


def _attention_of(
    model: PerturbedLM, initial: Mapping[str, Tensor], *, is_attention: Callable[[str], bool]
) -> PerturbedLM:
    """Merge in a copy, so that training can go on."""
    merged = copy.deepcopy(model)
    merged.zero_grad()
    backend = merged.backend
    assert isinstance(backend, nn.Module)  # noqa: S101 - PerturbedLM has checked it
    backend.load_state_dict(taia_state(_of_backend(initial), _of_backend(model.state_dict()), is_attention))
    return merged


def _of_backend(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(THETA): tensor for name, tensor in state.items() if name.startswith(THETA)}
