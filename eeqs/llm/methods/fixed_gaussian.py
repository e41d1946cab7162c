"""Gaussian noise of a fixed scale on the embedded prefix."""

from __future__ import annotations

import torch

from eeqs.llm.backend import Backend
from eeqs.llm.methods.method import Method, equations_of_one_sample
from eeqs.marginal.perturbations.gaussian import Gaussian

__all__ = ["embedding_scale", "fixed_gaussian", "gaussian"]


def fixed_gaussian(scale: float, *, inference_draws: int = 16) -> Method:
    """Isotropic noise of a given scale, in training (one draw a position) and in prediction (the mixture mean).

    Parameters
    ----------
    scale : float
        Standard deviation of the noise, in units of `embedding_scale`.
    inference_draws : int
    """
    return Method(
        f"fixed_gaussian_{scale:g}",
        f"Gaussian noise of {scale:g} standard deviations of the embeddings, not learned",
        lambda backend, _: gaussian(backend, scale),
        equations_of_one_sample(),
        inference_draws=inference_draws,
    )


def gaussian(backend: Backend, scale: float, *, diagonal: bool = False) -> Gaussian:
    """Gaussian noise of ``scale`` standard deviations of the embeddings; see `embedding_scale`."""
    sigma = scale * embedding_scale(backend)
    # log_scale: a stochastic gradient then cannot step over zero.
    log_scale = torch.full((backend.dim,) if diagonal else (), sigma).log()
    return Gaussian(backend.dim, log_scale)


@torch.no_grad()
def embedding_scale(backend: Backend) -> float:
    """Root mean square, over tokens and coordinates, of the embeddings about their mean: the unit of noise."""
    vectors = backend.embed(torch.arange(backend.vocab_size)[None])[0].double()
    return float((vectors - vectors.mean(dim=0)).square().mean().sqrt())
