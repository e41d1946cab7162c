"""Dose-response curves."""

from __future__ import annotations

from itertools import product
from typing import Any, TypeAlias

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.moments.design import stack_regression, weighted
from eeqs.engine.psi import EstimatingFunction

__all__ = ["log_logistic_curve"]

_NAMES = ("lower", "upper", "ED50", "hill")
# The start: a grid of places between the smallest and the largest log dose and of slopes, then steps of least squares.
_PLACES, _HILLS, _STEPS = 15, (0.5, 1.0, 2.0, 4.0, 8.0), 100
# Relative change of the sum of squares that is rounding.
_SETTLED = 1e-15
# Distance between the asymptotes, relative to the response, that is rounding.
_FLAT = 1e-12

# Responses, log doses (0 for the dose zero) and 1 where the dose is zero, each (..., n).
Curve: TypeAlias = tuple[Tensor, Tensor, Tensor]


def log_logistic_curve(y: str, dose: str, *, weights: str | None = None) -> EstimatingFunction:
    r"""Four-parameter log-logistic curve by least squares: :math:`\psi_i = (y_i - f_i)\, \partial f_i/\partial\theta`.

    Also known as the Hill or sigmoid Emax curve. With asymptotes l and u, ED50 e and slope h, at the dose d

    .. math:: f = l + (u - l)\, s, \quad s = \frac{1}{1 + (d / e)^h}, \quad
              \frac{\partial f}{\partial \theta} =
              \Big(1 - s,\ s,\ (u - l)\, s (1 - s)\, \frac{h}{e},\ -(u - l)\, s (1 - s) \log \frac{d}{e}\Big).

    Dose zero is the limit: s is 1 for h > 0 and 0 for h < 0, with no derivative along e and h.

    Parameters
    ----------
    y : str
        Response column.
    dose : str
        Column of doses, zero or more.
    weights : str, optional
        Column of probability or analytic weights; see `eeqs.weight`.

    Raises
    ------
    DataError
        When solved on negative doses or, without a theta0, fewer than four distinct doses or a flat response.

    Notes
    -----
    Parameters are ``lower``, ``upper``, ``ED50`` and ``hill``. The curve :math:`(u, l, e, -h)` is the same one; the
    default start has l < u, so that ``hill`` is positive for a falling and negative for a rising curve. An ED50 of zero
    or less makes psi NaN, from which the solver turns back.

    References
    ----------
    Ritz, Baty, Streibig & Gerhard (2015) PLoS ONE 10, e0146021.
    """

    def prepare(leaves: Any) -> Curve:
        response, design = stack_regression(leaves, y, [dose], intercept=False)
        doses = design[..., 0]
        if bool((doses < 0).any()):
            raise DataError(f'dose "{dose}" has negative values; pass doses, not their logarithms.')
        zero = doses == 0
        return response, torch.where(zero, 1.0, doses).log(), zero.to(doses.dtype)

    def start(data: Curve) -> Tensor:
        _require_doses(data, dose)
        theta = _on_grid(data)
        rise, size = theta[..., 1] - theta[..., 0], data[0].abs().amax(dim=-1)
        if bool((rise <= _FLAT * size).any()):
            raise DataError(f'response "{y}" does not change with the dose "{dose}", so there is no curve to fit.')
        return _least_squares(theta, data)

    return weighted(EstimatingFunction(_psi, _NAMES, tuple(dict.fromkeys((y, dose))), prepare, start), weights)


def _psi(theta: Tensor, data: Curve) -> Tensor:
    residual, gradient = _linearised(theta, data)
    return residual.unsqueeze(-1) * gradient


def _linearised(theta: Tensor, data: Curve) -> tuple[Tensor, Tensor]:
    """Residuals (..., n) and derivatives of the curve (..., n, 4)."""
    lower, upper, middle, hill = theta.split(1, dim=-1)
    down, up = _shares(middle.log(), hill, data)
    bend = (upper - lower) * down * up
    # At the dose zero bend is zero and the log dose finite, so that no derivative meets log(0).
    gradient = torch.stack([down, up, bend * hill / middle, bend * (middle.log() - data[1])], dim=-1)
    return data[0] - lower * down - upper * up, gradient


def _shares(log_middle: Tensor, hill: Tensor, data: Curve) -> tuple[Tensor, Tensor]:
    """Weights 1 - s and s of the lower and the upper asymptote, each (..., n)."""
    exponent, zero = hill * (data[1] - log_middle), data[2] == 1
    limit = (hill > 0).to(exponent.dtype)
    return torch.where(zero, 1 - limit, torch.sigmoid(exponent)), torch.where(zero, limit, torch.sigmoid(-exponent))


def _require_doses(data: Curve, dose: str) -> None:
    """Raise for fewer doses than parameters."""
    ordered = torch.where(data[2] == 1, -torch.inf, data[1]).sort(dim=-1).values
    distinct = 1 + (ordered[..., 1:] > ordered[..., :-1]).sum(dim=-1)
    if bool((distinct < len(_NAMES)).any()):
        raise DataError(
            f'dose "{dose}" has {int(distinct.min())} distinct value(s), and four parameters need four. Where data '
            "come in batches, start with one that has them, or pass theta0."
        )


def _on_grid(data: Curve) -> Tensor:
    """Parameters (..., 4) of least squares over a grid of ED50 and slope; the asymptotes are linear."""
    low = torch.where(data[2] == 1, torch.inf, data[1]).amin(dim=-1, keepdim=True)
    high = torch.where(data[2] == 1, -torch.inf, data[1]).amax(dim=-1, keepdim=True)
    best, least = low.expand(*low.shape[:-1], len(_NAMES)), torch.full_like(low, torch.inf)
    for place, slope in product(torch.linspace(0, 1, _PLACES).tolist(), _HILLS):
        log_middle, hill = low + place * (high - low), torch.full_like(low, slope)
        down, up = _shares(log_middle, hill, data)
        design = torch.stack([down, up], dim=-1)
        asymptotes = torch.linalg.pinv(design.mT @ design, hermitian=True) @ (design.mT @ data[0].unsqueeze(-1))
        loss = (data[0].unsqueeze(-1) - design @ asymptotes).square().sum(dim=-2)
        lower, upper = asymptotes[..., 0, :], asymptotes[..., 1, :]
        rising = lower > upper
        ordered = torch.where(rising, torch.cat([upper, lower], -1), torch.cat([lower, upper], -1))
        point = torch.cat([ordered, log_middle.exp(), torch.where(rising, -hill, hill)], dim=-1)
        best, least = torch.where(loss < least, point, best), torch.minimum(loss, least)
    return best


def _least_squares(theta: Tensor, data: Curve) -> Tensor:
    """Levenberg-Marquardt from theta (..., 4): it descends on the sum of squares, where a root finder may go astray."""
    damping = torch.full_like(theta[..., :1], 1e-2)
    residual, gradient = _linearised(theta, data)
    for _ in range(_STEPS):
        normal = gradient.mT @ gradient
        damped = normal + torch.diag_embed(damping * normal.diagonal(dim1=-2, dim2=-1))
        step = torch.linalg.solve_ex(damped, gradient.mT @ residual.unsqueeze(-1))[0].squeeze(-1)
        trial = _linearised(theta + step, data)
        loss, reached = (r.square().sum(dim=-1, keepdim=True) for r in (residual, trial[0]))
        better = reached < loss  # false for NaN, as of an ED50 below zero or a singular system
        theta, residual = torch.where(better, theta + step, theta), torch.where(better, trial[0], residual)
        gradient = torch.where(better.unsqueeze(-1), trial[1], gradient)
        damping = torch.where(better, damping / 5, damping * 5)
        if bool(((loss - reached).abs() <= _SETTLED * loss).all()):
            break
    return theta
