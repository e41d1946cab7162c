"""Configuration of a perturbed model, as stored beside its weights."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from eeqs.marginal import scores
from eeqs.marginal.draws import Draws, antithetic, iid, shifted_grid, sobol
from eeqs.marginal.scores import Score

__all__ = ["PerturbedConfig"]

_DESIGNS = {"iid": iid, "antithetic": antithetic, "Sobol": sobol, "grid": shifted_grid}
_SCORES = {name: found for name in scores.__all__ if isinstance(found := getattr(scores, name), Score)}
_SCHEMES = ("fresh", "shared")


class PerturbedConfig(PreTrainedConfig):
    """Configuration of `PerturbedCausalLM`: that of the wrapped model, and how it is perturbed.

    Parameters
    ----------
    language_model : dict
        Configuration of the wrapped model.
    perturbation : dict
        What `eeqs.llm.structure.describe` gives.
    score, design : str
        Names of a score and a design of draws of `eeqs.marginal`.
    n_draws, groups, inference_draws, latent_seed, chunk : int
        See `eeqs.llm.PerturbedLM`.
    latent : {"fresh", "shared"}
        Latent scheme of generation; see `eeqs.llm.huggingface.perturb`.

    Raises
    ------
    ValueError
        If a name is unknown.
    """

    model_type = "eeqs-perturbed"

    def __init__(
        self,
        language_model: dict[str, Any] | None = None,
        perturbation: dict[str, Any] | None = None,
        score: str = "cross_fitted",
        n_draws: int = 4,
        groups: int = 4,
        design: str = "iid",
        inference_draws: int = 16,
        latent: str = "fresh",
        latent_seed: int = 0,
        chunk: int = 256,
        **options: Any,
    ) -> None:
        for what, name, known in (
            ("score", score, _SCORES),
            ("design", design, _DESIGNS),
            ("latent", latent, _SCHEMES),
        ):
            if name not in known:
                raise ValueError(f"{what} is {name!r}; a stored model has one of {', '.join(known)}.")
        self.language_model, self.perturbation = language_model or {}, perturbation or {}
        self.score, self.inference_draws, self.latent = score, inference_draws, latent
        self.n_draws, self.groups, self.design = n_draws, groups, design
        self.latent_seed, self.chunk = latent_seed, chunk
        options.setdefault("tie_word_embeddings", bool(self.language_model.get("tie_word_embeddings", False)))
        super().__init__(**options)

    def get_text_config(self, *_: Any, **__: Any) -> PreTrainedConfig:
        """Return the configuration of the wrapped model, which knows sizes and special tokens."""
        return self.base_config() if self.language_model else self

    def base_config(self) -> PreTrainedConfig:
        """Return the configuration of the wrapped model."""
        stored = dict(self.language_model)
        return AutoConfig.for_model(stored.pop("model_type"), **stored)

    def training_score(self) -> Score:
        """Return the score to train by."""
        return _SCORES[self.score]

    def training_draws(self) -> Draws:
        """Return the design of draws to train with."""
        return _DESIGNS[self.design](self.n_draws, self.groups)

    @staticmethod
    def check_storable(score: Score, design: Draws) -> None:
        """Refuse, with ValueError, a score or design that a file cannot name."""
        if design.name not in _DESIGNS or _SCORES.get(score.name) != score:
            raise ValueError(
                f"{score.name} with {design}: a file names a score and a design of draws of eeqs.marginal; use one of "
                f"{', '.join(_SCORES)} and {', '.join(_DESIGNS)}, or PerturbedLM for others."
            )
