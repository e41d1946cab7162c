r"""Deterministic equivalent of the excess risk of ridge least squares: what to expect at a finite n."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from simulations.designs.power_law import PowerLaw

__all__ = ["best_penalty", "equivalent_risk"]


def equivalent_risk(design: PowerLaw, n: int, penalty: float, noise_variance: float) -> float:
    r"""Excess risk of ridge least squares on n observations, up to terms that vanish relative to it as n grows.

    .. math:: R = \frac{\kappa^2 \sum_j \beta_j^2 / (\lambda_j + \kappa)^2 + \sigma^2 \gamma}{1 - \gamma}, \quad
              \gamma = \frac1n \sum_j \frac{\lambda_j^2}{(\lambda_j + \kappa)^2}, \quad
              \kappa = \lambda + \frac{\kappa}{n} \sum_j \frac{\lambda_j}{\lambda_j + \kappa} .

    Parameters
    ----------
    design : PowerLaw
        Spectrum :math:`\lambda_j` and variances :math:`\beta_j^2` of the target.
    n : int
        Number of observations.
    penalty : float
        Ridge penalty :math:`\lambda > 0` per observation.
    noise_variance : float
        :math:`\sigma^2`.

    References
    ----------
    Dobriban & Wager (2018) Annals of Statistics 46, 247-279; Cheng & Montanari (2024) Annals of Statistics 52,
    2879-2912, who bound the relative error without a limit of p / n.
    """
    if not penalty > 0:
        raise ValueError(f"penalty is {penalty}; the equivalent is that of ridge with a positive penalty.")
    eigenvalues, variances = design.eigenvalues.numpy(), design.variances.numpy()

    def gap(kappa: float) -> float:
        return kappa - penalty - kappa / n * float(np.sum(eigenvalues / (eigenvalues + kappa)))

    kappa = brentq(gap, penalty, penalty + float(eigenvalues.sum()) / n, rtol=1e-12)
    gamma = float(np.sum((eigenvalues / (eigenvalues + kappa)) ** 2)) / n
    bias = float(np.sum(variances * (kappa / (eigenvalues + kappa)) ** 2))
    return (bias + noise_variance * gamma) / (1 - gamma)


def best_penalty(design: PowerLaw, n: int, noise_variance: float) -> float:
    """Ridge penalty that minimises the deterministic equivalent of the excess risk at n."""
    found = minimize_scalar(
        lambda log_penalty: equivalent_risk(design, n, math.exp(log_penalty), noise_variance),
        bounds=(math.log(1e-8), math.log(1e2)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(found.x)
