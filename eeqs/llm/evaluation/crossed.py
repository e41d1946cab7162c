r"""Variance of a mean over training seeds and documents, which are crossed: every seed meets every document.

The random-effects model is :math:`\hat\theta_s = \theta + a_s + \bar b + \bar e_s`, with effects of S seeds of variance
:math:`\tau^2`, of G documents, and of their interaction. Given the seeds, the document-clustered covariance C of
:math:`(\hat\theta_1, \dots, \hat\theta_S)` has :math:`\mathrm{var}(\bar b + \bar e_s)` on its diagonal and
:math:`\mathrm{var}(\bar b)` off it, so that

.. math::
    V_D &= S^{-2}\, 1^\top C 1, \qquad
    V_S = \frac{1}{S (S - 1)} \sum_s (\hat\theta_s - \bar\theta)^2, \\
    V_{DS} &= \frac{1}{S (S - 1)} \Big(\mathrm{tr}\, C - \frac{1^\top C 1}{S}\Big), \qquad
    V = V_D + \max(V_S - V_{DS},\ 0) .

:math:`V_D` and :math:`V_S` both hold the interaction, whose share :math:`V_{DS}` is taken out once: inclusion and
exclusion as in Cameron, Gelbach & Miller (2011, JBES 29), with the mean squares of the crossed design (Searle, Casella
& McCulloch 1992, Variance Components, ch. 4) in place of raw cross products, so that :math:`V_D + V_S - V_{DS}` is
unbiased for few seeds too; the maximum makes it a little larger where seeds hardly differ.
:math:`\tau^2 = S (V_S - V_{DS})`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from eeqs.engine.errors import DataError

__all__ = ["Crossed", "crossed"]


@dataclass(frozen=True)
class Crossed:
    r"""A mean over seeds, and where its variance comes from.

    Attributes
    ----------
    estimate : float
        Mean over seeds.
    se_documents : float
        For other documents and the same seeds, :math:`V_D^{1/2}`.
    se_seeds : float
        For other seeds and the same documents, :math:`V_S^{1/2}`.
    se : float
        For other seeds and other documents, :math:`V^{1/2}`.
    df : float
        Degrees of freedom of ``se`` by Satterthwaite's formula.
    seed_sd : float
        :math:`\tau`, the standard deviation of a seed beyond what finitely many documents add; 0 where none is found.
    """

    estimate: float
    se_documents: float
    se_seeds: float
    se: float
    df: float
    seed_sd: float

    def interval(self, alpha: float) -> tuple[float, float]:
        """Interval of level ``1 - alpha`` for new seeds and documents, by t."""
        half = -special.stdtrit(self.df, alpha / 2) * self.se
        return self.estimate - half, self.estimate + half


def crossed(values: np.ndarray, covariance: np.ndarray, n_clusters: int) -> Crossed:
    r"""Combine the estimates of S seeds; formulas are in the module's docstring.

    Parameters
    ----------
    values : ndarray of shape (S,)
        Estimates by seed.
    covariance : ndarray of shape (S, S)
        Their document-clustered covariance C.
    n_clusters : int
        Number of clusters G that C is from.

    Returns
    -------
    Crossed
        Degrees of freedom are :math:`V^2 / (V_D^2 / (G - 1) + V_S^2 / (S - 1) + V_{DS}^2 / ((G - 1)(S - 1)))`
        (Satterthwaite 1946, Biometrics Bulletin 2), at least ``min(G, S) - 1``.

    Raises
    ------
    DataError
        There is one seed only.
    """
    seeds = len(values)
    if seeds < 2:
        raise DataError("there is one seed; the variation between seeds needs two or more.")
    total = covariance.sum() / seeds
    documents = max(float(total / seeds), 0.0)
    between = float(values.var(ddof=1) / seeds)
    interaction = max(float((covariance.trace() - total) / (seeds * (seeds - 1))), 0.0)
    own = max(between - interaction, 0.0)
    variance = documents + own
    squares = (
        documents**2 / (n_clusters - 1) + between**2 / (seeds - 1) + interaction**2 / ((n_clusters - 1) * (seeds - 1))
    )
    least = float(min(n_clusters, seeds) - 1)
    df = max(variance**2 / squares, least) if squares > 0 else least
    return Crossed(float(values.mean()), documents**0.5, between**0.5, variance**0.5, df, (seeds * own) ** 0.5)
