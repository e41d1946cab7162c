r"""Covariance of an averaged iterate, kept up to date one iterate at a time in :math:`O(p^2)` memory.

Random scaling and batch means are the same recursion on partial sums of the iterates,

.. math:: D_i = \sum_{k=s_i}^{i} (\theta_k - \bar\theta_T), \qquad U_T = \sum_{i=1}^{T} D_i D_i^\top, \qquad
          \ell_i = i - s_i + 1 .

They differ in where the sum that ends at iterate i starts, :math:`s_i`, and in what divides :math:`U_T`. When the mean
moves by :math:`\delta`, every :math:`D_i` moves by :math:`-\ell_i \delta`, so with :math:`v = \sum \ell_i D_i` and
:math:`q = \sum \ell_i^2`

.. math:: U \leftarrow U - v \delta^\top - \delta v^\top + q\, \delta \delta^\top, \qquad v \leftarrow v - q\, \delta ,

after which the newest sum is added. All terms are centred: there is no difference of large numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import torch
from scipy.stats import norm
from torch import Tensor

from eeqs.engine.linalg import invert
from eeqs.engine.pivotal import random_scaling_quantile

__all__ = ["BatchMeans", "OnlineCovariance", "PlugIn", "RandomScaling", "Step"]

State: TypeAlias = dict[str, Tensor]


class Step(NamedTuple):
    """What a step of the recursion tells a covariance; the axes ... are () or (R,).

    Attributes
    ----------
    iterate : Tensor of shape (..., p)
        The new iterate.
    mean : Tensor of shape (..., p)
        Mean of the iterates averaged so far, the new one among them.
    shift : Tensor of shape (..., p)
        By how much the new iterate moved that mean.
    score : Tensor of shape (..., p)
        Mean of psi over the batch, at the iterate before.
    jacobian : callable
        ``jacobian() -> (..., p, p)``, the mean Jacobian of psi over the batch, at the iterate before.
    """

    iterate: Tensor
    mean: Tensor
    shift: Tensor
    score: Tensor
    jacobian: Callable[[], Tensor]


class OnlineCovariance(Protocol):
    """A covariance of the averaged iterate, whose state is a dictionary of tensors of fixed size."""

    @property
    def name(self) -> str:
        """Prefix of its entries in the state of a run."""

    def start(self, theta: Tensor) -> State:
        """State before the first averaged iterate, for iterates like ``theta`` (..., p)."""

    def update(self, state: State, step: Step) -> State:
        """State after one more iterate."""

    def matrix(self, state: State) -> Tensor:
        """Scale of the averaged iterate (..., p, p), which `quantile` turns into intervals."""

    def quantile(self, probability: float) -> float:
        """Quantile of the limit of (averaged iterate - root) / square root of the scale."""


@dataclass(frozen=True)
class RandomScaling:
    r"""Random scaling: a studentisation that estimates nothing and has no tuning parameter.

    With :math:`\bar\theta_s` the mean of the first s iterates,

    .. math:: V_T = T^{-2} \sum_{s=1}^{T} s^2 (\bar\theta_s - \bar\theta_T)(\bar\theta_s - \bar\theta_T)^\top ,
              \qquad \frac{\sqrt T (\bar\theta_{T,j} - \theta_j)}{\sqrt{V_{T,jj}}} \to
              \frac{W(1)}{\{\int_0^1 (W(r) - r W(1))^2 dr\}^{1/2}} ,

    W a Brownian motion. :math:`V_T` does not converge to the asymptotic covariance; it stays random, the statistic
    has heavier tails than a normal (97.5 % quantile 6.747), and intervals are longer.

    Notes
    -----
    Lee, Liao, Seo & Shin (2022), AAAI 36, 7381-7389, with the limit law of Abadir & Paruolo (1997), Econometrica 65.
    `matrix` is :math:`V_T / T`.
    """

    @property
    def name(self) -> str:
        """Prefix of its entries in the state of a run."""
        return "random_scaling"

    def start(self, theta: Tensor) -> State:
        """State before the first averaged iterate."""
        return _no_sums(theta)

    def update(self, state: State, step: Step) -> State:
        """Add the sum of all iterates so far."""
        return _add_sum(state, step, restart=False)

    def matrix(self, state: State) -> Tensor:
        r"""Random scale :math:`V_T / T` (..., p, p)."""
        return state["products"] / state["count"] ** 3

    def quantile(self, probability: float) -> float:
        """Quantile of the pivotal limit, see `eeqs.engine.pivotal`."""
        return random_scaling_quantile(probability)


@dataclass(frozen=True)
class BatchMeans:
    r"""Batch means over overlapping batches that grow, without a horizon fixed in advance.

    Batch m starts at the averaged iterate :math:`a_m = \lfloor c\, m^{g} \rfloor`, and the sum that ends at iterate i
    starts where its batch does, :math:`s_i = a_m` for :math:`a_m \le i < a_{m+1}`:

    .. math:: \hat\Sigma_T = \frac{\sum_{i} D_i D_i^\top}{\sum_i \ell_i}, \qquad
              \sqrt T (\bar\theta_T - \theta) \approx N(0, \hat\Sigma_T) .

    Parameters
    ----------
    growth : float
        The exponent g, above one; :math:`2 / (1 - \alpha)` for steps :math:`\gamma_t \propto t^{-\alpha}`.
    first : float
        The constant c, at least one.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Notes
    -----
    Zhu, Chen & Wu (2023), JASA 118, 393-404, the recursive form of the batch means of Chen, Lee, Tong & Zhang (2020),
    Ann. Statist. 48, 251-273. Iterates are positively correlated and there are few long batches: the error falls as
    slowly as :math:`T^{-(1 - \alpha)/4}`, the variance is too small on the way, and intervals cover below their level.
    `matrix` is :math:`\hat\Sigma_T / T`.
    """

    growth: float = 6.0
    first: float = 1.0

    def __post_init__(self) -> None:
        if not 1 < self.growth < math.inf:
            raise ValueError(f"growth is {self.growth}; pass a number above 1, 2 / (1 - alpha) for steps t^-alpha.")
        if not 1 <= self.first < math.inf:
            raise ValueError(f"first is {self.first}; pass a number of iterates, 1 or more.")

    @property
    def name(self) -> str:
        """Prefix of its entries in the state of a run."""
        return f"batch_means({self.growth:.17g},{self.first:.17g})"

    def start(self, theta: Tensor) -> State:
        """State before the first averaged iterate."""
        return _no_sums(theta) | {"batch": torch.zeros((), dtype=torch.float64)}

    def update(self, state: State, step: Step) -> State:
        """Add the sum of the iterates since the start of the batch, or start the next batch."""
        following = state["batch"] + 1
        restart = float(state["count"]) + 1 >= math.floor(self.first * float(following) ** self.growth)
        return _add_sum(state, step, restart) | {"batch": following if restart else state["batch"]}

    def matrix(self, state: State) -> Tensor:
        r"""Covariance :math:`\hat\Sigma_T / T` (..., p, p)."""
        return state["products"] / state["lengths"] / state["count"]

    def quantile(self, probability: float) -> float:
        """Quantile of the standard normal."""
        return float(norm.ppf(probability))


@dataclass(frozen=True)
class PlugIn:
    r"""The sandwich with a running bread and a running meat, the batch being the unit.

    .. math:: A_T = \frac1m \sum_{t} \nabla \bar\psi_t(\theta_{t-1}), \qquad
              B_T = \frac1T \sum_{t} \bar\psi_t(\theta_{t-1})\, \bar\psi_t(\theta_{t-1})^\top, \qquad
              \sqrt T (\bar\theta_T - \theta) \approx N(0, A_T^{-1} B_T A_T^{-\top}) ,

    where :math:`\bar\psi_t` is the mean of psi over batch t, so that rows of one batch may depend on each other.

    Parameters
    ----------
    every : int
        Take the Jacobian of the first and every such step from there: m of T. The bread changes slowly, and where it
        costs several times what psi does this saves most of it.

    Raises
    ------
    ValueError
        If ``every`` is below one.

    Notes
    -----
    Chen, Lee, Tong & Zhang (2020), Ann. Statist. 48, 251-273. `matrix` is the covariance divided by T.
    """

    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every is {self.every}; pass 1 for a Jacobian at every step, or a larger integer.")

    @property
    def name(self) -> str:
        """Prefix of its entries in the state of a run."""
        return f"plug_in({self.every})"

    def start(self, theta: Tensor) -> State:
        """State before the first averaged iterate."""
        square, scalar = theta.new_zeros(*theta.shape, theta.shape[-1]), torch.zeros((), dtype=torch.float64)
        return {"bread": square, "meat": square.clone(), "jacobians": scalar, "count": scalar.clone()}

    def update(self, state: State, step: Step) -> State:
        """Add the outer product of the score, and the Jacobian where it is due."""
        due = int(state["count"]) % self.every == 0
        return {
            "bread": state["bread"] + step.jacobian() if due else state["bread"],
            "meat": state["meat"] + _outer(step.score, step.score),
            "jacobians": state["jacobians"] + due,
            "count": state["count"] + 1,
        }

    def matrix(self, state: State) -> Tensor:
        r"""Covariance :math:`A^{-1} B A^{-\top} / T` (..., p, p).

        Raises
        ------
        SingularBreadError
            For one run whose bread has no full rank; in a batch those entries are NaN.
        """
        inverse = invert(state["bread"] / state["jacobians"])
        return inverse @ state["meat"] @ inverse.mT / state["count"] ** 2

    def quantile(self, probability: float) -> float:
        """Quantile of the standard normal."""
        return float(norm.ppf(probability))


def _outer(left: Tensor, right: Tensor) -> Tensor:
    return left.unsqueeze(-1) * right.unsqueeze(-2)


def _no_sums(theta: Tensor) -> State:
    """State of the recursion in the head of this module: D, U, v and the scalars T, l, sum of l, q."""
    scalars = {name: torch.zeros((), dtype=torch.float64) for name in ("count", "length", "lengths", "squares")}
    sums = {"sum": torch.zeros_like(theta), "weighted": torch.zeros_like(theta)}
    return {"products": theta.new_zeros(*theta.shape, theta.shape[-1])} | sums | scalars


def _add_sum(state: State, step: Step, restart: bool) -> State:
    """Move every sum to the new mean and add the one that ends at the newest iterate; ``restart`` starts it there."""
    shift, weighted, squares = step.shift, state["weighted"], state["squares"]
    cross = _outer(weighted, shift)
    products = state["products"] - cross - cross.mT + squares * _outer(shift, shift)
    weighted = weighted - squares * shift
    length = torch.ones_like(state["length"]) if restart else state["length"] + 1
    deviation = step.iterate - step.mean
    total = deviation if restart else state["sum"] - state["length"] * shift + deviation
    return {
        "products": products + _outer(total, total),
        "weighted": weighted + length * total,
        "sum": total,
        "count": state["count"] + 1,
        "length": length,
        "lengths": state["lengths"] + length,
        "squares": squares + length**2,
    }
