r"""The criterion of continuously updated GMM.

The weight follows theta: :math:`Q(\theta) = \bar\psi^\top S(\theta)^{-1} \bar\psi`. With
:math:`\lambda = S^{-1} \bar\psi` half its gradient is :math:`\tilde G^\top \lambda`, where

.. math:: \tilde G_{\cdot j} = \frac{\partial \bar\psi}{\partial \theta_j}
          - \widehat{\mathrm{cov}}\Big(\frac{\partial \psi_i}{\partial \theta_j},\ \lambda^\top \psi_i\Big)

is the Jacobian less its regression on the equations (Donald & Newey 2000, Economics Letters 67), the covariance taken
under the same assumption as S. So the gradient is again the mean of a combination of equations,
:math:`\tilde G^\top S^{-1} \bar\psi`, and the same Gauss-Newton steps apply.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.covariance import CovarianceKind
from eeqs.engine.errors import PsiError
from eeqs.engine.evaluate import Problem
from eeqs.engine.gmm.minimise import Criterion, Point
from eeqs.engine.gmm.weighting import inverse_of, meat_of_means, second_moments

__all__ = ["continuously_updated"]


def continuously_updated(problem: Problem, kind: CovarianceKind, *, centred: bool) -> Criterion:
    """Criterion whose weight is the inverse of the variance of the equations at every theta.

    Raises
    ------
    PsiError
        If psi is written in numpy, which gives no derivatives of its rows.
    """
    if problem.psi.numerical:
        raise PsiError("continuous updating differentiates every row of psi; write it in torch operations.")

    def evaluate(theta: np.ndarray) -> Point:
        point = torch.from_numpy(theta).to(problem.device)
        at = problem.moments(point, jacobian=True)
        assert at.jacobian is not None  # noqa: S101 - asked for
        if not (np.isfinite(at.mean).all() and np.isfinite(at.rms).all()):
            missing = np.full((len(at.mean), len(at.mean)), np.nan)
            return Point(missing[0], missing @ at.jacobian, missing, at.rms, at.rms)
        mean = torch.from_numpy(at.mean).to(point)
        centre = mean if centred else torch.zeros_like(mean)
        second = second_moments(problem, point, centre, kind)
        weighting = inverse_of(second)
        multiplier = weighting.factor.mT @ (weighting.factor @ mean)
        centre_slope = torch.from_numpy(at.jacobian).to(point) if centred else torch.zeros_like(second[:, : len(point)])
        crossed = _cross(problem, point, kind, multiplier, centre, centre_slope)
        crossed = crossed * (multiplier @ second @ multiplier)
        factor = weighting.factor.numpy(force=True)
        adjusted = at.jacobian - crossed.numpy(force=True)
        return Point(factor @ at.mean, factor @ adjusted, factor, at.rms, np.abs(at.jacobian).max(axis=0))

    return evaluate


def _cross(
    problem: Problem, theta: Tensor, kind: CovarianceKind, multiplier: Tensor, centre: Tensor, slopes: Tensor
) -> Tensor:
    r"""Covariances (q, p) of the slopes of psi with :math:`v_i = \lambda^\top \psi_i`, over the variance of v.

    They are a block of the meat of the rows :math:`(v_i, \partial \psi_i / \partial \theta_j)`, for every assumption
    that is quadratic in psi; over the variance of v, small-sample factors cancel.
    """
    columns = []
    for j in range(len(theta)):
        direction = torch.zeros_like(theta)
        direction[j] = 1.0
        rows = _along(problem, theta, direction, multiplier)
        mean = torch.cat([(multiplier @ centre)[None], slopes[:, j]])
        block = meat_of_means(problem, rows, mean, kind)
        variance = block[0, 0]
        columns.append(torch.where(variance > 0, block[0, 1:] / variance, 0.0))
    return torch.stack(columns, dim=1)


def _along(problem: Problem, theta: Tensor, direction: Tensor, multiplier: Tensor) -> Any:
    """Rows (n, 1 + q) of v and of the derivative of psi along a direction, minus their parameters."""
    inner = problem.psi.psi

    def rows(mu: Tensor, data: Any) -> Tensor:
        value, slope = torch.func.jvp(lambda b: inner(b, data), (theta,), (direction,))[:2]
        return torch.cat([(value @ multiplier)[:, None], slope], dim=1) - mu

    return replace(problem.psi, psi=rows)
