r"""Linear combinations of equations: a solved over-identified problem as a just-identified one.

The minimiser of :math:`\bar\psi^\top W \bar\psi` solves :math:`L \bar\psi = 0` with :math:`L = G^\top W` (p, q) at
the estimate. The rows :math:`L \psi_i` are therefore an ordinary estimating function: its bread is :math:`L G`, its
sandwich :math:`(G^\top W G)^{-1} G^\top W S W G (G^\top W G)^{-1} / n`, and clusters, autocorrelation, leverage and
influence need nothing new.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from eeqs.engine.evaluate import Problem
from eeqs.engine.gmm.weighting import rebind
from eeqs.engine.linear_index import LinearIndex

__all__ = ["combine"]


def combine(problem: Problem, matrix: Tensor) -> Problem:
    """Bind the rows ``matrix @ psi_i``, for a matrix (p, q), to the same data."""
    psi = problem.psi
    linear, closed = psi.linear, psi.mean_jacobian
    one_residual = linear is not None and len(linear.matrices(next(problem.blocks()).data)[1]) == 1

    def mean_jacobian(theta: Tensor, data: Any) -> Tensor:
        assert closed is not None  # noqa: S101 - used only then
        return matrix @ closed(theta, data)

    combined = replace(
        psi,
        psi=lambda theta, data: psi.psi(theta, data) @ matrix.mT,
        mean_jacobian=None if closed is None else mean_jacobian,
        linear=_with_instruments(linear, matrix) if linear is not None and one_residual else None,
    )
    return rebind(problem, combined)


def _with_instruments(linear: LinearIndex, matrix: Tensor) -> LinearIndex:
    """Residual times the combined instruments, which keeps the linear index of a single residual."""
    return replace(linear, instruments=lambda data: (linear.matrices(data)[1][0] @ matrix.mT,))
