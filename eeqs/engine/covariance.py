r"""Bread, meat and sandwich: the only variance code. None of the three knows how theta was found.

For a root :math:`\hat\theta` of :math:`\bar\psi`,

.. math:: A = \frac1n \sum_i \frac{\partial \psi_i}{\partial \theta}, \qquad
          B = \frac1n \sum_g \Big(\sum_{i \in g} \psi_i\Big) \Big(\sum_{i \in g} \psi_i\Big)^\top, \qquad
          V = \frac1n A^{-1} B A^{-\top},

with every observation its own group g unless the covariance is clustered. All three accept replicates:
theta (R, p) with data leaves (R, n, ...).

References
----------
White (1982) Econometrica 50; Boos & Stefanski (2013) Essential Statistical Inference, ch. 7;
Pustejovsky & Tipton (2018) JBES 36 for the names of the cluster corrections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.data import Data, cluster_codes
from eeqs.engine.errors import DataError
from eeqs.engine.evaluate import Problem, as_problem, as_theta
from eeqs.engine.linalg import solve_square
from eeqs.engine.psi import PsiLike

__all__ = ["Cluster", "Covariance", "as_covariance", "bread", "meat", "meat_of_values", "sandwich"]

# Small-sample factor of the meat, from n observations, p parameters and G groups.
_FACTORS: dict[str, Callable[[int, int, Any], Any]] = {
    "HC0": lambda n, p, groups: 1.0,  # noqa: ARG005
    "HC1": lambda n, p, groups: n / (n - p),  # noqa: ARG005
    "CR0": lambda n, p, groups: 1.0,  # noqa: ARG005
    "CR1": lambda n, p, groups: groups / (groups - 1),  # noqa: ARG005
    "CR1S": lambda n, p, groups: groups / (groups - 1) * (n - 1) / (n - p),
}


@dataclass(frozen=True)
class Covariance:
    r"""What the meat assumes and which small-sample factor multiplies it.

    Attributes
    ----------
    kind : str
        HC0 (factor 1) or HC1 (:math:`n/(n-p)`) for independent observations; for G clusters CR0 (1),
        CR1 (:math:`G/(G-1)`) or CR1S (:math:`G/(G-1) \cdot (n-1)/(n-p)`, the factor of Stata's regress).
    by : str, array or None
        Cluster labels, or the name of the column that holds them.
    """

    kind: str = "HC0"
    by: Any = None

    def __post_init__(self) -> None:
        clustered = self.by is not None
        known = [kind for kind in _FACTORS if kind.startswith("CR" if clustered else "HC")]
        if self.kind not in known:
            what = "a clustered covariance" if clustered else "independent observations"
            raise ValueError(f'unknown covariance "{self.kind}" for {what}; use one of {known} or Cluster(column).')

    @property
    def label(self) -> str:
        """Name for tables."""
        return self.kind if self.by is None else f"{self.kind}({self.by if isinstance(self.by, str) else 'labels'})"

    def hidden_columns(self, data: Data) -> tuple[str, ...]:
        """Name the cluster column when it cannot be a column of psi because it is not numeric."""
        if not isinstance(self.by, str) or isinstance(data, tuple | list) or self.by not in data:
            return ()
        column: Any = data[self.by]  # type: ignore[index, call-overload]
        numeric = isinstance(column, Tensor) or np.asarray(column).dtype.kind in "biuf"
        return () if numeric else (self.by,)


def Cluster(by: Any, kind: str = "CR1") -> Covariance:  # noqa: N802 - reads as the object it makes
    """One-way clustered covariance.

    Parameters
    ----------
    by : str or array of shape (n,)
        Column of cluster labels, of any type, or the labels themselves.
    kind : {"CR1", "CR0", "CR1S"}
        Small-sample factor, see `Covariance`.
    """
    return Covariance(kind, by)


def as_covariance(cov: str | Covariance) -> Covariance:
    """Turn a name such as "HC1" into a `Covariance`."""
    return Covariance(cov) if isinstance(cov, str) else cov


def bread(psi: PsiLike, theta: Any, data: Data) -> Tensor:
    r"""Mean Jacobian of psi.

    Parameters
    ----------
    psi : callable or EstimatingFunction
    theta : array of shape (p,) or (R, p)
    data : DataFrame, mapping or tuple
        Leaves (n, ...) or (R, n, ...).

    Returns
    -------
    Tensor of shape (p, p) or (R, p, p)
        :math:`A_{jm} = n^{-1} \sum_i \partial \psi_{ij} / \partial \theta_m`, by the closed form of psi where it
        has one and by automatic differentiation otherwise.
    """
    problem, point = _bind(psi, theta, data)
    return problem.jacobian(point)


def meat(psi: PsiLike, theta: Any, data: Data, cov: str | Covariance = "HC0") -> Tensor:
    """Variance of the sum of psi, per observation, under the assumption of ``cov``.

    Parameters
    ----------
    psi, theta, data
        As in `bread`.
    cov : str or Covariance
        "HC0", "HC1" or an object such as ``Cluster("firm")``.

    Returns
    -------
    Tensor of shape (p, p) or (R, p, p)
        Positive semi-definite.

    Raises
    ------
    DataError
        If the cluster column is unknown, incomplete, of another length or constant.
    """
    covariance = as_covariance(cov)
    problem, point = _bind(psi, theta, data, covariance.hidden_columns(data))
    values = problem.values(point)
    problem.check(point, values)
    return meat_of_values(values, data, covariance)


def meat_of_values(values: Tensor, data: Data, cov: Covariance) -> Tensor:
    """`meat` from psi already evaluated, (n, p) or (R, n, p)."""
    n, p = values.shape[-2:]
    if cov.kind in ("HC1", "CR1S") and n <= p:
        raise DataError(
            f"{cov.kind} divides by n - p, but there are {n} observations and {p} parameters; use HC0 or CR1."
        )
    factor = _FACTORS[cov.kind]
    if cov.by is None:
        return factor(n, p, n) * (values.mT @ values) / n
    codes = cluster_codes(data, cov.by).to(values.device)
    if codes.shape not in (values.shape[:-1], values.shape[-2:-1]):
        raise DataError(f"cluster labels have shape {tuple(codes.shape)}; psi has {tuple(values.shape[:-1])} rows.")
    codes = codes.expand(values.shape[:-1])
    groups = int(codes.max()) + 1
    sums = values.new_zeros(*values.shape[:-2], groups, p)
    sums.scatter_add_(-2, codes.unsqueeze(-1).expand(values.shape), values)
    present = torch.zeros(sums.shape[:-1], dtype=torch.bool, device=values.device).scatter_(-1, codes, value=True)
    scale = torch.as_tensor(factor(n, p, present.sum(-1).to(values.dtype)), dtype=values.dtype, device=values.device)
    return scale[..., None, None] * (sums.mT @ sums) / n


def sandwich(bread: Tensor, meat: Tensor, n: int, names: tuple[str, ...] | None = None) -> Tensor:
    r"""Sandwich covariance of the estimate, :math:`A^{-1} B A^{-\top} / n`.

    Parameters
    ----------
    bread, meat : Tensor of shape (p, p) or (R, p, p)
    n : int
        Observations (in each replicate).
    names : tuple of str, optional
        Parameter names for the error message.

    Returns
    -------
    Tensor of shape (p, p) or (R, p, p)
        Exactly symmetric. In a batch, a replicate with a singular bread gets NaN.

    Raises
    ------
    SingularBreadError
        If a single bread is rank deficient after equilibrating its rows and columns.
    """
    left = solve_square(bread, meat, names)
    covariance = solve_square(bread, left.mT, names) / n
    return (covariance + covariance.mT) / 2


def _bind(psi: PsiLike, theta: Any, data: Data, skip: tuple[str, ...] = ()) -> tuple[Problem, Tensor]:
    problem = as_problem(psi, data, batched=np.ndim(theta) == 2, skip=skip)
    return problem, as_theta(problem, theta)
