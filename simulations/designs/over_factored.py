r"""Correlated noise whose factor may have more columns than the covariance has rank, seen through a normal kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

import eeqs

__all__ = ["FactorScore", "OverFactored", "aligned_error", "factor_score"]

FactorScore = Callable[[Tensor, Tensor, float], Tensor]
"""``score(factor (d, q), moment (..., d, d), noise) -> (..., d, q)``, linear in the moment."""

# Steps of expectation-maximisation from a random factor.
_CLIMB = 50


def factor_score(factor: Tensor, moment: Tensor, noise: float) -> Tensor:
    r"""Score of the factor of a normal covariance :math:`C = L L^\top + s^2 I`.

    .. math:: \frac{\partial}{\partial L} \log N(r; 0, C) = (C^{-1} r r^\top C^{-1} - C^{-1})\, L.

    Parameters
    ----------
    factor : Tensor of shape (d, q)
        L.
    moment : Tensor of shape (..., d, d)
        :math:`r r^\top` of every observation, or its mean.
    noise : float
        s.

    Returns
    -------
    Tensor of shape (..., d, q)
    """
    inverse = torch.linalg.inv(_total(factor, noise))
    return inverse @ (moment @ (inverse @ factor)) - inverse @ factor


@dataclass(frozen=True)
class OverFactored:
    r"""A normal response around an embedding that carries correlated noise.

    .. math:: x \sim N(0, I_d), \quad e = x + L z, \quad z \sim N(0, I_q), \quad y \mid e \sim N(e, s^2 I_d).

    The law of :math:`r = y - x` is :math:`N(0, \Sigma + s^2 I)` with :math:`\Sigma = L L^\top`, so the score of L has a
    closed form, which is exact and turns with L: :math:`\psi(L Q) = \psi(L) Q` for orthogonal Q. At a root the bread is
    therefore singular along the tangents :math:`L S`, S skew, in every sample. The maximum-likelihood :math:`\Sigma` is
    known too: eigenvalues of the mean of :math:`r r^\top`, less :math:`s^2`, cut off at zero and at the q largest
    (Tipping & Bishop 1999, *JRSS B* 61).

    Attributes
    ----------
    loadings : tuple of tuple of float
        The d rows of a true factor; its rank r is the number of its columns.
    columns : int
        q, columns of the factor that is fitted.
    noise : float
        s, known.
    score : callable
        See `FactorScore`.
    """

    loadings: tuple[tuple[float, ...], ...]
    columns: int
    noise: float = 0.5
    score: FactorScore = factor_score

    @cached_property
    def factor(self) -> Tensor:
        """True factor (d, q), whose columns past the rank are zero."""
        known = torch.tensor(self.loadings, dtype=torch.float64)
        return torch.nn.functional.pad(known, (0, self.columns - known.shape[1]))

    @property
    def sigma(self) -> Tensor:
        """True covariance (d, d) of the noise."""
        return self.factor @ self.factor.mT

    @property
    def rank(self) -> int:
        """True rank r."""
        return len(self.loadings[0])

    @property
    def free_directions(self) -> int:
        r"""Dimension of the null space of the expected bread at the truth.

        That of :math:`\Delta \mapsto \Delta L^\top + L \Delta^\top`, whose image has dimension
        :math:`d r - r (r - 1) / 2`.
        """
        d, r = len(self.factor), self.rank
        return d * self.columns - (d * r - r * (r - 1) // 2)

    def psi(self) -> eeqs.EstimatingFunction:
        """Estimating function of the entries of the factor, row by row; reads ``x`` and ``y``, both (n, d)."""

        def of_entries(theta: Tensor, moment: Tensor) -> Tensor:
            return self.score(theta.reshape(self.factor.shape), moment, self.noise).flatten(-2)

        def mean_jacobian(theta: Tensor, moment: Tensor) -> Tensor:
            # Psi is linear in the moment, so the Jacobian of its mean needs one evaluation at the mean moment.
            mean = moment.mean(dim=0)
            slope: Tensor = torch.func.jacfwd(lambda b: of_entries(b, mean))(theta)
            return slope

        rows, columns = self.factor.shape
        names = tuple(f"factor[{j},{k}]" for j in range(rows) for k in range(columns))
        return eeqs.EstimatingFunction(of_entries, names, ("x", "y"), prepare=_moments, mean_jacobian=mean_jacobian)

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n observations, which do not depend on the number of columns fitted."""
        d, loadings = len(self.factor), self.factor[:, : self.rank]
        x, z, noise = (torch.randn(n, width, generator=generator, dtype=torch.float64) for width in (d, self.rank, d))
        return {"x": x, "y": x + z @ loadings.mT + self.noise * noise}

    def start(self, data: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        r"""Start (d q,): a factor of random entries after steps of expectation-maximisation.

        With :math:`M = C^{-1} L` and the mean moment S, :math:`L \leftarrow S M (I - L^\top M + M^\top S M)^{-1}`
        (Rubin & Thayer 1982, *Psychometrika* 47). Newton's method alone would run from a random factor to infinity,
        where the score vanishes. Which rotation of the root is found is left to chance.
        """
        factor = torch.randn(self.factor.shape, generator=generator, dtype=torch.float64)
        moment, unit = _moments(data).mean(dim=0), torch.eye(self.columns, dtype=torch.float64)
        for _ in range(_CLIMB):
            gain = torch.linalg.solve(_total(factor, self.noise), factor)
            latent = unit - factor.mT @ gain + gain.mT @ moment @ gain
            factor = torch.linalg.solve(latent, (moment @ gain).mT).mT
        return factor.flatten()

    def population(self) -> dict[str, Tensor]:
        """2 d observations whose second moments are those of the truth: means of psi over them are expectations."""
        root = torch.linalg.cholesky(len(self.factor) * _total(self.factor, self.noise))
        y = torch.cat([root.mT, -root.mT])
        return {"x": torch.zeros_like(y), "y": y}


def aligned_error(factor: Tensor, truth: Tensor) -> float:
    r"""Distance :math:`\min_Q \lVert L Q - L^* \rVert_F` over orthogonal Q, of two factors (d, q).

    By the singular values of :math:`L^\top L^*` (Schönemann 1966, *Psychometrika* 31).
    """
    left, _, right = torch.linalg.svd(factor.mT @ truth)
    return float((factor @ (left @ right) - truth).norm())


def _moments(data: dict[str, Tensor]) -> Tensor:
    residual = data["y"] - data["x"]
    return residual[..., :, None] * residual[..., None, :]


def _total(factor: Tensor, noise: float) -> Tensor:
    return factor @ factor.mT + noise**2 * torch.eye(len(factor)).to(factor)
