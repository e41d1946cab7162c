r"""M-estimates of regression with the scale of the residuals re-estimated: Huber and bisquare.

The coefficients solve :math:`\sum_i \psi(r_i / s)\, x_i = 0` with :math:`r_i = y_i - x_i^\top \beta`, and the scale s
one of two equations:

* the normalised median absolute residual, :math:`1\{|r_i| \le q s\} - 1/2` with :math:`q = \Phi^{-1}(3/4)`. It jumps:
  solved means that half of the residuals lie within :math:`\pm q s`, those on the limit counting for either side, and
  the coefficients solve their equation at that s. Its row of the bread is a kernel estimate of the density of the
  residuals at :math:`\pm q s`; a step is never differentiated;
* Huber's proposal 2, :math:`\psi(r_i / s)^2 - E\, \psi(Z)^2` for a standard normal Z, which is smooth.

References
----------
Huber (1964) Annals of Mathematical Statistics 35; Huber & Ronchetti (2009) Robust Statistics, ch. 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from scipy import integrate, stats
from torch import Tensor

from eeqs.engine.linear_index import Indices
from eeqs.engine.moments.design import Regression, regression_columns, regression_names, stack_regression
from eeqs.engine.moments.formula import with_formula
from eeqs.engine.psi import EstimatingFunction, from_linear_indices

__all__ = ["bisquare", "huber"]

_QUARTILE = float(stats.norm.ppf(0.75))
# Alternations of weighted least squares and scale, and the relative change of theta at which they have converged.
_ALTERNATIONS, _STILL = 2000, 1e-14
# Relative distance at which a residual counts as lying on the limit of the scale equation.
_TIED = 1e-9


@dataclass(frozen=True)
class _Score:
    """A score psi(u), and its weight psi(u) / u for weighted least squares."""

    psi: Callable[[Tensor], Tensor]
    weight: Callable[[Tensor], Tensor]


@with_formula
def huber(
    y: str, x: Sequence[str], *, k: float = 1.345, smooth_scale: bool = False, intercept: bool = True
) -> EstimatingFunction:
    r"""Huber's M-estimate: :math:`\psi(u) = \max(-k, \min(k, u))`.

    Parameters
    ----------
    y : str
        Response column.
    x : sequence of str
        Regressor columns.
    k : float
        Where the score is cut; 1.345 has 95 % efficiency at the normal.
    smooth_scale : bool
        Re-estimate the scale by proposal 2 in place of the median absolute residual.
    intercept : bool
        Put a constant, named ``Intercept``, first.

    Notes
    -----
    The last parameter is ``log(scale)``. The median needs all rows at once, proposal 2 does not.

    Raises
    ------
    ValueError
        If k is not positive.
    """
    if not k > 0:
        raise ValueError(f"k is {k}; the score needs a positive constant.")
    score = _Score(lambda u: u.clamp(-k, k), lambda u: k / u.abs().clamp_min(k))
    return _robust(score, y, x, smooth_scale, intercept, first=score)


@with_formula
def bisquare(y: str, x: Sequence[str], *, c: float = 4.685, intercept: bool = True) -> EstimatingFunction:
    r"""Tukey's bisquare: :math:`\psi(u) = u\, (1 - (u/c)^2)^2` for :math:`|u| \le c`, zero beyond.

    Parameters
    ----------
    y, x, intercept
        As in `huber`.
    c : float
        Where the score returns to zero; 4.685 has 95 % efficiency at the normal.

    Notes
    -----
    The last parameter is ``log(scale)``, that of the median absolute residual. The score redescends, so the equations
    have several roots; the one found is that nearest the Huber estimate, from which the search starts.

    Raises
    ------
    ValueError
        If c is not positive.
    """
    if not c > 0:
        raise ValueError(f"c is {c}; the score needs a positive constant.")

    def weight(u: Tensor) -> Tensor:
        return (1 - (u / c).square()).clamp_min(0).square()

    first = _Score(lambda u: u.clamp(-1.345, 1.345), lambda u: 1.345 / u.abs().clamp_min(1.345))
    return _robust(_Score(lambda u: u * weight(u), weight), y, x, False, intercept, first)


def _robust(
    score: _Score, y: str, x: Sequence[str], smooth_scale: bool, intercept: bool, first: _Score
) -> EstimatingFunction:
    target = _normal_mean_square(score)

    def residuals(indices: Indices, data: Regression) -> Indices:
        value = score.psi((data[0] - indices[0]) / indices[1].exp())
        return value, value.square() - target

    def prepare(leaves: object) -> Regression:
        response, design = stack_regression(leaves, y, x, intercept)  # type: ignore[arg-type]
        return response, design, torch.ones_like(response).unsqueeze(-1)

    smooth = from_linear_indices(
        residuals,
        lambda data: (data[1], data[2]),
        names=(*regression_names(x, intercept), "log(scale)"),
        columns=regression_columns(y, x),
        prepare=prepare,
        start=lambda data: _start(data, first, score),
    )
    if smooth_scale:
        return smooth

    def psi(theta: Tensor, data: Regression) -> Tensor:
        residual, scale = data[0] - data[1] @ theta[:-1], theta[-1].exp()
        inside = (residual.abs() <= _QUARTILE * scale * (1 + _TIED)).to(residual.dtype)
        return torch.cat([score.psi(residual / scale)[:, None] * data[1], (inside - 0.5)[:, None]], dim=1)

    def mean_jacobian(theta: Tensor, data: Regression) -> Tensor:
        assert smooth.mean_jacobian is not None  # noqa: S101 - linear-index functions have one
        rows = smooth.mean_jacobian(theta, data)[:-1]  # the regression rows do not depend on the kind of scale
        return torch.cat([rows, _density_row(theta, data)[None]])

    return replace(
        smooth,
        psi=psi,
        mean_jacobian=mean_jacobian,
        root=lambda data: _root(data, first, score),
        linear=None,
    )


def _normal_mean_square(score: _Score) -> float:
    """Mean of psi(Z)^2 for a standard normal Z."""

    def integrand(u: float) -> float:
        return float(score.psi(torch.tensor(u, dtype=torch.float64)) ** 2 * stats.norm.pdf(u))

    return 2 * float(integrate.quad(integrand, 0, 12, points=[1.345, 4.685], limit=200)[0])


def _median(values: Tensor) -> Tensor:
    """Median (...,) over the last axis, the mean of the middle two for an even number."""
    ordered, n = values.sort(dim=-1).values, values.shape[-1]
    return (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2


def _alternate(data: Regression, beta: Tensor, score: _Score) -> tuple[Tensor, Tensor]:
    """Alternate weighted least squares and the median scale until neither moves."""
    response, design = data[:2]
    scale = response.new_zeros(())
    for _ in range(_ALTERNATIONS):
        residual = response - design @ beta
        scale = _median(residual.abs()) / _QUARTILE
        root = score.weight(residual / torch.where(scale > 0, scale, 1.0)).sqrt()
        new = torch.linalg.lstsq(root[:, None] * design, root * response).solution
        moved = ((design @ (new - beta)).abs().amax() / torch.where(scale > 0, scale, 1.0)).item()
        beta = new
        if moved <= _STILL or not float(scale) > 0:
            break
    return beta, _median((response - design @ beta).abs()) / _QUARTILE


def _start(data: Regression, first: _Score, score: _Score) -> Tensor:
    """Estimate with the median scale, from least squares through the Huber estimate; replicates in turn."""
    if data[0].ndim > 1:
        return torch.stack([_start(tuple(leaf[r] for leaf in data), first, score) for r in range(len(data[0]))])
    beta = torch.linalg.lstsq(data[1], data[0]).solution
    beta, scale = _alternate(data, beta, first)
    if first is not score:
        beta, scale = _alternate(data, beta, score)
    return torch.cat([beta, scale.clamp_min(torch.finfo(scale.dtype).tiny).log()[None]])


def _root(data: Regression, first: _Score, score: _Score) -> tuple[Tensor, float]:
    """Root with the median scale, and its distance from one in standard errors of the equations."""
    theta = _start(data, first, score)
    residual, scale = data[0] - data[1] @ theta[:-1], theta[-1].exp()
    if not float(scale) > math.sqrt(torch.finfo(scale.dtype).tiny):
        return theta, math.inf  # half of the observations are fitted exactly, and no scale solves the equations
    values = score.psi(residual / scale)[:, None] * data[1]
    size = values.square().sum(dim=0).sqrt()
    regression = float((values.sum(dim=0).abs() / torch.where(size > 0, size, 1.0)).max())
    n, limit = len(residual), _QUARTILE * scale
    within = int((residual.abs() <= limit * (1 + _TIED)).sum()) - n / 2
    below = n / 2 - int((residual.abs() < limit * (1 - _TIED)).sum())
    return theta, max(regression, 2 * max(0.0, -within, -below) / n**0.5)


def _density_row(theta: Tensor, data: Regression) -> Tensor:
    """Differentiate the share (p + 1,) of residuals within the limits, by an Epanechnikov kernel."""
    residual, scale = data[0] - data[1] @ theta[:-1], theta[-1].exp()
    limit = _QUARTILE * scale
    # Silverman's rule with the robust scale; 2.34 is its constant for this kernel.
    width = 2.34 * scale * len(residual) ** -0.2

    def kernel(distance: Tensor) -> Tensor:
        return 0.75 * (1 - (distance / width).square()).clamp_min(0) / width

    upper, lower = kernel(residual - limit), kernel(residual + limit)
    slope = (upper - lower) @ data[1] / len(residual)
    return torch.cat([slope, (limit * (upper + lower).mean())[None]])
