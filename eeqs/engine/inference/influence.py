"""What each observation does to the estimates."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch

from eeqs.engine.covariance import Root
from eeqs.engine.covariance.leverage import adjusted_psi
from eeqs.engine.errors import PsiError
from eeqs.engine.inference.result import Estimate
from eeqs.engine.inference.wald import mahalanobis

__all__ = ["LeaveOneOut", "leave_one_out"]


@dataclass(frozen=True)
class LeaveOneOut:
    r"""Approximate estimates without each observation.

    Attributes
    ----------
    params : DataFrame of shape (n, p)
        Row i holds the estimate without observation i.
    shift : DataFrame of shape (n, p)
        Row i is :math:`\hat\theta_{(-i)} - \hat\theta`.
    distance : Series of shape (n,)
        :math:`(\hat\theta_{(-i)} - \hat\theta)^\top V^{-1} (\hat\theta_{(-i)} - \hat\theta) / p` with V the covariance
        of the fit: Cook's (1977) distance, with the sandwich in place of the model's covariance.
    """

    params: pd.DataFrame
    shift: pd.DataFrame
    distance: pd.Series


def leave_one_out(fit: Estimate) -> LeaveOneOut:
    r"""One Newton step from the root towards the root without each observation.

    .. math:: \hat\theta_{(-i)} \approx \hat\theta + \Big(n A - \frac{\partial \psi_i}{\partial \theta}\Big)^{-1} \psi_i
              = \hat\theta + \frac1n A^{-1} (I - H_i)^{-1} \psi_i, \qquad
              H_i = \frac1n \frac{\partial \psi_i}{\partial \theta} A^{-1} .

    Exact where psi is linear in theta. Otherwise of second order: the shift is of order 1/n and the error, from the
    curvature of psi, of order 1/n^2; the infinitesimal jackknife, minus `Estimate.influence` over n, has the error of
    leaving out :math:`H_i` besides. With frequency weights, one of the observations that a row stands for is left out.

    Raises
    ------
    DataError
        If a row has leverage one, so that the others do not identify a parameter; or the fit was read from a file.
    PsiError
        If psi is a step function, over-identified, or its rows depend on each other.
    SingularBreadError
        If the parameters are not identified.
    ValueError
        If the covariance is singular.

    References
    ----------
    Pregibon (1981) Annals of Statistics 9; Cook (1977) Technometrics 19.
    """
    problem, theta = fit.data(), fit.solution.theta
    if not problem.psi.separable or fit.bread.shape[0] != fit.bread.shape[1]:
        raise PsiError("leaving a row out changes the equations of the others here; estimate again without the row.")
    root = Root(problem, theta, fit.names)
    adjusted = torch.cat([values for values, _ in adjusted_psi(root, 1.0)])
    moved = (adjusted @ fit.inverse.mT / fit.nobs).numpy(force=True)
    shift = pd.DataFrame(moved, index=problem.index, columns=list(fit.names))
    distance = mahalanobis(moved, fit.covariance.numpy(force=True)) / len(fit.names)
    return LeaveOneOut(shift + fit.params, shift, pd.Series(distance, index=shift.index, name="distance"))
