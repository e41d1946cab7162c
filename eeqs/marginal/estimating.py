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
from eeqs.engine.smoothing import induced_smoothing
from eeqs.marginal.checks import check_embeddings, check_latents
from eeqs.marginal.draws import Draws
from eeqs.marginal.reading import check_score, entries, response_index
from eeqs.marginal.scores import Score

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["equal_log_weights", "estimating_function"]

Prepared: TypeAlias = tuple[Tensor, ...]
"""Embeddings (n, d), what of the response the loss takes (n,), the response and, with draws, latents (n, K, q)."""

# Log-probabilities a quadrature score holds at once, for one tangent: 1 MiB in float64, but no fewer than
# _LEAST_ROWS observations, the axis that is vectorised.
_BLOCK = 2**17
_LEAST_ROWS = 64
# First standard deviation by which parameters are smoothed in a psi that jumps, relative to them.
_FIRST_SMOOTHING = 0.1
# Points of the smoothing, used with both signs: their error is a thirtieth of a standard error.
_SMOOTHING_NODES = 32


def equal_log_weights(n_draws: int, like: Tensor) -> Tensor:
    """Log-weights (K,) of K draws, -log K each, in the dtype and on the device of ``like``."""
    return torch.full((n_draws,), -math.log(n_draws), dtype=like.dtype, device=like.device)


def estimating_function(
    model: Marginal, score: Score, draws: Draws | None, *, prefix: str, response: str, latent: str
) -> EstimatingFunction:
    """Build the estimating function; `eeqs.marginal.Marginal.psi` documents it."""
    score.check_draws(draws)
    check_score(model, score)
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
        index = response_index(fixed, score, y, response)
        if draws is None:
            return x, index, y
        check_latents(fixed, leaves[latent], y.shape, draws, latent)
        return x, index, y, leaves[latent].reshape(*y.shape, len(draws), fixed.latent_dim)

    if draws is None:
        function = from_loss(
            _quadrature_loss(fixed, score, score.nodes or 1), names=fixed.names, columns=(prefix, response)
        )
    else:
        function = _from_draws(fixed, score, draws, (prefix, response, latent))
    function = replace(function, prepare=prepare, start=start)
    if not score.simulates:
        return function
    scale = _FIRST_SMOOTHING * theta.abs().clamp_min(1)
    return induced_smoothing(function, theta.tolist(), scale.tolist(), n_nodes=_SMOOTHING_NODES)


def _from_draws(model: Marginal, score: Score, draws: Draws, columns: tuple[str, ...]) -> EstimatingFunction:
    # The engine wants observations last, scores want classes last: .mT turns (K, V, n) into (K, n, V) and back.
    def turn(read: Tensor) -> Tensor:
        return read if score.simulates else read.mT

    def inner(theta: Tensor, data: Prepared) -> Tensor:
        x, _, y, z = data
        return turn(entries(model, score, draws.size, x, y, z, theta))

    def surrogate(live: Tensor, frozen: Tensor, data: Prepared) -> Tensor:
        return score.loss(turn(live), turn(frozen), data[1], equal_log_weights(score.entries(draws), live))

    return from_surrogate(inner, surrogate, names=model.names, columns=columns)


def _quadrature_loss(model: Marginal, score: Score, nodes: int) -> Callable[[Tensor, Prepared], Tensor]:
    """Loss (n,) in blocks of observations, whose M x block x V log-probabilities are freed one by one."""
    rule = model.quadrature(nodes, model.theta)

    def loss(theta: Tensor, data: Prepared) -> Tensor:
        x, index, y = data
        z, log_weight = (part.to(x) for part in rule)
        size = max(_LEAST_ROWS, _BLOCK // (len(z) * (model.kernel.n_classes or 1)))
        blocks = []
        for rows, which, values in zip(x.split(size), index.split(size), y.split(size), strict=True):
            log_p = entries(model, score, 1, rows, values, z[None], theta)
            blocks.append(score.loss(log_p, log_p, which, log_weight))
        return torch.cat(blocks)

    return loss
