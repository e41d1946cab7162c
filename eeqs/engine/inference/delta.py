"""First-order expansion of functions of the parameters, by automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Linearisation", "by_names", "linearise"]


class Linearisation(NamedTuple):
    """Names, values (m,) and gradients (m, p) of m functions of the parameters."""

    names: tuple[str, ...]
    value: Tensor
    gradient: Tensor


def by_names(function: Callable[[dict[str, Tensor]], Any], names: tuple[str, ...]) -> Callable[[Tensor], Any]:
    """View a function of named scalars as a function of the parameter vector."""
    return lambda theta: function(dict(zip(names, theta.unbind(), strict=True)))


def linearise(function: Callable[[Tensor], Any], theta: Tensor) -> Linearisation:
    """Value and gradient of ``function`` at ``theta`` (p,), by reverse mode.

    Parameters
    ----------
    function : callable
        Returns a scalar, a vector (m,), or a mapping of names to scalars, by torch operations on its argument.

    Raises
    ------
    ValueError
        If the result is of another kind, or not finite, or has a gradient that is not finite or zero: a constant, a
        value cut from differentiation, or a stationary point, where the first-order expansion says nothing.
    """
    labels: list[str] = []

    def stacked(b: Tensor) -> tuple[Tensor, Tensor]:
        names, value = _as_vector(function(b))
        labels[:] = names
        return value, value

    gradient, value = torch.func.jacrev(stacked, has_aux=True)(theta)
    for name, number, row in zip(labels, value.tolist(), gradient, strict=True):
        if not (torch.isfinite(row).all() and abs(number) < float("inf")):
            raise ValueError(f'function "{name}" or its gradient is NaN or infinite at the estimate.')
        if not bool(row.any()):
            raise ValueError(
                f'function "{name}" has a zero gradient at the estimate, so the delta method gives it no standard '
                "error: it is constant, detached from its argument, or stationary there."
            )
    return Linearisation(tuple(labels), value.detach(), gradient.detach())


def _as_vector(result: Any) -> tuple[list[str], Tensor]:
    if isinstance(result, Mapping):
        parts = list(result.values())
        if not parts or not all(isinstance(part, Tensor) and part.ndim == 0 for part in parts):
            raise ValueError("the function returned a mapping whose values are not all scalar tensors.")
        return [str(name) for name in result], torch.stack(parts)
    if not isinstance(result, Tensor) or result.ndim > 1 or result.numel() == 0:
        kind = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
        raise ValueError(f"the function returned {kind}; return a scalar, a vector or a mapping of scalars, in torch.")
    if result.dtype != torch.float64:
        raise ValueError(f"the function returned {result.dtype}; compute it in float64 from its argument.")
    return (
        (["function"], result[None])
        if result.ndim == 0
        else (
            [f"function[{k}]" for k in range(len(result))],
            result,
        )
    )
