"""A perturbed model that behaves like the Hugging Face causal language model it wraps."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from eeqs.llm.huggingface.backend import HuggingFaceBackend
from eeqs.llm.huggingface.config import PerturbedConfig
from eeqs.llm.huggingface.generation import Continuation, FreshDraw, SharedLatents
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.structure import describe, rebuild
from eeqs.marginal.draws import Draws, as_draws
from eeqs.marginal.protocols import Perturbation
from eeqs.marginal.scores import Score, cross_fitted

__all__ = ["PerturbedCausalLM", "perturb"]


class PerturbedCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model with a learnable perturbation of its embedded prefix; build one with `perturb`."""

    config_class = PerturbedConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _keep_in_fp32_modules = ["perturbation"]  # noqa: RUF012 - read by transformers
    accepts_loss_kwargs = True

    def __init__(
        self, config: PerturbedConfig, model: PreTrainedModel | None = None, perturbation: nn.Module | None = None
    ) -> None:
        super().__init__(config)
        # Labels are shifted inside: Trainer then counts the tokens to predict without the first of every row.
        self.loss_type = "ForCausalLM"
        inner = AutoModelForCausalLM.from_config(config.base_config()) if model is None else model
        drawn = rebuild(config.perturbation) if perturbation is None else perturbation
        self.perturbed = PerturbedLM(
            HuggingFaceBackend(inner),
            cast("Perturbation", drawn),  # checked there
            config.training_score(),
            draws=config.training_draws(),
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

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *inputs: Any, **options: Any) -> Any:
        """Load what ``save_pretrained`` wrote, as any model of transformers.

        Raises
        ------
        ValueError
            A file of weights is damaged, or lacks some: nothing is left to chance numbers.
        """
        wanted = bool(options.pop("output_loading_info", False))
        try:
            loaded: Any = super().from_pretrained(
                pretrained_model_name_or_path, *inputs, output_loading_info=True, **options
            )
        except SafetensorError as error:
            raise ValueError(
                f"the weights in {pretrained_model_name_or_path} are damaged ({error}); copy the folder again, or load "
                "an earlier checkpoint."
            ) from error
        model, info = loaded
        if info["missing_keys"]:
            raise ValueError(
                f"the weights in {pretrained_model_name_or_path} lack {', '.join(sorted(info['missing_keys']))}; the "
                "file is of another model, or was cut short: copy the folder again, or load an earlier checkpoint."
            )
        return (model, info) if wanted else model

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
        logits_to_keep: int = 0,
        latents: Continuation | None = None,
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
        logits_to_keep : int
            Positions at the end of the rows to give logits of; all by default.
        latents : Continuation, optional
            What ``generate`` draws tokens from.

        Raises
        ------
        FloatingPointError
            The loss in training is not finite.
        """
        if latents is not None:
            return CausalLMOutputWithPast(logits=latents.next_token(input_ids, attention_mask)[:, None])
        loss = None
        if labels is not None:
            loss = self.perturbed.loss(
                input_ids, labels, attention_mask=attention_mask, segment_ids=segment_ids, total=num_items_in_batch
            )
            if self.training:
                self._check_finite(loss.detach())
        logits = None
        if labels is None or not self.training:
            logits = self.perturbed.log_probabilities(
                input_ids, attention_mask=attention_mask, segment_ids=segment_ids, last=logits_to_keep
            )
        return CausalLMOutputWithPast(loss=loss, logits=logits)

    @torch.compiler.disable  # looks at a number, which a graph cannot
    def _check_finite(self, loss: Tensor) -> None:
        if not bool(loss.isfinite()):
            raise FloatingPointError(
                f"the loss of training batch {int(self.perturbed.step)} is {float(loss):g}; lower the learning rate, "
                "clip gradients, or train in bfloat16 or float32 rather than float16, from the last checkpoint."
            )

    def generate(  # type: ignore[override]
        self, inputs: Tensor | None = None, generation_config: GenerationConfig | None = None, **options: Any
    ) -> Any:
        """Generate as any model of transformers; a sampled token is drawn given drawn latents.

        Sampling draws latents, then the token given them, by the latent scheme of the model; temperature, top-k and
        top-p then act on the law given the latents. Without sampling every token is chosen by the mixture mean over
        ``inference_draws`` draws, which are a function of the model's seed and the tokens.

        Parameters
        ----------
        inputs : Tensor of shape (B, T), optional
            Prompts, padded on the left.
        generation_config, **options
            As in `transformers.GenerationMixin.generate`.

        Raises
        ------
        ValueError
            Beam search with shared latents.
        """

        def setting(name: str) -> Any:
            stored = getattr(generation_config or self.generation_config, name, None)
            return stored if options.get(name) is None else options[name]

        sampling, shared = bool(setting("do_sample")), self.config.latent == "shared"
        searching = (setting("num_beams") or 1) > 1
        if searching and shared:
            raise ValueError('beam search goes back to earlier positions; it needs a model with latent="fresh".')
        generator = None
        if sampling:
            # From torch's own state, as the tokens: torch.manual_seed repeats a generation.
            seed = int(torch.randint(2**62, ()))
            generator = torch.Generator(self.device).manual_seed(seed)
        if shared:
            draws = 1 if sampling else self.config.inference_draws
            options["latents"] = SharedLatents(self.perturbed, draws, generator)
        elif generator is not None and not searching:
            options["latents"] = FreshDraw(self.perturbed, generator)
        # Keys and values are kept here or not at all.
        options["use_cache"] = False
        return super().generate(inputs, generation_config, **options)  # type: ignore[misc]

    def prepare_inputs_for_generation(self, input_ids: Tensor, *_: Any, **kwargs: Any) -> dict[str, Any]:
        """Pass the whole prefix at every token; shared latents know which part of it they have read."""
        return {
            "input_ids": input_ids,
            "attention_mask": kwargs.get("attention_mask"),
            "latents": kwargs.get("latents"),
            "logits_to_keep": 1,
        }


def perturb(
    model: PreTrainedModel,
    perturbation: nn.Module,
    score: Score = cross_fitted,
    n_draws: int | Draws = 4,
    latent: Literal["fresh", "shared"] = "fresh",
    *,
    inference_draws: int = 16,
    seed: int = 0,
    chunk: int = 256,
) -> PerturbedCausalLM:
    r"""Wrap a causal language model so that its embedded prefix is perturbed.

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
    latent : {"fresh", "shared"}
        Latents of a generation: new ones of the whole prefix for every token, or one a position kept along it; see
        `eeqs.llm.huggingface.generation` for the two laws.
    inference_draws, seed, chunk
        See `eeqs.llm.PerturbedLM`.

    Returns
    -------
    PerturbedCausalLM

    Notes
    -----
    Loss and logits do not depend on the latent scheme. Each of the K passes of a training batch has one latent a
    position for its whole sequence, and the surrogate at t sees only the law of the K values
    :math:`p(y_{t+1} \mid z_{1..t})` at that t, which is the same under both schemes. What differs is the joint law of
    a sequence. The sum of the logits' log-probabilities of the tokens is the log-probability of the sequence under
    fresh latents; under shared ones it is not, for then tokens depend on each other beyond the prefix.
    """
    design = as_draws(n_draws)
    PerturbedConfig.check_storable(score, design)
    config = PerturbedConfig(
        language_model=model.config.to_dict(),
        perturbation=describe(perturbation.float()),
        score=score.name,
        n_draws=len(design),
        groups=design.groups,
        design=design.name,
        inference_draws=inference_draws,
        latent=latent,
        latent_seed=seed,
        chunk=chunk,
    )
    return PerturbedCausalLM(config, model, perturbation)


AutoConfig.register(PerturbedConfig.model_type, PerturbedConfig)
AutoModelForCausalLM.register(PerturbedConfig, PerturbedCausalLM)
