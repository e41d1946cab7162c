"""Hugging Face models as back-ends; the only part of eeqs that imports transformers."""

from eeqs.llm.huggingface.backend import HuggingFaceBackend
from eeqs.llm.huggingface.config import PerturbedConfig
from eeqs.llm.huggingface.parameters import kernel_parameters, perturbation_parameters
from eeqs.llm.huggingface.perturbed import PerturbedCausalLM, perturb

__all__ = [
    "HuggingFaceBackend",
    "PerturbedCausalLM",
    "PerturbedConfig",
    "kernel_parameters",
    "perturb",
    "perturbation_parameters",
]
