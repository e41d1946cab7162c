"""Token dropout: whole tokens are masked at random in training."""

from __future__ import annotations

from eeqs.llm.methods.exact_prefix import exact_prefix
from eeqs.llm.methods.method import Method, equations_of_one_sample
from eeqs.marginal.perturbations.dropout import Dropout

__all__ = ["token_dropout"]


def token_dropout(rate: float = 0.1) -> Method:
    """Set the embedding of a token to zero with a fixed probability in training; the exact prefix in prediction.

    The token stays a target, and its position is still seen.

    Parameters
    ----------
    rate : float
        Probability, 0 <= rate < 1, independent from position to position.

    References
    ----------
    Iyyer et al. (2015) Deep unordered composition rivals syntactic methods for text classification, ACL: word dropout.
    """
    return Method(
        f"token_dropout_{rate:g}",
        f"tokens masked with probability {rate:g} in training, none in prediction",
        lambda backend, _: Dropout(backend.dim, rate, temperature=0.0, per_token=True),
        equations_of_one_sample(),
        inference_draws=1,
        predictor=exact_prefix,
    )
