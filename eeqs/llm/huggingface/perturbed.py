"""A perturbed model that behaves like the Hugging Face causal language model it wraps."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from eeqs.llm.huggingface.backend import HuggingFaceBackend
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.structure import describe, rebuild
from eeqs.marginal import scores
from eeqs.marginal.draws import Draws, antithetic, as_draws, iid, shifted_grid, sobol
from eeqs.marginal.protocols import Perturbation
from eeqs.marginal.scores import Score, cross_fitted

__all__ = ["PerturbedCausalLM", "PerturbedConfig", "perturb"]

_DESIGNS = {"iid": iid, "antithetic": antithetic, "Sobol": sobol, "grid": shifted_grid}
_SCORES = {name: found for name in scores.__all__ if isinstance(found := getattr(scores, name), Score)}


class PerturbedConfig(PreTrainedConfig):
    """Configuration of `PerturbedCausalLM`: that of the wrapped model, and how it is perturbed."""

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
        latent_seed: int = 0,
        chunk: int = 256,
        **options: Any,
    ) -> None:
        self.language_model, self.perturbation = language_model or {}, perturbation or {}
        self.score, self.inference_draws = score, inference_draws
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


class PerturbedCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model with a learnable perturbation of its embedded prefix; build one with `perturb`."""

    config_class = PerturbedConfig
    base_model_prefix = ""
    _supports_sdpa = True
    _keep_in_fp32_modules = ["perturbation"]  # noqa: RUF012 - read by transformers
    accepts_loss_kwargs = True

    def __init__(
        self, config: PerturbedConfig, model: PreTrainedModel | None = None, perturbation: nn.Module | None = None
    ) -> None:
        super().__init__(config)
        inner = AutoModelForCausalLM.from_config(config.base_config()) if model is None else model
        drawn = rebuild(config.perturbation) if perturbation is None else perturbation
        self.perturbed = PerturbedLM(
            HuggingFaceBackend(inner),
            cast("Perturbation", drawn),  # checked there
            _SCORES[config.score],
            draws=_DESIGNS[config.design](config.n_draws, config.groups),
            inference_draws=config.inference_draws,
            seed=config.latent_seed,
            chunk=config.chunk,
        )
        tied = getattr(inner, "_tied_weights_keys", None) or {}
        prefix = "perturbed.backend.model."
        self._tied_weights_keys = {prefix + name: prefix + source for name, source in dict(tied).items()}
        if inner.generation_config is not None:
            self.generation_config = inner.generation_config
        self.post_init()

    @property
    def language_model(self) -> PreTrainedModel:
        """The wrapped model."""
        return cast("HuggingFaceBackend", self.perturbed.backend).model

    def _init_weights(self, module: nn.Module) -> None:
        """Leave the weights alone: the wrapped model and the perturbation come initialised or are loaded."""

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embeddings of the wrapped model."""
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """Return the head of the wrapped model."""
        return self.language_model.get_output_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        segment_ids: Tensor | None = None,
        num_items_in_batch: float | Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Surrogate loss of labels, and outside training the log of the mixture mean as logits.

        Parameters
        ----------
        input_ids, attention_mask, labels : Tensor of shape (B, T)
            As for any causal language model; labels are shifted inside.
        segment_ids : Tensor of shape (B, T), optional
            Documents of rows that hold several.
        num_items_in_batch : float or Tensor, optional
            Predicted tokens of all micro-batches and processes of a step: what the summed loss is divided by.
        """
        loss = None
        if labels is not None:
            loss = self.perturbed.loss(
                input_ids, labels, attention_mask=attention_mask, segment_ids=segment_ids, total=num_items_in_batch
            )
        logits = None
        if labels is None or not self.training:
            logits = self.perturbed.log_probabilities(input_ids, attention_mask=attention_mask, segment_ids=segment_ids)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

    def prepare_inputs_for_generation(self, input_ids: Tensor, *_: Any, **kwargs: Any) -> dict[str, Any]:
        """Pass the whole prefix at every token: its latents are new each time."""
        return {"input_ids": input_ids, "attention_mask": kwargs.get("attention_mask")}


def perturb(
    model: PreTrainedModel,
    perturbation: nn.Module,
    score: Score = cross_fitted,
    n_draws: int | Draws = 4,
    *,
    inference_draws: int = 16,
    seed: int = 0,
    chunk: int = 256,
) -> PerturbedCausalLM:
    """Wrap a causal language model so that its embedded prefix is perturbed.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model; it is wrapped, not copied.
    perturbation : Perturbation
        Member of `eeqs.marginal` of the embeddings' dimension; taken to float32.
    score : Score
        Surrogate loss to train by.
    n_draws : int or Draws
        Draws a position in training.
    inference_draws, seed, chunk
        See `eeqs.llm.PerturbedLM`.

    Returns
    -------
    PerturbedCausalLM
    """
    design = as_draws(n_draws)
    if design.name not in _DESIGNS or _SCORES.get(score.name) is not score:
        raise ValueError(
            f"{score.name} with {design}: a file names a score and a design of draws of eeqs.marginal; use one of "
            f"{', '.join(_SCORES)} and {', '.join(_DESIGNS)}, or PerturbedLM for others."
        )
    config = PerturbedConfig(
        language_model=model.config.to_dict(),
        perturbation=describe(perturbation.float()),
        score=score.name,
        n_draws=len(design),
        groups=design.groups,
        design=design.name,
        inference_draws=inference_draws,
        latent_seed=seed,
        chunk=chunk,
    )
    return PerturbedCausalLM(config, model, perturbation)


AutoConfig.register(PerturbedConfig.model_type, PerturbedConfig)
AutoModelForCausalLM.register(PerturbedConfig, PerturbedCausalLM)
