r"""Quantiles and quantile regression: a step-function psi, its exact root and its kernel bread.

:math:`\psi_i(\beta) = (\tau - 1\{y_i \le x_i^\top \beta\})\, x_i` jumps, so its mean need not vanish anywhere.
Solved means that zero lies in the set of limits of the mean of psi: the terms of observations on the fitted
plane may take any value in :math:`[\tau - 1, \tau]\, x_i`. That is the optimality condition of the linear
program of Koenker & Bassett (1978), and its solution is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import optimize, stats
from torch import Tensor

from eeqs.engine.data import Leaves
from eeqs.engine.errors import DataError
from eeqs.engine.moments.design import Regression, regression_columns, regression_names, stack_regression
from eeqs.engine.psi import EstimatingFunction

__all__ = ["quantile"]


def quantile(
    y: str,
    tau: float = 0.5,
    x: Sequence[str] = (),
    *,
    intercept: bool = True,
    weights: str | None = None,
    homoskedastic: bool = False,
) -> EstimatingFunction:
    r"""Quantile of a column, or linear quantile regression on ``x``.

    Parameters
    ----------
    y : str
        Response column.
    tau : float
        Probability in (0, 1); 0.5 is the median.
    x : sequence of str
        Regressor columns; none for the quantile of ``y`` itself.
    intercept : bool
        Put a constant, named ``Intercept``, first.
    weights : str, optional
        Column of probability, analytic or importance weights: row i counts as :math:`w_i \psi_i`.
    homoskedastic : bool
        Estimate one residual density for all observations instead of letting it vary with x.

    Notes
    -----
    The bread is :math:`-n^{-1} \sum_i h^{-1} K(e_i / h)\, x_i x_i^\top` (Powell 1991), or
    :math:`-\hat f(0)\, n^{-1} \sum_i x_i x_i^\top` when ``homoskedastic``, with the Epanechnikov kernel and the
    Hall & Sheather (1988) bandwidth, scaled by the smaller of the standard deviation of y and IQR(e) / 1.34. A step
    is never differentiated.

    Raises
    ------
    ValueError
        If tau is not inside (0, 1).
    """
    if not 0 < tau < 1:
        raise ValueError(f"tau is {tau}; a quantile level lies strictly between 0 and 1.")

    def prepare(leaves: Leaves) -> Regression:
        data = stack_regression(leaves, y, x, intercept, offset=weights)
        if weights is not None and bool(((data[2] < 0).any(-1) | (data[2] == 0).all(-1)).any()):
            raise DataError(f'weights "{weights}" must be non-negative, with at least one above zero.')
        return data

    def psi(theta: Tensor, data: Regression) -> Tensor:
        response, design = data[:2]
        return _weigh((tau - (response <= design @ theta).to(design.dtype))[:, None] * design, data)

    def mean_jacobian(theta: Tensor, data: Regression) -> Tensor:
        response, design = data[:2]
        residual = response - design @ theta
        density = _density_at_zero(response, residual, tau)
        if homoskedastic:
            density = density.mean().expand(density.shape)
        return -design.mT @ _weigh(density[:, None] * design, data) / design.shape[0]

    return EstimatingFunction(
        psi,
        regression_names(x, intercept),
        regression_columns(y, x, weights),
        prepare,
        start=lambda data: torch.zeros_like(data[1][..., 0, :]),
        mean_jacobian=mean_jacobian,
        root=lambda data: _root(data, tau),
    )


def _weigh(rows: Tensor, data: Regression) -> Tensor:
    """Multiply rows (n, p) by their weights, where there are any."""
    return rows if len(data) == 2 else data[2][:, None] * rows


def hall_sheather(n: int, tau: float, level: float = 0.05) -> float:
    """Bandwidth on the probability scale for the sparsity at ``tau`` (Hall & Sheather 1988, JRSS B 50)."""
    z = stats.norm.ppf(tau)
    core = 1.5 * stats.norm.pdf(z) ** 2 / (2 * z**2 + 1)
    return float(stats.norm.isf(level / 2) ** (2 / 3) * core ** (1 / 3) * n ** (-1 / 3))


def _density_at_zero(response: Tensor, residual: Tensor, tau: float) -> Tensor:
    """Kernel weights (n,) whose mean is the density of the residuals at zero."""
    width = min(hall_sheather(residual.shape[0], tau), 0.999 * min(tau, 1 - tau))
    ordered = residual.sort().values
    deviation = response.std(correction=0)
    middle = (_quantile(ordered, 0.75) - _quantile(ordered, 0.25)) / 1.34
    spread = torch.where(middle > 0, torch.minimum(deviation, middle), deviation)  # half the residuals may be zero
    bandwidth = spread * float(stats.norm.ppf(tau + width) - stats.norm.ppf(tau - width))
    scaled = residual / bandwidth
    return 0.75 * (1 - scaled.square()).clamp_min(0) / bandwidth


def _quantile(ordered: Tensor, probability: float) -> Tensor:
    """Interpolated quantile of sorted values; torch.quantile has no batching rule and a limit of 2**24 values."""
    position = probability * (ordered.shape[0] - 1)
    below = int(position)
    above = min(below + 1, ordered.shape[0] - 1)
    return torch.lerp(ordered[below], ordered[above], position - below)


def _root(data: Regression, tau: float) -> tuple[Tensor, float]:
    """Exact minimiser of the check loss, with the distance of zero from the limits of the mean of psi."""
    # The check loss is homogeneous: a weight scales the response and the regressors of its row.
    response, design = (_weigh(leaf.reshape(len(leaf), -1), data) for leaf in data[:2])
    y, matrix = response[:, 0].cpu().numpy(), design.cpu().numpy()
    size = np.abs(matrix).max(axis=0)
    size[size == 0] = 1.0
    scaled = matrix / size
    level = np.abs(y).max() or 1.0
    # Dual linear program: max y'a subject to X'a = (1 - tau) X'1 and 0 <= a <= 1; beta are its multipliers.
    program = optimize.linprog(
        -y / level, A_eq=scaled.T, b_eq=(1 - tau) * scaled.sum(axis=0), bounds=(0, 1), method="highs"
    )
    beta = np.full(matrix.shape[1], np.nan) if program.status else -program.eqlin.marginals * level
    beta, residual = _polish(y, scaled, beta, tau)
    return torch.as_tensor(beta / size, dtype=response.dtype, device=response.device), residual


def _polish(y: np.ndarray, matrix: np.ndarray, beta: np.ndarray, tau: float) -> tuple[np.ndarray, float]:
    """Interpolate the nearest observations exactly and return the residual of the better of the two."""
    near = np.argsort(np.abs(y - matrix @ beta), kind="stable")[: matrix.shape[1]]
    candidates = [beta]
    if np.linalg.matrix_rank(matrix[near]) == matrix.shape[1]:
        candidates.append(np.linalg.solve(matrix[near], y[near]))
    scored = [(_residual(y, matrix, candidate, tau), candidate) for candidate in candidates]
    residual, best = min(scored, key=lambda pair: pair[0])
    return best, residual


def _residual(y: np.ndarray, matrix: np.ndarray, beta: np.ndarray, tau: float) -> float:
    r"""Largest component of the shortest limit of :math:`\sqrt n \bar\psi`, over the root mean square of its terms."""
    error = y - matrix @ beta
    tied = np.abs(error) <= 1e-9 * max(np.abs(y).max(), np.abs(error).max())
    fixed = (tau - (error[~tied] < 0)) @ matrix[~tied]
    scale = np.sqrt(tau * (1 - tau) * np.square(matrix).sum(axis=0))
    if tied.any():
        fit = optimize.lsq_linear(matrix[tied].T / scale[:, None], -fixed / scale, bounds=(tau - 1, tau))
        fixed = fixed + matrix[tied].T @ fit.x
    return float(np.abs(fixed / scale).max())
