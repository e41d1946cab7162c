r"""Ridge-penalised estimating equations of a linear index, solved in the space of the observations.

With :math:`\psi_i(\theta) = r_i(x_i^\top \theta)\, x_i` the penalised equation
:math:`n^{-1} \sum_i \psi_i = \lambda \theta` puts the root in the span of the observations,
:math:`\theta = X^\top r / (n \lambda)`. With the Gram matrix :math:`G = X X^\top` the fitted indices solve

.. math:: \eta = H\, r(\eta), \qquad H = \frac{1}{n \lambda} G,

n equations whatever the number p of parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from eeqs import Status

__all__ = ["Root", "solve"]

# Largest distance to the root that is accepted, in units of the index and as the approximate Newton step measures it.
_TOLERANCE = 1e-6
_MAX_ITERATIONS = 60
# Differences of past iterates that the acceleration combines, and the relative ridge of their least squares.
_MEMORY, _RIDGE = 6, 1e-12


class Root(NamedTuple):
    """Roots for M responses on one design matrix.

    Attributes
    ----------
    residuals : Tensor of shape (M, n)
        r at the root: the coefficients are ``residuals @ X / (n * penalty)``.
    status : list of Status
        One a response.
    """

    residuals: Tensor
    status: list[Status]


def solve(gram: Tensor, residual: Callable[[Tensor], Tensor], penalty: float, curvature: float, responses: int) -> Root:
    r"""Find the roots for M responses with one factorisation.

    The iteration takes Newton steps in which every slope of r is replaced by its typical value,
    :math:`\eta + (I + w H)^{-1} (H r(\eta) - \eta)`, exact for least squares with w = 1, and combines the last
    few of them by Anderson acceleration, which makes up for slopes that differ between observations.

    Parameters
    ----------
    gram : Tensor of shape (n, n)
    residual : callable
        Maps indices (M, n) to residuals (M, n); entry (m, i) depends on index (m, i) only.
    penalty : float
        Ridge penalty :math:`\lambda` per observation.
    curvature : float
        Typical value w of -r'.
    responses : int
        M.

    Raises
    ------
    ValueError
        A penalty or a curvature that is not positive.

    References
    ----------
    Walker & Ni (2011) SIAM Journal on Numerical Analysis 49, 1715-1735.
    """
    if not (penalty > 0 and curvature > 0):
        raise ValueError(f"penalty is {penalty} and curvature {curvature}; the dual equation needs both positive.")
    kernel = gram / (len(gram) * penalty)
    system = curvature * kernel
    system.diagonal().add_(1.0)
    factor = torch.linalg.cholesky(system)
    index = gram.new_zeros(responses, len(gram))
    past: list[tuple[Tensor, Tensor]] = []
    for _ in range(_MAX_ITERATIONS):
        values = residual(index)
        step = torch.cholesky_solve((values @ kernel - index).mT, factor).mT
        done = step.abs().amax(dim=1) <= _TOLERANCE
        if bool(done.all()):
            break
        past = [*past[-_MEMORY:], (index, step)]
        index = _accelerated(past)
    return Root(values, [Status.CONVERGED if ended else Status.MAX_ITERATIONS for ended in done.tolist()])


def _accelerated(past: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Combine past points and their steps, (M, n) each, so that the combined step is shortest; one point a response."""
    index, step = past[-1]
    if len(past) == 1:
        return index + step
    points, steps = (torch.stack(parts, dim=-1).diff(dim=-1) for parts in zip(*past, strict=True))
    normal = steps.mT @ steps
    ridge = _RIDGE * normal.diagonal(dim1=-2, dim2=-1).amax(dim=-1)[:, None, None]
    identity = torch.eye(normal.shape[-1], dtype=normal.dtype, device=normal.device)
    # A response that has converged has steps of zero: its system is then the identity, and its point stays.
    system = normal + torch.where(ridge > 0, ridge, 1.0) * identity
    weights = torch.linalg.solve(system, steps.mT @ step[..., None])
    return index + step - ((points + steps) @ weights)[..., 0]
