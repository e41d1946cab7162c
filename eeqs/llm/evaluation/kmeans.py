"""Lloyd's k-means from k-means++ starts."""

from __future__ import annotations

import numpy as np

__all__ = ["assign", "kmeans"]

_STEPS = 500


def kmeans(points: np.ndarray, k: int, rng: np.random.Generator, *, restarts: int = 1) -> np.ndarray:
    """Cluster points (n, d) into at most k clusters.

    Parameters
    ----------
    points : ndarray of shape (n, d)
    k : int
    rng : numpy.random.Generator
    restarts : int
        Starts, of which the one with the least within-cluster sum of squares is kept.

    Returns
    -------
    ndarray of shape (n,)
        Cluster of every point, 0..k-1; a cluster may be empty.

    References
    ----------
    Lloyd (1982) IEEE Trans. Inf. Theory 28; Arthur & Vassilvitskii (2007) SODA.
    """
    found = [_lloyd(points, _spread(points, k, rng)) for _ in range(restarts)]
    return min(found, key=lambda one: one[1])[0]


def assign(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centre (n,) of every point, and the squared distance to it (n,)."""
    squares = np.square(points).sum(axis=1)[:, None] - 2 * points @ centres.T + np.square(centres).sum(axis=1)
    nearest = squares.argmin(axis=1)
    return nearest, squares[np.arange(len(points)), nearest].clip(min=0)


def _spread(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Centres (k, d) drawn one after the other with probability proportional to the squared distance to those drawn."""
    chosen = [int(rng.integers(len(points)))]
    distance = np.square(points - points[chosen[0]]).sum(axis=1)
    for _ in range(k - 1):
        total = distance.sum()
        chosen.append(int(rng.choice(len(points), p=distance / total if total > 0 else None)))
        distance = np.minimum(distance, np.square(points - points[chosen[-1]]).sum(axis=1))
    return points[chosen]


def _lloyd(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    """Clusters and sum of squares, where assignments stop changing."""
    labels, distance = assign(points, centres)
    for _ in range(_STEPS):
        sizes, sums = np.bincount(labels, minlength=len(centres)), np.zeros_like(centres)
        np.add.at(sums, labels, points)
        # An empty cluster keeps its centre.
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
        moved, distance = assign(points, centres)
        if np.array_equal(moved, labels):
            break
        labels = moved
    return labels, float(distance.sum())
