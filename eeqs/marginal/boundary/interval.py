r"""Confidence intervals for one noise scale, down to zero.

Every value :math:`\sigma_0` is tested by its self-normalised estimating function

.. math:: R(\sigma_0) = \frac{\sum_i \tilde\psi_i}{(\sum_i \tilde\psi_i^2)^{1/2}},

which is standard normal at the truth wherever that is, for the factor :math:`2 \sigma_0` between the scores in
:math:`\sigma` and in :math:`v = \sigma^2` cancels and the score in v is regular at zero. Which R are acceptable depends
on the distance of :math:`v_0` from zero in standard errors, :math:`t = v_0 / \mathrm{se}(\hat v)`, because an estimate
cannot be negative: the likelihood ratio orders them, so that

.. math:: -\frac{t^2 + c}{2 t} \le R \le \sqrt c \quad (t < \sqrt c), \qquad |R| \le \sqrt c \quad (t \ge \sqrt c),

with c(t) such that the acceptance has probability :math:`1 - \alpha`. At zero this is the one-sided test of level
:math:`\alpha`, far away the two-sided one; the interval is never empty for a model that holds.

References
----------
Feldman & Cousins (1998) Physical Review D 57 for the ordering; Boos (1992) The American Statistician 46 for R;
Rotnitzky, Cox, Bottai & Robins (2000) Bernoulli 6 for the singular information that makes Wald intervals fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scipy import special
from scipy.optimize import brentq
from torch import Tensor

from eeqs.engine.door import as_problem
from eeqs.engine.errors import SolverError, Status
from eeqs.engine.inference.reference import check_level
from eeqs.engine.linalg import pseudo_inverse
from eeqs.engine.solve import solve
from eeqs.marginal.boundary.null_score import projected_scores, require_scale
from eeqs.marginal.draws import Draws, as_draws
from eeqs.marginal.scores import Score

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["ScaleInterval", "Standing", "acceptance", "scale_interval", "scale_tester"]

# Values at which the two ends are looked for, and doublings of the largest one.
_GRID, _DOUBLINGS = 8, 12
# First largest value, relative to the spread of the embeddings.
_FIRST = 0.25


class Standing(NamedTuple):
    """Statistic R of a value of the scale, and the ends of what is acceptable there."""

    statistic: float
    low: float
    high: float

    @property
    def accepted(self) -> bool:
        """Whether the value belongs to the interval."""
        return self.low <= self.statistic <= self.high


@dataclass(frozen=True)
class ScaleInterval:
    """Confidence interval for a noise scale.

    Attributes
    ----------
    lower, upper : float
        Ends; zero is a member where ``lower`` is 0. ``upper`` is infinite where no scale that was tried is too large.
    alpha : float
        One minus the level.
    zero : Standing
        How no noise fits the data.
    test : callable
        ``test(sigma0) -> Standing`` of any value.
    """

    lower: float
    upper: float
    alpha: float
    zero: Standing
    test: Callable[[float], Standing] = field(repr=False)

    def __str__(self) -> str:
        return f"{100 * (1 - self.alpha):g} % interval for the noise scale: {self.lower:.4g} to {self.upper:.4g}"


def scale_interval(
    model: Marginal,
    data: Mapping[str, Any],
    score: Score,
    *,
    draws: int | Draws | None = None,
    alpha: float = 0.05,
    prefix: str = "x",
    response: str = "y",
    latent: str = "z",
) -> ScaleInterval:
    """Interval for a single noise scale that covers at and near zero, by inverting a test of every value.

    Parameters
    ----------
    model : Marginal
        With one learnable ``scale``, as ``Gaussian(dim, scale=0.1)``. Learnable parameters of the kernel are profiled:
        solved at every value, and projected out.
    data : mapping
    score : Score
        An unbiased one; ``exact()`` is the sharpest. A simulated one should have antithetic draws: independent ones
        leave noise of order one in a score that vanishes with the scale, so small scales are not told apart.
    draws, prefix, response, latent
        As in `Marginal.psi`.
    alpha : float

    Returns
    -------
    ScaleInterval
        From the smallest to the largest value that is not rejected.

    Raises
    ------
    ValueError
        If the score is biased, ``alpha`` is not in (0, 1), the perturbation has other learnable parameters or several
        scales, or every value is rejected, which means that the model does not hold.
    DataError, SolverError
        On bad data, or if the kernel could not be estimated at some value.
    """
    check_level(alpha)
    if require_scale(model) != 1:
        raise ValueError("the perturbation has several scales; make the noise isotropic, or test all with scale_test.")
    if not score.unbiased:
        raise ValueError(f"{score.name} is biased, so its interval covers another value; use exact or cross_fitted.")
    columns = {"x": data[prefix], "y": data[response], **({} if draws is None else {"z": data[latent]})}
    at = scale_tester(model, columns, score, None if draws is None else as_draws(draws), alpha)
    first = _FIRST * float(torch.as_tensor(columns["x"]).double().std())
    reach = next((first * 2**k for k in range(_DOUBLINGS) if at(first * 2**k).statistic < at(first * 2**k).low), None)
    values = [first * 2**_DOUBLINGS * k / _GRID if reach is None else reach * k / _GRID for k in range(_GRID + 1)]
    low = _crossing(values, lambda sigma: at(sigma).statistic - at(sigma).high)
    high = math.inf if reach is None else _crossing(values[::-1], lambda sigma: at(sigma).low - at(sigma).statistic)
    if low is None or high is None or low > high:
        raise ValueError("every scale is rejected; the model without a scale that fits does not hold.")
    return ScaleInterval(low, high, alpha, at(0.0), at)


def _crossing(values: list[float], excess: Callable[[float], float]) -> float | None:
    """First value, in their order, at which the excess is not positive, refined between neighbours."""
    if excess(values[0]) <= 0:
        return values[0]
    for before, after in pairwise(values):
        if excess(after) <= 0:
            return float(brentq(excess, before, after, xtol=1e-6 * max(values)))
    return None


def scale_tester(
    model: Marginal, data: dict[str, Any], score: Score, draws: Draws | None, alpha: float
) -> Callable[[float], Standing]:
    """Make the test of any scale, which keeps what it found."""
    found: dict[float, Standing] = {}

    def at(sigma: float) -> Standing:
        if sigma not in found:
            statistic, distance = _at_zero(model, data) if sigma == 0 else _at(model, data, score, draws, sigma)
            found[sigma] = Standing(statistic, *acceptance(distance, alpha))
        return found[sigma]

    return at


def _at_zero(model: Marginal, data: dict[str, Any]) -> tuple[float, float]:
    values = projected_scores(model, {name: data[name] for name in ("x", "y")})[:, 0]
    return float(values.sum() / values.norm()), 0.0


def _at(model: Marginal, data: dict[str, Any], score: Score, draws: Draws | None, sigma: float) -> tuple[float, float]:
    """Self-normalised statistic of a positive scale, and its distance from zero in standard errors of the variance."""
    theta = _profiled(model, data, score, draws, sigma)
    problem = as_problem(model.psi(score, draws=draws), data)
    values, bread = problem.values(theta), problem.jacobian(theta)
    line, slope = torch.zeros_like(theta[1:]), bread[0, 0]
    if len(line):
        line = bread[0, 1:] @ pseudo_inverse(bread[1:, 1:])[0]
        slope = slope - line @ bread[1:, 0]
    psi = values[:, 0] - values[:, 1:] @ line
    # psi = 2 sigma psi_v, so d psi / d sigma = 2 psi_v + 4 v d psi_v / d v, whose last factor is the information on v.
    distance = sigma / 2 * (slope - psi.mean() / sigma).abs() * len(psi) / psi.norm()
    return float(psi.sum() / psi.norm()), float(distance)


def _profiled(model: Marginal, data: dict[str, Any], score: Score, draws: Draws | None, sigma: float) -> Tensor:
    """Parameters with the kernel's equations solved at a fixed scale."""
    held = model.with_theta(torch.cat([torch.tensor([sigma]).to(model.theta), model.theta[1:]]))
    theta = held.theta
    held.perturbation.requires_grad_(False)
    if not held.names:
        return theta
    solution = solve(held.psi(score, draws=draws), data, minimum_norm=True)
    if solution.status is not Status.CONVERGED:
        raise SolverError(f"the kernel was not estimated at scale {sigma:g}: {solution.status.text}")
    return torch.cat([theta[:1], solution.theta])


def acceptance(distance: float, alpha: float) -> tuple[float, float]:
    """Return the ends of the acceptable statistics of a value ``distance`` standard errors from zero."""
    one_sided, two_sided = -float(special.ndtri(alpha)), -float(special.ndtri(alpha / 2))

    def low(root: float) -> float:
        if distance >= root:
            return -root
        return -(distance**2 + root**2) / (2 * distance) if distance > 0 else -math.inf

    def excess(root: float) -> float:
        return float(special.ndtr(root) - special.ndtr(low(root)) - (1 - alpha))

    if excess(one_sided) >= 0:  # the lower tail is zero to rounding
        root = one_sided
    else:
        root = two_sided if excess(two_sided) <= 0 else float(brentq(excess, one_sided, two_sided))
    return low(root), root
