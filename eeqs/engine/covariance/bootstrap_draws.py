"""What a bootstrap leaves: draws, their covariance and intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from eeqs.engine.errors import DataError, Status

__all__ = ["BootstrapDraws"]


@dataclass(frozen=True)
class BootstrapDraws:
    """Refits of a bootstrap.

    Attributes
    ----------
    params : Series of length p
        The estimate from the data as they are.
    draws : DataFrame of shape (R, p)
        Refits that converged.
    failures : dict of Status to int
        Refits that did not, by their status; empty when all did.
    acceleration : Series of length p
        Acceleration of BCa intervals, from the influence of every unit.
    """

    params: pd.Series
    draws: pd.DataFrame
    failures: dict[Status, int]
    acceleration: pd.Series

    @property
    def covariance(self) -> pd.DataFrame:
        """Covariance (p, p) of the draws around their mean."""
        return self.draws.cov()

    @property
    def bse(self) -> pd.Series:
        """Standard deviations of the draws."""
        return self.draws.std().rename("bse")

    @property
    def bias(self) -> pd.Series:
        """Mean of the draws minus the estimate."""
        return (self.draws.mean() - self.params).rename("bias")

    def conf_int(self, alpha: float = 0.05, kind: str = "percentile") -> pd.DataFrame:
        r"""Intervals of level ``1 - alpha``: a frame with columns 0 (lower) and 1 (upper).

        Parameters
        ----------
        alpha : float
        kind : {"percentile", "basic", "bca"}
            With q the quantiles of the R draws, at :math:`(R+1)` times the level as in Davison & Hinkley (1997, ch. 5):
            percentile :math:`[q_{\alpha/2}, q_{1-\alpha/2}]`; basic
            :math:`[2\hat\theta - q_{1-\alpha/2}, 2\hat\theta - q_{\alpha/2}]`; BCa (Efron 1987) the quantiles at
            :math:`\Phi(z_0 + (z_0 + z)/(1 - a (z_0 + z)))` for :math:`z = \Phi^{-1}(\alpha/2)` and
            :math:`\Phi^{-1}(1-\alpha/2)`, with :math:`\Phi(z_0)` the share of draws below the estimate.

        Raises
        ------
        ValueError
            If alpha or kind is unknown.
        DataError
            If the level needs more replicates, or all draws lie on one side of the estimate (BCa).
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}; pass a number between 0 and 1, such as 0.05 for 95 % intervals.")
        if kind not in ("percentile", "basic", "bca"):
            raise ValueError(f'unknown kind "{kind}"; use "percentile", "basic" or "bca".')
        levels = np.tile([alpha / 2, 1 - alpha / 2], (len(self.params), 1))
        if kind == "bca":
            levels = self._corrected(special.ndtri(levels))
        least = 1 / (len(self.draws) + 1)
        if not ((levels >= least) & (levels <= 1 - least)).all():
            raise DataError(f"{len(self.draws)} draws do not reach the tail of this interval; raise replicates.")
        draws = self.draws.to_numpy()
        bounds = np.stack([np.quantile(draws[:, j], row, method="weibull") for j, row in enumerate(levels)])
        if kind == "basic":
            bounds = 2 * self.params.to_numpy()[:, None] - bounds[:, ::-1]
        return pd.DataFrame(bounds, index=self.params.index)

    def _corrected(self, normal: np.ndarray) -> np.ndarray:
        """Levels (p, 2) corrected for bias and acceleration, from normal quantiles (p, 2)."""
        draws, estimate = self.draws.to_numpy(), self.params.to_numpy()
        below = (draws < estimate).mean(0) + (draws == estimate).mean(0) / 2
        one_sided = (below == 0) | (below == 1)
        if one_sided.any():
            name = self.params.index[one_sided.argmax()]
            raise DataError(f'all draws of "{name}" lie on one side of the estimate; use the percentile interval.')
        middle = special.ndtri(below)[:, None]
        shifted = middle + normal
        levels: np.ndarray = special.ndtr(middle + shifted / (1 - self.acceleration.to_numpy()[:, None] * shifted))
        return levels
