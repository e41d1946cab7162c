"""Checks of an estimating function: its bread against finite differences, and its unbiasedness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.data import Data
from eeqs.engine.derivative import central_difference
from eeqs.engine.door import as_problem, as_theta, check_psi
from eeqs.engine.psi import PsiLike
from eeqs.engine.unbiased import FiniteSupport, UnbiasedReport, check_unbiased

__all__ = ["FiniteSupport", "JacobianReport", "UnbiasedReport", "check_jacobian", "check_unbiased"]


@dataclass(frozen=True)
class JacobianReport:
    """Bread of the engine beside finite differences of psi.

    Attributes
    ----------
    passed : bool
        Whether every entry agrees within ``tolerance``.
    worst : float
        Largest relative difference, in units of its equation and parameter.
    tolerance : float
        What was accepted.
    table : DataFrame
        One row an entry: equation, parameter, bread, finite_difference, relative_difference.
    """

    passed: bool
    worst: float
    tolerance: float
    table: pd.DataFrame

    def __str__(self) -> str:
        verdict = "agrees with" if self.passed else "DIFFERS FROM"
        head = f"bread {verdict} finite differences: worst {self.worst:.1e}, tolerance {self.tolerance:.0e}"
        return f"{head}\n{self.table.to_string(index=False, float_format='{:.6g}'.format)}"


def check_jacobian(psi: PsiLike, theta: Any, data: Data, *, tolerance: float = 1e-6) -> JacobianReport:
    r"""Compare the bread with central differences of the mean of psi.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        Smooth in theta; a step function has a bread that no difference quotient shows.
    theta : array of shape (p,)
    data : DataFrame, mapping or tuple
    tolerance : float
        Accepted difference relative to the size of its equation and parameter.

    Returns
    -------
    JacobianReport

    Notes
    -----
    Steps are :math:`10^{-4}` of the change in :math:`\theta_m` that moves psi by its own size, so units do not
    matter, and two step sizes are combined by Richardson extrapolation, which leaves an error of about
    :math:`10^{-10}` on smooth functions. A surrogate written with ``detach()`` fails: its psi is right and its
    bread is not.
    """
    problem = as_problem(psi, data)
    point = as_theta(problem, theta)
    check_psi(problem, point, equations=len(point))
    values = problem.values(point)
    bread = problem.jacobian(point)
    size = values.square().mean(dim=0).sqrt()
    size = torch.where(size > 0, size, torch.ones_like(size))
    reach = _reach(bread, size, point)

    def mean(b: Tensor) -> Tensor:
        return problem.values(b).mean(dim=0)

    coarse = central_difference(mean, point, 2e-4 * reach)
    fine = central_difference(mean, point, 1e-4 * reach)
    reference = (4 * fine - coarse) / 3
    relative = (bread - reference).abs() * reach / size[:, None]
    relative = relative / (reference.abs() * reach / size[:, None]).max().clamp_min(1.0)
    worst = float(relative.nan_to_num(nan=torch.inf).max())
    names = problem.names(len(point))
    rows = [
        (names[j], names[m], float(bread[j, m]), float(reference[j, m]), float(relative[j, m]))
        for j in range(len(names))
        for m in range(len(names))
    ]
    columns = ["equation", "parameter", "bread", "finite_difference", "relative_difference"]
    return JacobianReport(worst <= tolerance, worst, tolerance, pd.DataFrame(rows, columns=columns))


def _reach(bread: Tensor, size: Tensor, theta: Tensor) -> Tensor:
    """Change of each parameter that moves some equation by its root mean square."""
    sensitivity = (bread.abs() / size[:, None]).amax(dim=0)
    usable = torch.isfinite(sensitivity) & (sensitivity > 0)
    return torch.where(usable, 1 / sensitivity.clamp_min(1e-300), theta.abs().clamp_min(1.0))
