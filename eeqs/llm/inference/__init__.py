"""Inference for the parameters phi of a perturbation whose kernel is frozen, with documents as clusters."""

from eeqs.llm.inference.diagnosis import Diagnosis, diagnose
from eeqs.llm.inference.estimation import estimate_perturbation, with_estimate
from eeqs.llm.inference.influence import document_influence, leave_document_out
from eeqs.llm.inference.psi import perturbation_psi
from eeqs.llm.inference.sampling import sample_text
from eeqs.llm.inference.stream import document_stream
from eeqs.llm.inference.zero_noise import zero_noise_test

__all__ = [
    "Diagnosis",
    "diagnose",
    "document_influence",
    "document_stream",
    "estimate_perturbation",
    "leave_document_out",
    "perturbation_psi",
    "sample_text",
    "with_estimate",
    "zero_noise_test",
]
