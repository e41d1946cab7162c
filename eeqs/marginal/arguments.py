"""Numbers given to the constructor of a perturbation, checked at the door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Numbers", "check_dim", "numbers"]

Numbers: TypeAlias = float | Sequence[float] | Tensor
"""One number for all entries, or one an entry."""


def check_dim(dim: int, least: int = 1) -> int:
    """Return ``dim``; raise ValueError below ``least``."""
    if dim < least:
        raise ValueError(f"dim is {dim}; this perturbation needs an embedding of dimension {least} at least.")
    return dim


def numbers(name: str, value: Numbers, size: int, *, expand: bool = False, log: bool = False) -> Tensor:
    """Float64 copy of ``value``, of shape () or (size,).

    Parameters
    ----------
    name : str
        For error messages.
    value : float, sequence of float or Tensor
    size : int
    expand : bool
        Repeat a single number ``size`` times.
    log : bool
        The value is a logarithm, for which minus infinity stands for zero; otherwise it must be finite.

    Raises
    ------
    ValueError
        If the shape is another one, or a value is out of range.
    """
    given = torch.as_tensor(value, dtype=torch.float64).detach()
    if given.shape not in ((), (size,)):
        raise ValueError(f"{name} has shape {tuple(given.shape)}; pass one number or {size} of them.")
    allowed = (given < torch.inf) if log else given.isfinite()
    if not bool(allowed.all()):
        raise ValueError(f"{name} contains {float(given[~allowed].flatten()[0])}; pass finite numbers.")
    return (given.expand(size) if expand else given).clone()
