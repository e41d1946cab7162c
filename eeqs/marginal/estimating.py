"""A marginal model and a score as an estimating function of the engine."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from eeqs.engine.data import Leaves
from eeqs.engine.psi import EstimatingFunction, from_loss, from_surrogate
from eeqs.marginal.checks import check_classes, check_embeddings, check_latents
from eeqs.marginal.draws import Draws
from eeqs.marginal.layout import pool_groups
from eeqs.marginal.scores import Score

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["equal_log_weights", "estimating_function"]

Prepared: TypeAlias = tuple[Tensor, ...]
"""Embeddings (n, d), classes (n,) as long and, for a score with draws, latents (n, K, q)."""

# Log-probabilities a quadrature score holds at once, for one tangent: 1 MiB in float64, but no fewer than
# _LEAST_ROWS observations, the axis that is vectorised.
_BLOCK = 2**17
_LEAST_ROWS = 64


def equal_log_weights(n_draws: int, like: Tensor) -> Tensor:
    """Log-weights (K,) of K draws, -log K each, in the dtype and on the device of ``like``."""
    return torch.full((n_draws,), -math.log(n_draws), dtype=like.dtype, device=like.device)


def estimating_function(
    model: Marginal, score: Score, draws: Draws | None, *, prefix: str, response: str, latent: str
) -> EstimatingFunction:
    """Build the estimating function; `eeqs.marginal.Marginal.psi` documents it."""
    score.check_draws(draws)
    if not model.names:
        raise ValueError("no parameter of the model is learnable; call requires_grad_(True) on the part to estimate.")
    fixed = copy.deepcopy(model).to(torch.float64)
    theta = fixed.theta

    def start(prepared: Prepared) -> Tensor:
        return theta.to(prepared[0].device).expand(*prepared[1].shape[:-1], -1)

    def prepare(leaves: Leaves) -> Prepared:
        assert isinstance(leaves, dict)  # noqa: S101 - for the type checker: named columns were asked for
        x, y = leaves[prefix], leaves[response]
        check_embeddings(fixed, x, y.shape, prefix)
        check_classes(fixed, y, response)
        if draws is None:
            return x, y.long()
        check_latents(fixed, leaves[latent], y.shape, draws, latent)
        return x, y.long(), leaves[latent].reshape(*y.shape, len(draws), -1)

    if draws is None:
        function = from_loss(
            _quadrature_loss(fixed, score, score.nodes or 1), names=fixed.names, columns=(prefix, response)
        )
    else:
        function = _from_draws(fixed, score, draws, (prefix, response, latent))
    return replace(function, prepare=prepare, start=start)


def _from_draws(model: Marginal, score: Score, draws: Draws, columns: tuple[str, ...]) -> EstimatingFunction:
    # The engine wants observations last, scores want classes last: .mT turns (K, V, n) into (K, n, V) and back.
    size = draws.size if score.pools else 1

    def inner(theta: Tensor, data: Prepared) -> Tensor:
        return pool_groups(model.evaluate(data[0], data[2], theta), size).mT

    def surrogate(live: Tensor, frozen: Tensor, data: Prepared) -> Tensor:
        return score.loss(live.mT, frozen.mT, data[1], equal_log_weights(live.shape[0], live))

    return from_surrogate(inner, surrogate, names=model.names, columns=columns)


def _quadrature_loss(model: Marginal, score: Score, nodes: int) -> Callable[[Tensor, Prepared], Tensor]:
    """Loss (n,) in blocks of observations, whose M x block x V log-probabilities are freed one by one."""

    def loss(theta: Tensor, data: Prepared) -> Tensor:
        x, y = data
        z, log_weight = model.quadrature(nodes, x)
        size = max(_LEAST_ROWS, _BLOCK // (len(z) * model.kernel.n_classes))
        blocks = []
        for rows, classes in zip(x.split(size), y.split(size), strict=True):
            log_p = model.evaluate(rows, z[None], theta)
            blocks.append(score.loss(log_p, log_p, classes, log_weight))
        return torch.cat(blocks)

    return loss
