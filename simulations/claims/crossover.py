"""Where a curve of geometric means falls below a level, with a bootstrap over replicates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from simulations.rates import Interval

__all__ = ["crossover", "ratio_of_crossovers"]

Array = np.ndarray

_SAMPLES = 2000


def crossover(logs: pd.DataFrame, level: float, *, error: float = 0.05, seed: int = 0) -> Interval:
    """First place where the mean curve passes below a level, by log-linear interpolation.

    Parameters
    ----------
    logs : pandas.DataFrame
        Logarithms of a quantity, one row a replicate and one column a place, in increasing order; see
        `simulations.claims.paired.log_estimates`. Replicates are resampled whole; one with a NaN is left out.
    level : float
        The level, not its logarithm.
    error : float
        One minus the level of the percentile interval.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Interval
        A crossing outside the places is put at their nearer end: an interval that ends there may be too short.
        NaN with fewer than two replicates.
    """
    return _interval(*_crossings(logs, level, seed), error)


def ratio_of_crossovers(
    first: pd.DataFrame, second: pd.DataFrame, level: float, *, error: float = 0.05, seed: int = 0
) -> Interval:
    """Crossing of the first curve over that of the second, whose replicates are others; see `crossover`."""
    streams = np.random.SeedSequence(seed).generate_state(2)
    (one, draws), (other, other_draws) = (
        _crossings(logs, level, int(stream)) for logs, stream in zip((first, second), streams, strict=True)
    )
    return _interval(one / other, draws / other_draws, error)


def _crossings(logs: pd.DataFrame, level: float, seed: int) -> tuple[float, Array]:
    """Crossing of the mean curve and of its bootstrap copies, (samples,)."""
    logs = logs.dropna()
    if len(logs) < 2:
        return np.nan, np.full(1, np.nan)
    places, values = np.log(logs.columns.to_numpy(dtype=float)), logs.to_numpy(dtype=float) - np.log(level)
    index = np.random.default_rng(seed).integers(len(values), size=(_SAMPLES, len(values)))
    return _cross(places, values.mean(axis=0)), np.array([_cross(places, values[rows].mean(axis=0)) for rows in index])


def _cross(places: Array, heights: Array) -> float:
    below = np.flatnonzero(heights < 0)
    if not len(below) or below[0] == 0:
        return float(np.exp(places[0] if len(below) else places[-1]))
    end = below[0]
    share = heights[end - 1] / (heights[end - 1] - heights[end])
    return float(np.exp(places[end - 1] + share * (places[end] - places[end - 1])))


def _interval(estimate: float, draws: Array, error: float) -> Interval:
    low, high = np.quantile(draws, [error / 2, 1 - error / 2])
    return Interval(estimate, float(low), float(high), float(np.std(draws)))
