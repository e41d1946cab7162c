"""Regression lines with effects shared within clusters, along one dimension or two."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import eeqs

__all__ = ["ClusteredLine", "CrossedLine"]


def _line() -> eeqs.EstimatingFunction:
    return eeqs.moments.least_squares("y", ["x"])


def _residual_variance(theta: Tensor, data: dict[str, Tensor]) -> Tensor:
    """Mean squared residual (R,), with the degrees of freedom of two coefficients."""
    residual = data["y"] - theta[:, :1] - theta[:, 1:] * data["x"]
    return residual.square().sum(dim=1) / (residual.shape[1] - 2)


@dataclass(frozen=True)
class ClusteredLine:
    r"""A line with a random intercept in every cluster, and a regressor that is half shared there.

    .. math:: y_{gi} = x_{gi} / 2 + \tau a_g + e_{gi}, \quad x_{gi} = (u_g + v_{gi}) / \sqrt 2,

    all of a, e, u, v standard normal and independent. Least squares is consistent; with m members a cluster its
    variance is inflated by :math:`1 + (m - 1) \rho_x \rho_y` (Moulton 1986), here about 2.5.

    Attributes
    ----------
    members : int
        Observations m of a cluster.
    effect : float
        Standard deviation :math:`\tau` of the random intercept.
    """

    members: int = 10
    effect: float = 0.7

    stream = "clusters"
    column = 1
    truth = 0.5
    start = (0.0, 0.0)
    numbers = 2
    dispersion = staticmethod(_residual_variance)

    @property
    def psi(self) -> eeqs.EstimatingFunction:
        """Least squares."""
        return _line()

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations in n / m clusters.

        Raises
        ------
        ValueError
            n is not a multiple of the members of a cluster.
        """
        if n % self.members:
            raise ValueError(f"n is {n}: clusters have {self.members} members, so use a multiple of that")
        cluster = torch.arange(n // self.members).repeat_interleave(self.members)
        shared = torch.randn(2, n // self.members, generator=generator, dtype=torch.float64)[:, cluster]
        own = torch.randn(2, n, generator=generator, dtype=torch.float64)
        x = (shared[0] + own[0]) / math.sqrt(2)
        return {"y": self.truth * x + self.effect * shared[1] + own[1], "x": x, "cluster": cluster.double()}


@dataclass(frozen=True)
class CrossedLine:
    r"""A line over pairs of a row and a column, with an effect of every row and of every column.

    .. math:: y_{gh} = x_{gh} / 2 + \tau (a_g + c_h) + e_{gh}, \quad x_{gh} = (u_g + w_h + v_{gh}) / \sqrt 3,

    all standard normal and independent. There are as many rows as columns, and every one of them meets m of the others,
    at equal distances: neither way of clustering alone sees both dependences (Cameron, Gelbach & Miller 2011).

    Attributes
    ----------
    members : int
        Observations m of a row, and of a column.
    effect : float
        Standard deviation :math:`\tau` of both effects.
    """

    members: int = 20
    effect: float = 1.0

    stream = "crossed"
    column = 1
    truth = 0.5
    start = (0.0, 0.0)
    numbers = 2
    dispersion = staticmethod(_residual_variance)

    @property
    def psi(self) -> eeqs.EstimatingFunction:
        """Least squares."""
        return _line()

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations in n / m rows and as many columns.

        Raises
        ------
        ValueError
            n is not a multiple of m, or there are fewer columns than a row meets.
        """
        side = n // self.members
        if n % self.members or side < self.members:
            raise ValueError(f"n is {n}: use a multiple of {self.members}, and at least {self.members**2}")
        row = torch.arange(side).repeat_interleave(self.members)
        column = (row + torch.arange(self.members).repeat(side) * (side // self.members)) % side
        rows, columns = torch.randn(2, 2, side, generator=generator, dtype=torch.float64)
        own = torch.randn(2, n, generator=generator, dtype=torch.float64)
        x = (rows[0][row] + columns[0][column] + own[0]) / math.sqrt(3)
        y = self.truth * x + self.effect * (rows[1][row] + columns[1][column]) + own[1]
        return {"y": y, "x": x, "cluster": row.double(), "column": column.double()}
