"""Errors by distance beyond the training support, in bins of half a standard deviation of the noise."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["CLAIMED", "EDGES", "INSIDE", "OUTSIDE", "by_distance", "labels", "reach"]

EDGES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
INSIDE, OUTSIDE = "inside", "outside"
CLAIMED = 2.0
"""Distance up to which the claim is judged: in samples of some hundreds the noise reaches about that far."""


def labels() -> list[str]:
    """Names of the bins: inside, then each half-open one by its far edge."""
    return [INSIDE, *(f"+{edge}" for edge in EDGES[1:])]


def by_distance(distance: Tensor, errors: Tensor) -> dict[str, Tensor]:
    """Average errors (R, G) at points with distances (G,) in each bin, and in all those outside up to `CLAIMED`.

    Raises
    ------
    ValueError
        If a bin holds no point.
    """
    # Points on an edge belong to the bin before it.
    place = torch.bucketize(distance, distance.new_tensor(EDGES) + 1e-6)
    groups = {label: place == index for index, label in enumerate(labels())}
    groups[OUTSIDE] = (distance > 1e-6) & (distance <= CLAIMED + 1e-6)
    empty = [label for label, where in groups.items() if not where.any()]
    if empty:
        raise ValueError(f"no point lies in the bins {empty}: use a finer or longer grid")
    return {label: errors[:, where].mean(dim=1) for label, where in groups.items()}


def reach(distance: Tensor, within: Tensor) -> Tensor:
    """Distance (R,) up to which every point outside the support is within tolerance; 0 where the nearest is not.

    Parameters
    ----------
    distance : Tensor of shape (G,)
    within : bool Tensor of shape (R, G)
    """
    steps = distance[distance > 1e-6].unique()
    good = torch.stack([(within | (distance > step + 1e-6)).where(distance > 1e-6, True).all(dim=1) for step in steps])
    return (steps[:, None] * good).amax(dim=0)
