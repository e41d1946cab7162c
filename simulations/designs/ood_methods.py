"""The methods of the study ``ood``, each with the setting that in-domain validation chose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from eeqs.llm.methods import (
    Method,
    contextual,
    diagonal,
    eda,
    fixed_gaussian,
    flow,
    hull,
    in_sample,
    isotropic,
    low_rank,
    neftune,
    plain,
    semantic_neighbour,
    split_sample,
    taia,
    token_dropout,
    wordnet_synonyms,
)
from eeqs.llm.methods.perturbations import Build
from eeqs.marginal.scores import Score, cross_fitted, plug_in, single_draw

__all__ = [
    "BASELINES",
    "COMPARED",
    "CONTROLS",
    "DRAWN_METHODS",
    "LEARNED",
    "LEARNING_RATE",
    "LENGTH",
    "MAIN_METHODS",
    "METHODS",
    "REPEATED_METHODS",
    "SCAN_METHODS",
    "TWO_CORES",
    "OODMethod",
    "at",
]

LENGTH = 256
"""Tokens a row."""
LEARNING_RATE = 1e-3
"""Of the kernel, for all methods: what plain training chose."""
PHI_RATE = 5.0
"""Learning rate of the perturbation over the kernel's: the logarithm of a scale moves by about it an update."""


@dataclass(frozen=True)
class OODMethod:
    """A method, and the settings that compete for it.

    Attributes
    ----------
    make : callable
        ``make(value, draws)`` gives the method with ``draws`` at inference.
    candidates : tuple of float
        Settings that the study ``ood_tuning`` compares on in-domain validation; as many for every method that has any.
    chosen : float
        The one that won.
    setting : str
        What the number is.
    passes : int
        Passes an update over all stages, for an estimate of the time.
    """

    make: Callable[[float, int], Method]
    candidates: tuple[float, ...]
    chosen: float
    setting: str
    passes: int = 1


def _eda(alpha: float, _: int) -> Method:
    return eda(wordnet_synonyms(), alpha=alpha)


def _joint(score: Score, draws: int, scale: float, inference_draws: int) -> Method:
    return in_sample(
        f"in_sample_{score.name}",
        isotropic(scale),
        score,
        draws,
        phi_rate=PHI_RATE,
        inference_draws=inference_draws,
    )


def _split(name: str, build: Callable[[float], Build], scale: float, inference_draws: int) -> Method:
    return split_sample(name, build(scale), phi_draws=2, phi_rate=PHI_RATE, splits=1, inference_draws=inference_draws)


_SCALES = (0.3, 0.6, 1.0)
_START = 0.3
"""Scale at which learned perturbations start, in standard deviations of the embeddings; not tuned."""

BASELINES: dict[str, OODMethod] = {
    "plain": OODMethod(lambda _, __: plain(), (1e-3, 2e-3, 4e-3), LEARNING_RATE, "learning rate"),
    "neftune": OODMethod(lambda value, _: neftune(value, length=LENGTH), (5.0, 15.0, 45.0), 15.0, "alpha"),
    "fixed_gaussian": OODMethod(lambda value, m: fixed_gaussian(value, inference_draws=m), _SCALES, 0.3, "scale"),
    "token_dropout": OODMethod(lambda value, _: token_dropout(value), (0.05, 0.1, 0.2), 0.05, "rate"),
    "semantic_neighbour": OODMethod(
        lambda value, m: semantic_neighbour(value, inference_draws=m), (0.05, 0.1, 0.2), 0.05, "rate"
    ),
    "eda": OODMethod(_eda, (0.02, 0.05, 0.1), 0.05, "alpha"),
    "taia": OODMethod(lambda _, __: taia(), (), 0.0, ""),
    "in_sample_single_draw": OODMethod(partial(_joint, single_draw, 1), _SCALES, 0.6, "initial scale"),
    "in_sample_plug_in": OODMethod(partial(_joint, plug_in, 2), (), _START, "initial scale", 2),
    "in_sample_cross_fitted": OODMethod(partial(_joint, cross_fitted, 2), (), _START, "initial scale", 2),
}
LEARNED: dict[str, OODMethod] = {
    f"split_{build.__name__}": OODMethod(
        partial(_split, f"split_{build.__name__}", build), (), _START, "initial scale", 4
    )
    for build in (isotropic, diagonal, contextual, low_rank, hull, flow)
}
COMPARED = (*BASELINES, *LEARNED)
"""Those that the experiment compares."""
CONTROLS: dict[str, OODMethod] = {
    "fixed_gaussian_wide": OODMethod(lambda value, m: fixed_gaussian(value, inference_draws=m), (), 0.66, "scale")
}
"""Fixed noise of the size to which isotropic noise of a split sample grew: what learning adds beside the size."""
METHODS = BASELINES | CONTROLS | LEARNED
SCAN_METHODS = ("plain", "fixed_gaussian", "in_sample_cross_fitted", "split_isotropic")
MAIN_METHODS = ("plain", "neftune", "fixed_gaussian", "in_sample_cross_fitted", "split_isotropic")
"""Those of regimes that are too dear for more on two cores."""
TWO_CORES = tuple(name for name in COMPARED if name not in ("split_low_rank", "split_flow"))
"""Those of little text on two cores."""
DRAWN_METHODS = ("fixed_gaussian", "semantic_neighbour", "split_isotropic", "split_hull")
"""Those that average over draws at inference, which are tested with several numbers of draws."""
REPEATED_METHODS = ("plain", "neftune", "fixed_gaussian", *CONTROLS, "split_isotropic", "split_diagonal")
"""Those that are compared once more, with more training seeds."""


def at(name: str, inference_draws: int, value: float | None = None) -> Method:
    """Return a method of the study with its chosen setting, or another."""
    found = METHODS[name]
    return found.make(found.chosen if value is None else value, inference_draws)
