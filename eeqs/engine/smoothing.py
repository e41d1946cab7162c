r"""Induced smoothing: roots and standard errors of estimating functions that jump.

A step function of theta (a sign, a rank, a count of exceedances) need not vanish anywhere, and its derivative is zero
where it exists. Adding to theta a normal vector of the size of the estimate's own sampling error replaces
:math:`\bar\psi` by

.. math:: \tilde\psi(\theta) = E_Z\, \bar\psi(\theta + \Gamma^{1/2} Z), \qquad Z \sim N(0, I_p),

which is smooth, has the same root to first order when :math:`\Gamma` is of the order of the covariance of the estimate,
and has the derivative :math:`E_Z\, \bar\psi(\theta + \Gamma^{1/2} Z)\, Z^\top \Gamma^{-1/2}`. Solved means that
:math:`\tilde\psi` is zero, with :math:`\Gamma` the sandwich covariance at that root (Brown & Wang 2005, Biometrika 92).
The expectation is an average over K nodes, which jumps by the size of a row over n K: zero means less than a hundredth
of a standard error of the equations, or four jumps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from eeqs.engine.errors import PsiError
from eeqs.engine.psi import EstimatingFunction, PsiLike, as_psi
from eeqs.engine.tree import leaves_of

__all__ = ["induced_smoothing"]

# Rounds of (root, covariance) until the scale of smoothing settles, and the relative change at which it has.
_ROUNDS, _SETTLED = 30, 1e-3
_STEPS, _HALVINGS = 50, 20
# Rows that may jump at one node as theta moves past the root; an average over nodes is a fine step function still.
_JUMPS = 4
# Smoothed mean, in standard errors, that counts as zero where the steps forbid less.
_NEGLIGIBLE = 1e-2


def induced_smoothing(
    psi: PsiLike,
    start: Sequence[float],
    scale: Sequence[float],
    *,
    names: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    n_nodes: int = 128,
    seed: int = 0,
) -> EstimatingFunction:
    r"""Make an estimating function with jumps solvable, and its bread estimable.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        ``psi(theta, data) -> (n, p)``; row i may jump as theta moves.
    start : sequence of float, length p
        Where the search begins.
    scale : sequence of float, length p
        First standard deviation of the smoothing, of the order of the standard errors or larger; a wide one finds the
        root from farther away. It is replaced by the sandwich standard errors as the rounds go on.
    names, columns : sequence of str
        As in `eeqs.EstimatingFunction`, where psi is a plain function.
    n_nodes : int
        Points of a scrambled Sobol sequence for the expectation, used with both signs; a power of two.
    seed : int
        Seed of the scrambling.

    Returns
    -------
    EstimatingFunction
        With its own root finder and bread; its rows are those of psi.

    Raises
    ------
    PsiError
        If psi has a root finder of its own or frequency weights, ``start`` and ``scale`` differ in length, or a scale
        is not positive.

    Notes
    -----
    The cost is ``2 n_nodes`` evaluations of psi a step. The error of the nodes enters the root at the order of the
    standard error divided by about ``n_nodes``.
    """
    inner = as_psi(psi)
    if inner.root is not None:
        raise PsiError("this psi has a root finder of its own; induced smoothing is for one that has none.")
    if inner.counts is not None:
        raise PsiError("induced smoothing takes no frequency weights; repeat the rows, or use probability weights.")
    first, spread = (torch.as_tensor(v, dtype=torch.float64).reshape(-1) for v in (start, scale))
    if first.shape != spread.shape or bool((spread <= 0).any()):
        raise PsiError(f"start has {len(first)} values and scale {len(spread)}; they need as many, scales above zero.")
    if n_nodes < 2 or n_nodes & (n_nodes - 1):
        raise PsiError(f"n_nodes is {n_nodes}; pass a power of two.")
    sobol = stats.qmc.MultivariateNormalQMC([0.0] * len(first), rng=seed).random(n_nodes)
    half = torch.as_tensor(sobol, dtype=torch.float64)
    smoothed = _Smoothed(inner.psi, torch.cat([half, -half]), torch.diag(spread))
    return EstimatingFunction(
        inner.psi,
        tuple(names) or inner.names,
        inner.columns if columns is None else tuple(columns),
        inner.prepare,
        start=lambda data: first.to(next(leaves_of(data)).device),
        mean_jacobian=smoothed.bread,
        root=lambda data: smoothed.root(first, data),
        encode=inner.encode,
        require=inner.require,
    )


@dataclass(frozen=True)
class _Smoothed:
    """Psi averaged over normal perturbations of theta with covariance ``factor factor^T``."""

    psi: Callable[[Tensor, Any], Tensor]
    nodes: Tensor
    first_factor: Tensor

    def moments(self, theta: Tensor, factor: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Smoothed mean (p,) and its Jacobian (p, p)."""
        means = torch.stack([self._rows(theta + factor @ node, data).mean(dim=0) for node in self.nodes])
        # The nodes are balanced, not exactly of unit variance: dividing by their second moment makes lines exact.
        gram = self.nodes.mT @ self.nodes
        slope = torch.linalg.solve(gram, self.nodes.mT @ means).mT
        return means.mean(dim=0), slope @ torch.linalg.inv(factor)

    def bread(self, theta: Tensor, data: Any) -> Tensor:
        """Jacobian (p, p) with the smoothing that its own sandwich covariance implies."""
        factor = self.first_factor
        for _ in range(_ROUNDS):
            jacobian = self.moments(theta, factor, data)[1]
            old, factor = factor, self._covariance_factor(theta, jacobian, data)
            if _settled(old, factor):
                break
        return self.moments(theta, factor, data)[1]

    def root(self, theta: Tensor, data: Any) -> tuple[Tensor, float]:
        """Root of the smoothed mean, and by how much its distance from zero exceeds what counts as zero."""
        factor, excess = self.first_factor, math.inf
        for _ in range(_ROUNDS):
            theta, jacobian, excess = self._solve(theta, factor, data)
            old, factor = factor, self._covariance_factor(theta, jacobian, data)
            if excess > 0 or _settled(old, factor):
                break
        return theta, excess

    def _solve(self, theta: Tensor, factor: Tensor, data: Any) -> tuple[Tensor, Tensor, float]:
        """Newton with halved steps on the smoothed mean."""
        values = self._rows(theta, data)
        unit = values.square().mean(dim=0).sqrt()
        unit = torch.where(unit > 0, unit, 1.0) / len(values) ** 0.5
        jump = float((values.abs().amax(dim=0) / unit).max()) * _JUMPS / (len(values) * len(self.nodes))
        mean, jacobian = self.moments(theta, factor, data)
        for _ in range(_STEPS):
            if float((mean / unit).abs().max()) <= jump:
                break
            step = torch.linalg.lstsq(jacobian / unit[:, None], -mean / unit).solution
            for halving in range(_HALVINGS):
                trial = self.moments(theta + step / 2**halving, factor, data)
                if (trial[0] / unit).norm() < (mean / unit).norm():
                    theta, (mean, jacobian) = theta + step / 2**halving, trial
                    break
            else:
                break
        return theta, jacobian, max(0.0, float((mean / unit).abs().max()) - max(jump, _NEGLIGIBLE))

    def _covariance_factor(self, theta: Tensor, jacobian: Tensor, data: Any) -> Tensor:
        """Cholesky factor of the sandwich covariance of the estimate."""
        values = self._rows(theta, data)
        inverse = torch.linalg.inv(jacobian)
        covariance = inverse @ (values.mT @ values) @ inverse.mT / len(values) ** 2
        factor: Tensor = torch.linalg.cholesky((covariance + covariance.mT) / 2)
        return factor

    def _rows(self, theta: Tensor, data: Any) -> Tensor:
        values = self.psi(theta, data)
        return values if values.ndim > 1 else values[:, None]


def _settled(old: Tensor, new: Tensor) -> bool:
    return bool(((new - old).norm() <= _SETTLED * new.norm()).all())
