"""NEFTune: uniform noise on the embeddings in training, none in prediction."""

from __future__ import annotations

from eeqs.llm.methods.exact_prefix import exact_prefix
from eeqs.llm.methods.method import Method, equations_of_one_sample
from eeqs.marginal.perturbations.neftune import NEFTune

__all__ = ["neftune"]


def neftune(alpha: float = 5.0, *, length: int) -> Method:
    r"""Uniform noise in training, :math:`\alpha / \sqrt{L d}` times a point of :math:`(-1, 1)^d`; none in prediction.

    Parameters
    ----------
    alpha : float
        5, 10 and 15 in the paper. The noise is in the units of the embeddings, not of their spread, as published.
    length : int
        L, the number of tokens of a training row.

    References
    ----------
    Jain et al. (2024) NEFTune: noisy embeddings improve instruction finetuning, ICLR.
    """
    return Method(
        f"neftune_{alpha:g}",
        f"uniform noise of NEFTune with alpha {alpha:g} in training, none in prediction",
        lambda backend, _: NEFTune(backend.dim, alpha, length),
        equations_of_one_sample(),
        inference_draws=1,
        predictor=exact_prefix,
    )
