"""Prediction from the exact prefix, for methods whose noise is there in training only."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from eeqs.llm.perturbed import PerturbedLM
from eeqs.marginal.perturbations.identity import Identity
from eeqs.marginal.scores import single_draw

__all__ = ["exact_prefix"]


def exact_prefix(model: PerturbedLM, _initial: Mapping[str, Tensor]) -> PerturbedLM:
    """Give the kernel of a trained model without its perturbation; the two share their weights.

    A predictor of `eeqs.llm.methods.Method`.
    """
    unperturbed = PerturbedLM(
        model.backend,
        Identity(model.backend.dim),
        single_draw,
        draws=1,
        inference_draws=1,
        seed=model.seed,
        chunk=model.chunk,
    )
    return unperturbed.train(model.training)
