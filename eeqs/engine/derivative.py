"""The only derivative code: directional derivatives, Jacobians of the mean, surrogate gradients.

Every function here works on one data set. The engine maps it over replicates with ``torch.func.vmap``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.tree import leaves_of

__all__ = [
    "central_difference",
    "directional",
    "jacobian_of_mean",
    "surrogate_gradient",
    "surrogate_jacobian",
]

# Tangents held at once, in float64 numbers: 64 MiB keeps forward mode from multiplying memory by p.
_TANGENT_BUDGET = 2**23


def directional(function: Callable[[Tensor], Tensor], theta: Tensor) -> tuple[Tensor, Tensor]:
    """Value and derivative along every coordinate of ``theta``, by forward mode.

    Parameters
    ----------
    function : callable
        ``function(theta) -> Tensor`` of any shape S.
    theta : Tensor of shape (p,)

    Returns
    -------
    value : Tensor of shape S
    derivative : Tensor of shape (p, *S)
        One primal evaluation is shared by the p tangents.
    """

    def along(tangent: Tensor) -> tuple[Tensor, Tensor]:
        value, derivative = torch.func.jvp(function, (theta,), (tangent,))[:2]
        return value, derivative

    basis = torch.eye(theta.shape[0], dtype=theta.dtype, device=theta.device)
    value, derivative = torch.func.vmap(along)(basis)
    return value[0], derivative


def jacobian_of_mean(
    psi: Callable[[Tensor, Any], Tensor], theta: Tensor, data: Any, counts: Tensor | None = None
) -> Tensor:
    """Jacobian (q, p) of the mean over observations of ``psi(theta, data)``, by forward mode.

    With ``counts`` (n,) it is the mean over observations of which row i stands for ``counts[i]``.
    """
    n = next(leaves_of(data)).shape[0]
    shares = (
        torch.full((n,), 1 / n, dtype=theta.dtype, device=theta.device) if counts is None else counts / counts.sum()
    )

    def mean(b: Tensor) -> Tensor:
        values = psi(b, data)
        return shares @ (values if values.ndim > 1 else values[:, None])

    def along(tangent: Tensor) -> Tensor:
        derivative: Tensor = torch.func.jvp(mean, (theta,), (tangent,))[1]
        return derivative

    p = theta.shape[0]
    basis = torch.eye(p, dtype=theta.dtype, device=theta.device)
    columns: Tensor = torch.func.vmap(along, chunk_size=max(1, _TANGENT_BUDGET // (n * p)))(basis)
    return columns.mT


def surrogate_gradient(
    inner: Callable[[Tensor, Any], Tensor],
    surrogate: Callable[[Tensor, Tensor, Any], Tensor],
    theta: Tensor,
    data: Any,
) -> Tensor:
    """Per-observation psi (n, p) of a surrogate.

    The chain rule is split at L = inner(theta): one reverse pass gives the gradient in L of all observations and
    p forward passes give dL / dtheta, so no loop over observations is needed. See `eeqs.engine.psi.from_surrogate`.
    """
    level, slope = directional(lambda b: inner(b, data), theta)
    gradient = torch.func.grad(lambda live: surrogate(live, level, data).sum())(level)
    return -(gradient * slope).unsqueeze(1).flatten(1, -2).sum(dim=1).mT


def surrogate_jacobian(
    inner: Callable[[Tensor, Any], Tensor],
    surrogate: Callable[[Tensor, Tensor, Any], Tensor],
    theta: Tensor,
    data: Any,
) -> Tensor:
    """Mean total derivative (p, p) of the psi of a surrogate: forward over reverse, through both copies."""

    def mean(b: Tensor) -> Tensor:
        frozen = inner(b, data)
        return torch.func.grad(lambda c: -surrogate(inner(c, data), frozen, data).mean())(b)

    jacobian: Tensor = torch.func.jacfwd(mean)(theta)
    return jacobian


def central_difference(function: Callable[[Tensor], Tensor], theta: Tensor, steps: Tensor) -> Tensor:
    """Central differences (q, p) of ``function(theta) -> (q,)`` with one step a parameter, ``steps`` (p,)."""
    columns = []
    for j in range(theta.shape[0]):
        up, down = theta.clone(), theta.clone()
        up[j] += steps[j]
        down[j] -= steps[j]
        # The distance between the two points as floats, not twice the step asked for.
        columns.append((function(up) - function(down)) / (up[j] - down[j]))
    return torch.stack(columns, dim=-1)
