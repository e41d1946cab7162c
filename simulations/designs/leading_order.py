r"""What draws cost in the frozen-kernel model, to leading order in 1/K, by quadrature: no simulation, nothing fitted.

With :math:`a = \partial \log q` the score, I its variance and z one draw, the error that draw k adds to
:math:`\psi` is to first order

.. math:: h_z(y) = \frac{\partial p_z(y) - p_z(y)\, a(y)}{q(y)}, \qquad E_z\, h_z(y) = 0,

the same for plug_in and, since the terms of residual and instrument that sum over classes cancel, for cross_fitted
and two_sample. Derivatives are with respect to the log-scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import norm

from simulations.designs.frozen_kernel import FrozenKernel

__all__ = ["LeadingOrder"]

Array = np.ndarray
_X_NODES, _Z_NODES = 40, 120
# Points of the unit interval over which strata are averaged: a multiple of every power of two up to it.
_UNIT_POINTS = 2**13


@dataclass(frozen=True)
class LeadingOrder:
    """Population quantities at the truth of a design.

    Attributes
    ----------
    design : FrozenKernel
        The design.
    """

    design: FrozenKernel

    @property
    def information(self) -> float:
        r"""Information of an observation, :math:`I = E\, a(y)^2`; maximum likelihood has variance 1 / (n I)."""
        return float(np.sum(self._weight * self._slope**2 / self._mass))

    @property
    def draw_constant(self) -> float:
        r"""Constant c of :math:`1 - RE \sim c / K` for independent draws: :math:`c = E\, Var_z\{h_z(y)\} / I`."""
        z, weight = _gauss_hermite()
        spread = np.einsum("z,xzv->xv", weight, self._error(z) ** 2)
        return float(np.sum(self._weight * self._mass * spread)) / self.information

    @property
    def quadratic_limit(self) -> float:
        r"""Limit of 1/RE - 1 for quadratic: I times the sandwich :math:`E \psi^2 / (E \psi a)^2`, less 1.

        As K grows :math:`\psi` tends to :math:`\sum_v (1\{y=v\} - q(v))\, \partial q(v)`.
        """
        brier = self._slope - (self._mass * self._slope).sum(axis=1, keepdims=True)
        bread = np.sum(self._weight * brier * self._slope)
        meat = np.sum(self._weight * self._mass * brier**2)
        return float(self.information * meat / bread**2) - 1

    @property
    def plug_in_bias(self) -> float:
        r"""Constant b of the bias b / K of plug_in.

        :math:`E \log \hat q = \log q - Var_z(p_z) / (2 K q^2)` to first order, and b is I^-1 times the mean over y of
        the derivative of the second term, times K.
        """
        z, weight = _gauss_hermite()
        p, slope = self._kernel(z)
        square, product = (np.einsum("z,xzv->xv", weight, p * part) for part in (p, slope))
        gradient = product / self._mass - square * self._slope / self._mass**2
        return -float(np.sum(self._weight * gradient)) / self.information

    def net_excess(self, n_draws: int) -> float:
        r"""1/RE - 1 of two_sample with K draws in two scrambled one-dimensional nets of m = K / 2 points.

        A scrambled net has one point, uniform and independent, in every interval of length 1 / m, so that the variance
        of its mean is :math:`m^{-2} \sum_j Var(h \mid j)` (Owen 1997); two groups halve it.

        Raises
        ------
        ValueError
            If K / 2 is not a power of two, or too large for the points at which h is known.
        """
        size = n_draws // 2
        if n_draws != 2 * size or size < 1 or _UNIT_POINTS % size or 16 * size > _UNIT_POINTS:
            raise ValueError(f"{n_draws} draws: two nets need twice a power of two, at most {_UNIT_POINTS // 8}.")
        z = norm.ppf((np.arange(_UNIT_POINTS) + 0.5) / _UNIT_POINTS)
        strata = self._error(z).reshape(len(self._mass), size, -1, self._mass.shape[1])
        variance = strata.var(axis=2).sum(axis=1) / size**2
        return float(np.sum(self._weight * self._mass * variance)) / (2 * self.information)

    def best_draws(self, budget: float) -> float:
        r"""K that minimises the leading mean squared error of plug_in, :math:`b^2 / K^2 + K / (I M)`, at nK = M."""
        return (2 * self.plug_in_bias**2 * self.information * budget) ** (1 / 3)

    def _kernel(self, z: Array) -> tuple[Array, Array]:
        """Probabilities and their derivatives at the nodes of x and at z, both (X, Z, V)."""
        scale = math.exp(self.design.truth)
        weight, square = np.array(self.design.weight), np.array(self.design.square_weight)
        e = (self._x[:, None] + scale * z)[..., None]
        logit = weight * e + square * e**2
        p = np.exp(logit - logit.max(axis=2, keepdims=True))
        p /= p.sum(axis=2, keepdims=True)
        slope = (weight + 2 * square * e) * scale * z[:, None]
        return p, p * (slope - (p * slope).sum(axis=2, keepdims=True))

    def _error(self, z: Array) -> Array:
        """First-order error h at the nodes of x, at z and for every class, (X, Z, V)."""
        p, slope = self._kernel(z)
        return (slope - p * (self._slope / self._mass)[:, None]) / self._mass[:, None]

    @property
    def _x(self) -> Array:
        return self.design.half_width * np.polynomial.legendre.leggauss(_X_NODES)[0]

    @property
    def _weight(self) -> Array:
        return np.polynomial.legendre.leggauss(_X_NODES)[1][:, None] / 2

    @cached_property
    def _marginal(self) -> tuple[Array, Array]:
        z, weight = _gauss_hermite()
        mass, slope = (np.einsum("z,xzv->xv", weight, part) for part in self._kernel(z))
        return mass, slope

    @property
    def _mass(self) -> Array:
        return self._marginal[0]

    @property
    def _slope(self) -> Array:
        return self._marginal[1]


def _gauss_hermite() -> tuple[Array, Array]:
    z, weight = np.polynomial.hermite_e.hermegauss(_Z_NODES)
    return z, weight / weight.sum()
