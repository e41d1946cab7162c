"""What a score reads of a model: log-probabilities of classes, log-densities, or simulated responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor

from eeqs.marginal.checks import check_classes
from eeqs.marginal.layout import pool_groups
from eeqs.marginal.scores import Score

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["Read", "check_score", "entries", "response_index"]

Read: TypeAlias = Callable[[Any, Tensor], Tensor]
"""``read(kernel, e) -> Tensor`` of a kernel at perturbed embeddings (K, n, d)."""


def check_score(model: Marginal, score: Score) -> None:
    """Raise TypeError unless the kernel of a model has what a score reads."""
    kernel = type(model.kernel).__name__
    if score.every_class and model.continuous:
        raise TypeError(
            f"{score.name} sums over all classes, and the response of {kernel} is continuous; "
            "use energy, or exact or plug_in, which read its density alone."
        )
    if score.simulates and not model.continuous:
        raise TypeError(f"{score.name} needs a response on the real line, and {kernel} has classes; use cross_fitted.")


def entries(
    model: Marginal, score: Score, size: int, prefix: Tensor, y: Tensor, z: Tensor, theta: Tensor | None = None
) -> Tensor:
    """Evaluate what the loss of ``score`` takes: (G, n, V), (G, n, 1), or (K, n) for simulated responses.

    Parameters
    ----------
    model : Marginal
    score : Score
    size : int
        Draws m in a group.
    prefix, y : Tensor of shape (n, d) and (n,)
    z : Tensor of shape (n, K, q), or (1, M, q) for nodes
        With the noise of the response as its last entry where that is continuous.
    theta : Tensor of shape (p,), optional
    """
    if model.continuous and z.shape[-1] == model.latent_dim:
        noise, z = z[..., -1].mT, z[..., :-1]
        if score.simulates:
            return model.evaluate(prefix, z, theta, lambda kernel, e: kernel.response(e, noise))
    if model.continuous:
        log_p = model.evaluate(prefix, z, theta, lambda kernel, e: kernel.log_density(e, y)[..., None])
    else:
        log_p = model.evaluate(prefix, z, theta)
    return pool_groups(log_p, size if score.pools else 1)


def response_index(model: Marginal, score: Score, y: Tensor, name: str = "y") -> Tensor:
    """Response as the loss takes it: classes as long, 0 for the one column of densities, or y where it is simulated."""
    if score.simulates:
        return y
    if model.continuous:
        return y.new_zeros(y.shape).long()
    check_classes(model, y, name)
    return y.long()
