r"""Accelerated failure time models for right-censored times.

The logarithm of a time is linear in the covariates, with noise W of a known law and a scale:

.. math:: \log T_i = x_i^\top \beta + \sigma W_i .

With :math:`z_i = (\log t_i - x_i^\top \beta) / \sigma`, event indicator :math:`\delta_i`, density f and survival
function S of W, an event contributes :math:`\log f(z_i) - \log \sigma` to the log-likelihood and a censored time
:math:`\log S(z_i)`. Its score is

.. math:: \psi_i = \Big( \frac{a_i}{\sigma}\, x_i,\ z_i a_i - \delta_i \Big), \qquad
          a_i = -\delta_i \frac{f'(z_i)}{f(z_i)} + (1 - \delta_i) \frac{f(z_i)}{S(z_i)},

for the parameters :math:`\beta` and :math:`\log \sigma`.

References
----------
Kalbfleisch & Prentice (2002) The Statistical Analysis of Failure Time Data, chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.evaluate import Problem
from eeqs.engine.linear_index import Indices
from eeqs.engine.moments.design import Regression, regression_columns, regression_names, stack_regression, weighted
from eeqs.engine.moments.special import inverse_mills
from eeqs.engine.psi import EstimatingFunction, from_linear_index, from_linear_indices
from eeqs.engine.solve import solve_problem

__all__ = ["exponential_aft", "log_logistic_aft", "log_normal_aft", "weibull_aft"]

_EULER = 0.5772156649015329
# Standard deviation of log time to start from where the covariates explain all of it.
_LEAST_DEVIATION = 1e-6
# Distance from the root, in standard errors, at which the last steps are left to the solver.
_START_TOLERANCE = 1e-3


class _Noise(NamedTuple):
    """Law of W: -f' / f, its hazard f / S, its mean and standard deviation."""

    slope: Callable[[Tensor], Tensor]
    hazard: Callable[[Tensor], Tensor]
    mean: float
    deviation: float


_GUMBEL = _Noise(torch.expm1, torch.exp, -_EULER, math.pi / math.sqrt(6))
_LOGISTIC = _Noise(lambda z: torch.tanh(z / 2), torch.sigmoid, 0.0, math.pi / math.sqrt(3))
_NORMAL = _Noise(lambda z: z, lambda z: inverse_mills(-z)[0], 0.0, 1.0)


def weibull_aft(
    time: str, event: str, x: Sequence[str], *, intercept: bool = True, weights: str | None = None
) -> EstimatingFunction:
    r"""Weibull regression: the score with :math:`a_i = e^{z_i} - \delta_i`, noise of the least extreme value law.

    The hazard at t is :math:`t^{1/\sigma - 1} e^{-x^\top \beta / \sigma} / \sigma`, so the Weibull shape is
    :math:`1 / \sigma` and log hazard ratios are :math:`-\beta / \sigma`.

    Parameters
    ----------
    time : str
        Column of times, positive.
    event : str
        Column that is 1 where the time is an event's, 0 where it is right-censored.
    x : sequence of str
        Covariate columns.
    intercept : bool
        Put a constant, named ``Intercept``, first.
    weights : str, optional
        Column of probability weights; see `eeqs.weight`.

    Raises
    ------
    DataError
        When solved on times that are not positive, events that are not 0 or 1, or, without a theta0, no event at all.

    Notes
    -----
    The last parameter is ``log(scale)``, :math:`\log \sigma`. Covariates that identify a group without events have no
    finite root: their coefficient runs off and the solver's status is "degenerate".
    """
    return weighted(_location_scale(_GUMBEL, time, event, x, intercept), weights)


def exponential_aft(
    time: str, event: str, x: Sequence[str], *, intercept: bool = True, weights: str | None = None
) -> EstimatingFunction:
    r"""Exponential regression: :math:`\psi_i = (t_i e^{-x_i^\top \beta} - \delta_i)\, x_i`.

    The hazard is :math:`e^{-x^\top \beta}`: a Weibull regression with its scale fixed at one, and no ``log(scale)``.

    Parameters
    ----------
    time, event, x, intercept, weights
        As in `weibull_aft`.

    Raises
    ------
    DataError
        As `weibull_aft`.
    """
    psi = from_linear_index(
        lambda index, data: torch.exp(data[0] - index) - data[1],
        lambda data: data[2],
        slope=lambda index, data: -torch.exp(data[0] - index),
        names=regression_names(x, intercept),
        columns=_columns(time, event, x),
        prepare=lambda leaves: _prepare(leaves, time, event, x, intercept),
        start=lambda data: _least_squares(data, _GUMBEL, event)[0],
    )
    return weighted(psi, weights)


def log_logistic_aft(
    time: str, event: str, x: Sequence[str], *, intercept: bool = True, weights: str | None = None
) -> EstimatingFunction:
    r"""Log-logistic regression: the score with :math:`a_i = (1 + \delta_i)\, \mathrm{expit}(z_i) - \delta_i`.

    The odds of surviving t are :math:`t^{-1/\sigma} e^{x^\top \beta / \sigma}`.

    Parameters
    ----------
    time, event, x, intercept, weights
        As in `weibull_aft`.

    Raises
    ------
    DataError
        As `weibull_aft`.
    """
    return weighted(_location_scale(_LOGISTIC, time, event, x, intercept), weights)


def log_normal_aft(
    time: str, event: str, x: Sequence[str], *, intercept: bool = True, weights: str | None = None
) -> EstimatingFunction:
    r"""Log-normal regression: the score with :math:`a_i = \delta_i z_i + (1 - \delta_i)\, \phi(z_i) / \Phi(-z_i)`.

    Without censoring :math:`\beta` is least squares of log time and :math:`\sigma^2` its residual mean square (divided
    by n); with censoring this is the Tobit model.

    Parameters
    ----------
    time, event, x, intercept, weights
        As in `weibull_aft`.

    Raises
    ------
    DataError
        As `weibull_aft`.
    """
    return weighted(_location_scale(_NORMAL, time, event, x, intercept), weights)


def _location_scale(noise: _Noise, time: str, event: str, x: Sequence[str], intercept: bool) -> EstimatingFunction:
    """Score of location and log-scale under a law of the noise."""

    def residuals(indices: Indices, data: Any) -> Indices:
        (log_time, events), (location, log_scale) = data[:2], indices
        scale = log_scale.exp()
        z = (log_time - location) / scale
        pull = torch.where(events == 1, noise.slope(z), noise.hazard(z))
        return pull / scale, z * pull - events

    return from_linear_indices(
        residuals,
        lambda data: (data[2], data[3]),
        names=(*regression_names(x, intercept), "log(scale)"),
        columns=_columns(time, event, x),
        prepare=lambda leaves: _prepare(leaves, time, event, x, intercept),
        start=lambda data: _concave_root(noise, data, event),
    )


def _concave_root(noise: _Noise, data: Regression, event: str) -> Tensor:
    r"""Root by way of the parameters :math:`(\beta, 1) / \sigma`, in which the log-likelihood is concave.

    There Newton arrives from afar; in :math:`(\beta, \log \sigma)` many censored times send it off. Without a root the
    result is least squares. Source: Burridge (1981) JRSS B 43.
    """

    def residuals(indices: Indices, data: Any) -> Indices:
        (log_time, events), (location, precision) = data[:2], indices
        precision = torch.where(precision > 0, precision, torch.nan)  # the solver turns back from NaN
        z = precision * log_time - location
        pull = torch.where(events == 1, noise.slope(z), noise.hazard(z))
        return pull, events / precision - pull * log_time

    first = torch.cat(_least_squares(data, noise, event), dim=-1)
    precision = (-first[..., -1:]).exp()
    psi = from_linear_indices(residuals, lambda data: (data[2], data[3]))
    n, replicates = data[0].shape[-1], None if data[0].ndim == 1 else data[0].shape[0]
    problem = Problem(psi, data, n, replicates, data[0].device)
    theta0 = torch.cat([first[..., :-1] * precision, precision], dim=-1)
    found = solve_problem(problem, theta0, tolerance=_START_TOLERANCE)
    precision = found.theta[..., -1:]
    root = torch.cat([found.theta[..., :-1] / precision, -precision.log()], dim=-1)
    return torch.where(torch.as_tensor(found.converged, device=root.device).unsqueeze(-1), root, first)


def _columns(time: str, event: str, x: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*regression_columns(time, x), event)))


def _prepare(leaves: Any, time: str, event: str, x: Sequence[str], intercept: bool) -> Regression:
    """Log times (..., n), events (..., n), design (..., n, p) and a constant design (..., n, 1)."""

    def validate(times: Tensor) -> None:
        if bool((times <= 0).any()):
            raise DataError(
                f'time "{time}" has values of zero or less, whose logarithm is not finite; drop those rows.'
            )

    times, design = stack_regression(leaves, time, x, intercept, validate)
    events = leaves[event]
    if events.shape != times.shape:
        raise DataError(f'event "{event}" has shape {tuple(events.shape)}; it must be flat, as "{time}" is.')
    if bool(((events != 0) & (events != 1)).any()):
        raise DataError(f'event "{event}" has values other than 0 (censored) and 1 (event); recode it.')
    return times.log(), events, design, torch.ones_like(times).unsqueeze(-1)


def _least_squares(data: Regression, noise: _Noise, event: str) -> tuple[Tensor, Tensor]:
    """Coefficients (..., p) and log-scale (..., 1) by moments of log time, as if every time were an event's."""
    log_time, events, design = data[:3]
    if not bool((events == 1).any(dim=-1).all()):
        raise DataError(
            f'event "{event}" is 0 throughout: nothing bounds the times from above. Where data come in batches, start '
            "with one that has events, or pass theta0."
        )
    level = torch.linalg.lstsq(design, log_time.unsqueeze(-1)).solution
    deviation = (log_time - (design @ level).squeeze(-1)).square().mean(-1, keepdim=True).sqrt()
    scale = deviation.clamp_min(_LEAST_DEVIATION) / noise.deviation
    shifted = log_time - scale * noise.mean
    return torch.linalg.lstsq(design, shifted.unsqueeze(-1)).solution.squeeze(-1), scale.log()
