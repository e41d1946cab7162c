"""Sandwich corrected for small numbers of clusters, with degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.covariance.cluster import cluster_jacobians
from eeqs.engine.covariance.leverage import inverse_power, leverages, row_jacobians
from eeqs.engine.covariance.root import Root
from eeqs.engine.linalg import invert

if TYPE_CHECKING:
    from eeqs.engine.inference import Estimate

__all__ = ["FayGraubard"]


@dataclass(frozen=True)
class FayGraubard:
    r"""Every equation of a cluster divided by the root of one minus its own leverage.

    .. math:: B = \frac1n \sum_g D_g \psi_g \psi_g^\top D_g, \qquad
              D_g = \mathrm{diag}\big\{ (1 - \min(b, H_{g,jj}))^{-1/2} \big\}, \qquad
              H_g = \frac1n \sum_{i \in g} \frac{\partial \psi_i}{\partial \theta} A^{-1}

    Attributes
    ----------
    by : str or array of shape (n,), optional
        Column of cluster labels, or the labels; every row on its own when left out.
    bound : float
        The bound b below one, 0.75 in the paper.

    Notes
    -----
    Fay & Graubard (2001, Biometrics 57). `degrees_of_freedom` belongs to it. The (p, p) Jacobians of all clusters, or
    rows, are held in memory.

    Raises
    ------
    ValueError
        If ``bound`` is not in [0, 1).
    DataError
        From `meat`: replicates, unusable labels.
    PsiError
        From `meat`: a step function, which has no leverage.
    """

    by: Any = None
    bound: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.bound < 1:
            raise ValueError(f"bound is {self.bound}; pass a number of at least 0 and below 1, such as 0.75.")

    @property
    def label(self) -> str:
        """Name for tables."""
        return f"FG({'rows' if self.by is None else self.by if isinstance(self.by, str) else 'labels'})"

    @property
    def groups(self) -> tuple[Any, ...]:
        """The one set of labels, or none."""
        return () if self.by is None else (self.by,)

    def meat(self, root: Root) -> Tensor:
        """Meat (p, p)."""
        sums, jacobians, sizes = self._units(root)
        adjusted = self._factors(root, jacobians) * sums
        return adjusted.mT @ (sizes[:, None] * adjusted) / root.n

    def degrees_of_freedom(self, fit: Estimate) -> pd.Series:
        r"""Degrees of freedom of the t statistic of every parameter, the :math:`\tilde d` of the paper.

        The variance of a contrast c is a quadratic form :math:`U^\top M U` in the stacked :math:`\psi_g` at the truth.
        With the working variance :math:`\Psi = \mathrm{diag}(\Psi_g)`, moments of a scaled chi-squared give

        .. math:: \tilde d = \frac{\mathrm{tr}(\Psi M)^2}{\mathrm{tr}(\Psi M \Psi M)}, \qquad
                  \Psi_g = \frac{w_g}{\sum_h w_h} \sum_h D_h \psi_h \psi_h^\top D_h, \qquad
                  w_g = c^\top \big\{ (\textstyle\sum_{h \ne g} \Omega_h)^{-1} - V_m \big\} c,

        with :math:`\Omega_g` minus the Jacobian of :math:`\psi_g`, and :math:`V_m = (\sum \Omega_h)^{-1}`. For
        the mean of n observations it is n - 1.

        Parameters
        ----------
        fit : Estimate
            Fitted with this covariance.

        Raises
        ------
        DataError
            If a cluster alone identifies a parameter, or the fit was read from a file.
        """
        root = Root(fit.data(), fit.solution.theta, fit.names)
        sums, jacobians, sizes = self._units(root)
        factors = self._factors(root, jacobians)
        adjusted = factors * sums
        total = adjusted.mT @ (sizes[:, None] * adjusted)
        model = -invert(root.bread, root.names) / root.n
        name = (lambda g: f"row {g}") if self.by is None else lambda g: root.cluster_name(self.by, g)
        matrices, scale = leverages(root, jacobians)
        without = (model / scale) @ inverse_power(matrices, 1.0, name) * scale
        weights = (without - model).diagonal(dim1=1, dim2=2)
        weights = weights / (sizes @ weights)
        values = [
            _moments_ratio(factors * model[j], -jacobians, model, weights[:, j], total, sizes)
            for j in range(len(model))
        ]
        return pd.Series(values, index=list(root.names), name="df")

    def _units(self, root: Root) -> tuple[Tensor, Tensor, Tensor]:
        """Sum psi (G, p), its Jacobians (G, p, p), and count the equal units each stands for (G,)."""
        root.require_one_data_set(self.label)
        if self.by is not None:
            sums, jacobians = cluster_jacobians(root, self.by)
            return sums, jacobians, torch.ones_like(sums[:, 0])
        parts = [
            (values, jacobians, torch.ones_like(values[:, 0]) if rows.counts is None else rows.counts)
            for values, jacobians, rows in row_jacobians(root)
        ]
        first, second, third = (torch.cat(part) for part in zip(*parts, strict=True))
        return first, second, third

    def _factors(self, root: Root, jacobians: Tensor) -> Tensor:
        """Diagonals (G, p) of the matrices D."""
        own = leverages(root, jacobians)[0].diagonal(dim1=1, dim2=2)
        return (1 - own.clamp_max(self.bound)).rsqrt()


def _moments_ratio(
    contrasts: Tensor, information: Tensor, model: Tensor, weights: Tensor, total: Tensor, sizes: Tensor
) -> float:
    r"""Ratio :math:`tr(\Psi M)^2 / tr(\Psi M \Psi M)`.

    With :math:`m_g` = contrasts[g] and :math:`a_g = V_m^\top \Omega_g^\top m_g`, M is :math:`\sum_g q_g q_g^\top`, and
    :math:`q_g` holds :math:`m_g - a_g` in block g and :math:`-a_g` in all others. The products
    :math:`Q_{gh} = q_g^\top \Psi q_h` are a diagonal :math:`w_g m_g^\top S m_g` plus :math:`U W U^\top` of rank 2 p,
    from which both traces follow without a matrix over pairs of clusters.
    """
    spread = (contrasts[:, None, :] @ information @ model)[:, 0]
    smoothed = weights[:, None] * (contrasts @ total)
    diagonal = (smoothed * contrasts).sum(1)
    factor = torch.cat([smoothed, spread], 1)
    eye, zero = torch.eye(len(model)).to(model), torch.zeros_like(model)
    middle = torch.cat([torch.cat([zero, -eye], 1), torch.cat([-eye, total], 1)])
    low_rank = ((factor @ middle) * factor).sum(1)
    gram = middle @ (factor.mT @ (sizes[:, None] * factor))
    trace = sizes @ (diagonal + low_rank)
    square = sizes @ (diagonal.square() + 2 * diagonal * low_rank) + (gram @ gram).trace()
    return float(trace.square() / square)
