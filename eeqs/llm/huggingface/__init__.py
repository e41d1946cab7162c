"""Hugging Face models as back-ends; the only part of eeqs that imports transformers."""

from eeqs.llm.huggingface.backend import HuggingFaceBackend
from eeqs.llm.huggingface.perturbed import PerturbedCausalLM, PerturbedConfig, perturb

__all__ = ["HuggingFaceBackend", "PerturbedCausalLM", "PerturbedConfig", "perturb"]
