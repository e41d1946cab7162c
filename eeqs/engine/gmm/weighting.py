r"""Weight matrices of over-identified equations, as factors K of :math:`W = K^\top K`.

Triangular factors do not depend on the units of the equations, and ranks are those of matrices whose rows and columns
were brought to unit size, so that an instrument in dollars beside one in 1e-6 units costs no digits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.covariance import CovarianceKind, Root
from eeqs.engine.errors import DataError, PsiError
from eeqs.engine.evaluate import Problem
from eeqs.engine.linalg import RANK_TOLERANCE, condition_number, equilibrate, null_parameters
from eeqs.engine.psi import EstimatingFunction

__all__ = [
    "Weighting",
    "check_smooth",
    "equation_names",
    "first_weighting",
    "given_weighting",
    "inverse_of",
    "meat_of_means",
    "rebind",
    "second_moments",
]

# Asymmetry and negative eigenvalues of a given weight, relative to its largest entry, that are only rounding.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class Weighting:
    """A weight matrix.

    Attributes
    ----------
    factor : Tensor of shape (q, q)
        K, which whitens the equations where W is the inverse of their variance.
    efficient : bool
        Whether W estimates the inverse of the variance of the equations.
    """

    factor: Tensor
    efficient: bool = False

    @property
    def matrix(self) -> Tensor:
        """W (q, q)."""
        return self.factor.mT @ self.factor


def equation_names(count: int) -> tuple[str, ...]:
    """Name equations by their position, as psi returns them."""
    return tuple(f"equation {j}" for j in range(count))


def inverse_of(second: Tensor) -> Weighting:
    """Inverse of a matrix of second moments (q, q).

    Raises
    ------
    DataError
        If it is singular or not positive definite, naming the equations.
    """
    names = equation_names(len(second))
    if not bool(torch.isfinite(second).all()):
        raise DataError("the second moments of the equations overflow; change the units of the data.")
    if float(condition_number(second)) >= 1 / RANK_TOLERANCE:
        raise DataError(
            f"the weight matrix is singular: {', '.join(null_parameters(second, names))} are linearly dependent in "
            "this sample. Drop the duplicated or constant instruments among them; with clusters, there must be more "
            "clusters than equations."
        )
    lower, failed = torch.linalg.cholesky_ex((second + second.mT) / 2)
    if bool(failed):
        raise DataError(
            "the estimated variance of the equations has a negative eigenvalue, so its inverse is no weight matrix; "
            "use a covariance that is positive semi-definite, such as Cluster or HAC with the Bartlett kernel."
        )
    return Weighting(torch.linalg.solve_triangular(lower, torch.eye(len(lower)).to(lower), upper=False))


def given_weighting(weight: Any, like: Tensor, equations: int) -> Weighting:
    """Check and factor the weight matrix of a user; it may be singular.

    Raises
    ------
    ValueError
        If it is not a finite, symmetric, positive semi-definite (q, q) matrix.
    """
    array = weight.detach() if isinstance(weight, Tensor) else torch.from_numpy(np.array(weight, dtype=np.float64))
    matrix = array.to(like)
    if matrix.shape != (equations, equations):
        raise ValueError(f"weight has shape {tuple(matrix.shape)}; there are {equations} equations.")
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("weight has NaN or infinite entries.")
    scaled, rows, _ = equilibrate(matrix)  # the same powers of two for rows and columns
    if float((scaled - scaled.mT).abs().max()) > _ROUNDING:
        raise ValueError("weight is not symmetric.")
    values, vectors = torch.linalg.eigh((scaled + scaled.mT) / 2)
    if float(values[0]) < -_ROUNDING * float(values[-1].abs()) or not bool(values[-1] > 0):
        raise ValueError("weight is not positive semi-definite.")
    return Weighting(values.clamp_min(0).sqrt()[:, None] * vectors.mT / rows)


def first_weighting(problem: Problem, theta: Tensor) -> Weighting:
    r"""Weight before anything is known of the residuals, invariant to linear maps of the equations.

    :math:`(Z^\top Z / n)^{-1}` where psi is a residual times instruments Z, as in two-stage least squares; otherwise
    the inverse of the second moments of psi at ``theta``.
    """
    linear, total, weight = problem.psi.linear, None, 0.0
    for rows in problem.blocks():
        matrices = () if linear is None else linear.matrices(rows.data)[1]
        values = matrices[0] if len(matrices) == 1 else problem.rows_of_psi(theta, rows)
        part = values.mT @ (values if rows.counts is None else rows.counts[:, None] * values)
        total = part if total is None else total + part
        weight += rows.n if rows.counts is None else float(rows.counts.sum())
    assert total is not None  # noqa: S101 - data has rows
    return inverse_of(total / weight)


def second_moments(problem: Problem, theta: Tensor, mean: Tensor, kind: CovarianceKind) -> Tensor:
    r"""Variance S (q, q) of :math:`n^{-1/2} \sum_i \psi_i(\theta)` about ``mean`` (q,), as ``kind`` has it.

    It is the meat of the equations :math:`\psi_i(\theta) - \mu` for their means :math:`\mu` at a fixed theta, so every
    covariance of just-identified equations serves over-identified ones too.
    """
    psi = problem.psi
    return meat_of_means(problem, replace(psi, psi=lambda mu, data: psi.psi(theta, data) - mu), mean, kind)


def meat_of_means(problem: Problem, psi: EstimatingFunction, mean: Tensor, kind: CovarianceKind) -> Tensor:
    """Meat (k, k) of a psi that is some rows (n, k) minus the parameters ``mean`` (k,)."""
    plain = replace(
        psi,
        names=equation_names(len(mean)),
        mean_jacobian=lambda mu, _: -torch.eye(len(mu)).to(mu),
        start=None,
        linear=None,
        numerical=False,
    )
    return kind.meat(Root(rebind(problem, plain), mean, plain.names))


def rebind(problem: Problem, psi: EstimatingFunction) -> Problem:
    """Bind another psi of the same prepared data."""
    return Problem(psi, problem.data, problem.n, None, problem.device, problem.index, problem.raw)


def check_smooth(psi: EstimatingFunction) -> None:
    """Raise unless psi can be differentiated and is not penalised."""
    if psi.root is not None:
        raise PsiError("gmm() differentiates psi, and this one is a step function of theta; use eeqs.estimate.")
    if psi.penalty is not None:
        raise PsiError("a penalty belongs to one equation for every parameter; penalise under eeqs.estimate.")
