r"""MAUVE: the area under the divergence curve of two quantised distributions.

With distributions P and Q on k cells and mixtures :math:`R_\lambda = \lambda P + (1 - \lambda) Q` the curve is

.. math:: \big(e^{-c\, \mathrm{KL}(Q \| R_\lambda)},\ e^{-c\, \mathrm{KL}(P \| R_\lambda)}\big)

for :math:`0 \le \lambda \le 1`, and MAUVE is the area under it: 1 for equal distributions and :math:`c\, B(c + 1, c)`,
0.004 at c = 5, for disjoint ones (Pillutla et al. 2021, NeurIPS 34; Pillutla et al. 2023, JMLR 24).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.llm.evaluation.kmeans import kmeans
from eeqs.llm.evaluation.ratio_measures import fit_ratios

__all__ = ["Mauve", "divergence_curve", "mauve", "mauve_of_histograms", "principal_components"]

# Logits of the mixture weights: dense where the curve bends, whether the overlap is large or small. The area is then
# exact to 1e-3 of itself.
_LOGITS = torch.linspace(-30.0, 30.0, 2401, dtype=torch.float64)


@dataclass(frozen=True)
class Mauve:
    """MAUVE over seeds of k-means.

    Attributes
    ----------
    mean, sd : float
        Over the seeds; ``sd`` is NaN for one.
    values : tuple of float
        Of every seed.
    se : float
        Standard error over documents given the cells, root mean square over seeds; NaN without smoothing.
    n_clusters, dimension : int
        Cells of the quantisation, and coordinates they are made from.
    """

    mean: float
    sd: float
    values: tuple[float, ...]
    se: float
    n_clusters: int
    dimension: int


def mauve(
    human: np.ndarray,
    model: np.ndarray,
    *,
    n_clusters: int | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    scaling: float = 5.0,
    smoothing: float = 0.5,
    explained: float | None = 0.9,
    unit_length: bool = True,
    restarts: int = 5,
    documents: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Mauve:
    r"""MAUVE of two samples of features.

    Parameters
    ----------
    human, model : ndarray of shape (n, d) and (m, d)
        Features of texts, such as those of `eeqs.llm.evaluation.sequence_features`.
    n_clusters : int, optional
        Cells k; a tenth of the smaller sample without it, at least 2, as in the paper.
    seeds : sequence of int
        Of k-means, which is run for each.
    scaling : float
        The constant c.
    smoothing : float
        Added to the count of every cell; 1/2 is the estimator of Krichevsky & Trofimov (1981), 0 that of the 2021
        paper.
    explained : float, optional
        Share of variance that the principal components keep; None for the features themselves.
    unit_length : bool
        Scale features to length one first.
    restarts : int
        Starts of k-means a seed.
    documents : pair of sequences of str, optional
        Document of every human and model text, the clusters of ``se``: a continuation and the text it replaces are of
        one document. Otherwise every text is a cluster.

    Returns
    -------
    Mauve

    Raises
    ------
    DataError
        Features are not finite matrices of one width, or there are fewer texts than cells.
    ValueError
        An option is out of range.
    """
    if scaling <= 0 or smoothing < 0 or not seeds or restarts < 1:
        raise ValueError(
            f"scaling {scaling}, smoothing {smoothing}, {len(seeds)} seeds, {restarts} restarts: too small."
        )
    _check_features(human, model)
    k = max(2, round(min(len(human), len(model)) / 10)) if n_clusters is None else n_clusters
    points = np.concatenate([human, model]).astype(np.float64)
    if not 2 <= k <= len(points):
        raise DataError(f"n_clusters is {k} for {len(points)} texts; pass at least 2 and at most the number of texts.")
    if unit_length:
        length = np.linalg.norm(points, axis=1, keepdims=True)
        points = points / np.where(length > 0, length, 1.0)
    points = points if explained is None else principal_components(points, explained)
    is_human = np.arange(len(points)) < len(human)
    clusters = [str(i) for i in range(len(points))] if documents is None else [*documents[0], *documents[1]]
    if len(clusters) != len(points):
        raise DataError(f"there are {len(clusters)} names of documents for {len(points)} texts.")
    values, errors = [], []
    for seed in seeds:
        cells = kmeans(points, k, np.random.default_rng(seed), restarts=restarts)
        value, error = _quantised(cells, is_human, k, scaling, smoothing, clusters)
        values.append(value)
        errors.append(error)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    se = float(np.sqrt(np.mean(np.square(errors))))
    return Mauve(float(np.mean(values)), sd, tuple(values), se, k, points.shape[1])


def mauve_of_histograms(p: Tensor, q: Tensor, scaling: float = 5.0) -> Tensor:
    """Area under the divergence curve of two probability vectors (k,), differentiable where both are positive."""
    x, y = divergence_curve(p, q, scaling)
    # From (0, 1) along the top to the end of the curve at R = P.
    return -torch.trapezoid(y, x) + x[-1]


def divergence_curve(p: Tensor, q: Tensor, scaling: float = 5.0) -> tuple[Tensor, Tensor]:
    """Points x (L,) falling and y (L,) rising of the divergence curve, from R = Q to R = P.

    Parameters
    ----------
    p, q : Tensor of shape (k,)
        Probabilities.
    scaling : float
    """
    seen = (p > 0) | (q > 0)
    p, q = p[seen], q[seen]
    ends = (torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    of_p = torch.cat([ends[0], torch.sigmoid(_LOGITS), ends[1]])[:, None]
    of_q = torch.cat([ends[1], torch.sigmoid(-_LOGITS), ends[0]])[:, None]
    mixture = of_p * p + of_q * q
    # Not xlogy(one, one / mixture): a cell that both lack would be 0 / 0.
    x, y = (torch.exp(-scaling * (torch.xlogy(one, one) - torch.xlogy(one, mixture)).sum(dim=1)) for one in (q, p))
    return x, y


def principal_components(points: np.ndarray, explained: float) -> np.ndarray:
    """Coordinates (n, r) of the fewest principal components with a share of the variance of points (n, d).

    Raises
    ------
    ValueError
        The share is not in (0, 1].
    """
    if not 0 < explained <= 1:
        raise ValueError(f"explained is {explained}; pass a share of the variance above 0 and up to 1.")
    centred = points - points.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    share = np.cumsum(np.square(sizes))
    # Rounding must not ask for one component more than there are.
    kept = min(int(np.searchsorted(share, explained * share[-1] * (1 - 1e-12))) + 1, len(sizes))
    return left[:, :kept] * sizes[:kept]


def _quantised(
    cells: np.ndarray, is_human: np.ndarray, k: int, scaling: float, smoothing: float, clusters: Sequence[str]
) -> tuple[float, float]:
    """MAUVE of cells (n,), and its standard error by the delta method.

    The gradient along the two histograms gives every text an influence, and MAUVE is to first order the sum of their
    means over human and model texts: two ratios with a clustered covariance.
    """
    counts = [torch.from_numpy(np.bincount(cells[rows], minlength=k)).double() for rows in (is_human, ~is_human)]
    p, q = ((count + smoothing) / (count.sum() + k * smoothing) for count in counts)
    if smoothing == 0:
        return float(mauve_of_histograms(p, q, scaling)), float("nan")
    slopes, value = torch.func.grad_and_value(mauve_of_histograms, argnums=(0, 1))(p, q, scaling)
    shrunk = [
        (slope * count.sum() / (count.sum() + k * smoothing)).numpy()
        for slope, count in zip(slopes, counts, strict=True)
    ]
    influence = np.column_stack(
        [np.where(rows, slope[cells], 0.0) for rows, slope in zip((is_human, ~is_human), shrunk, strict=True)]
    )
    fit = fit_ratios(influence, np.column_stack([is_human, ~is_human]).astype(float), clusters, ["human", "model"])
    return float(value), float(fit.delta(lambda theta: theta.sum()).bse.iloc[0])


def _check_features(human: np.ndarray, model: np.ndarray) -> None:
    for name, part in (("human", human), ("model", model)):
        if part.ndim != 2 or not len(part) or not np.isfinite(part).all():
            raise DataError(f"{name} features have shape {part.shape}; pass finite numbers (n, d), n at least 1.")
    if human.shape[1] != model.shape[1]:
        raise DataError(f"human features have {human.shape[1]} coordinates, model features {model.shape[1]}.")
