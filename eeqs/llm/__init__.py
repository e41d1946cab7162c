"""Language models whose embedded prefix is perturbed: the surrogate losses of `eeqs.marginal` on transformers."""

from eeqs.llm.backend import Backend
from eeqs.llm.latents import row_latents
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.surrogate import surrogate_sum
from eeqs.llm.toy import ToyTransformer

__all__ = ["Backend", "PerturbedLM", "ToyTransformer", "row_latents", "surrogate_sum"]
