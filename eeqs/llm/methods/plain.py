"""Next-token training without a perturbation."""

from __future__ import annotations

from eeqs.llm.methods.method import Method, equations_of_one_sample
from eeqs.marginal.perturbations.identity import Identity

__all__ = ["plain"]


def plain() -> Method:
    """Maximum likelihood of the next token given the exact prefix."""
    return Method(
        "plain",
        "next-token training on the exact prefix",
        lambda backend, _: Identity(backend.dim),
        equations_of_one_sample(),
        inference_draws=1,
    )
