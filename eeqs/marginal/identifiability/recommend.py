r"""How many draws reach a wanted efficiency.

The variance of the root of psi exceeds that of maximum likelihood by a factor :math:`1 / e(K) = 1 + c K^{-r}`, nearly:
r is one for independent draws (McFadden 1989) and larger for quasi-Monte Carlo ones. c and r come from the efficiencies
at several numbers of draws, by least squares on the logarithms, with weights that fall with the standard error and with
the distance from the target, for the curve is not quite straight. The number that the fit proposes is evaluated too and
joins the fit, until it proposes what is known already.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from eeqs.marginal.draws import Draws
from eeqs.marginal.scores import Score

__all__ = ["Recommendation", "recommend"]

_ROUNDS = 6
# Farthest extrapolation beyond what was evaluated, as a factor; and the rounding that a number of draws is allowed.
_FARTHEST, _SLACK = 4, 1e-9
# Departure of the curve from the fit, relative to the distance from the target in log(1/e - 1).
_CURVED = 0.3
# Slopes of log(1/e - 1) on log K flatter than this have a floor in sight, and are not extrapolated.
_FLATTEST = -0.2


@dataclass(frozen=True)
class Recommendation:
    """The smallest design of draws that reaches a target efficiency in every parameter.

    Attributes
    ----------
    target : float
    draws : Draws or None
        None if no number up to the largest considered is expected to reach it.
    efficiency, error : float
        Least efficiency of a parameter at these draws, computed there, and its standard error.
    low, high : float
        95 % range of the number of draws, from the error of the efficiencies and the slope of the fit.
    rate : float
        Exponent r of the fit.
    points : dict of int to (float, float)
        Numbers of draws at which the least efficiency was computed, with its standard error.
    """

    target: float
    draws: Draws | None
    efficiency: float
    error: float
    low: float
    high: float
    rate: float
    points: dict[int, tuple[float, float]]

    def __str__(self) -> str:
        method = f"1/e - 1 ~ K^-{self.rate:.2g} through K = {', '.join(map(str, self.points))}"
        if self.draws is None:
            return f"no number of draws considered is expected to reach efficiency {self.target:g} ({method})"
        return (
            f"K = {len(self.draws)} ({self.draws}) for efficiency {self.target:g}: {self.efficiency:.3f} "
            f"(s.e. {self.error:.3f}) computed there; 95 % range of K {self.low:.0f} to {self.high:.0f} ({method})"
        )


def recommend(
    evaluate: Callable[[Draws], tuple[float, float]], draws: Draws, score: Score, target: float, most: int
) -> Recommendation:
    """Search for the smallest number of draws of the same scheme that reaches ``target``.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(draws) -> (efficiency, standard error)``.
    draws : Draws
        Where to start.
    score : Score
        Which numbers of groups it takes.
    target : float
    most : int
        Most draws considered.
    """
    sizes, ladder = _candidates(draws, score, most), [len(draws) * factor for factor in (1, 2, 4)]
    points = {k: evaluate(_resized(draws, score, k)) for k in sizes if k in ladder}
    wanted = math.log(1 / target - 1)
    for _ in range(_ROUNDS):
        crossing, rate, error = _fit(points, wanted)
        proposal = _next(sizes, min(max(crossing, min(points) / _FARTHEST), max(points) * _FARTHEST))
        if proposal in points:
            break
        points[proposal] = evaluate(_resized(draws, score, proposal))
    points = dict(sorted(points.items()))
    if crossing > proposal * (1 + _SLACK):
        return Recommendation(target, None, math.nan, math.nan, math.nan, math.nan, rate, points)
    low, high = (crossing * math.exp(sign * 1.96 * error) for sign in (-1, 1))
    return Recommendation(target, _resized(draws, score, proposal), *points[proposal], low, high, rate, points)


def _next(sizes: list[int], wanted: float) -> int:
    """Smallest number of draws that is not below the wanted one, or else the largest."""
    return next((k for k in sizes if k >= wanted * (1 - _SLACK)), sizes[-1])


def _grows_in_size(draws: Draws, score: Score) -> bool:
    """Whether more draws means larger groups: where the score takes no more of them, or nets fill the fewest."""
    return draws.groups == score.max_groups or (draws.size > 1 and draws.groups == score.min_groups)


def _candidates(draws: Draws, score: Score, most: int) -> list[int]:
    """Numbers of draws in increasing order; groups grow by doubling, so that a net stays one."""
    if _grows_in_size(draws, score):
        return [len(draws) * 2**k for k in range(max(1, most.bit_length())) if len(draws) * 2**k <= most]
    return [draws.size * groups for groups in range(score.min_groups, most // draws.size + 1)]


def _resized(draws: Draws, score: Score, n_draws: int) -> Draws:
    if _grows_in_size(draws, score):
        return replace(draws, size=n_draws // draws.groups)
    return replace(draws, groups=n_draws // draws.size)


def _fit(points: dict[int, tuple[float, float]], wanted: float) -> tuple[float, float, float]:
    """Find where the fit crosses, its exponent, and the standard error of the log of that number of draws."""
    draws = np.log(list(points))
    value, error = np.array(list(points.values())).T
    loss = np.maximum(1 / value - 1, np.maximum(error / value**2, 1e-12))
    spread = np.maximum(error / (value**2 * loss), 1e-6)
    x, y = draws, np.log(loss)
    weight = 1 / (spread**2 + (_CURVED * (y - wanted)) ** 2)
    if len(points) < 2:
        return (float(np.exp(x[0])) if y[0] <= wanted else math.inf), math.nan, math.nan
    centre, level = np.average(x, weights=weight), np.average(y, weights=weight)
    slope = float((weight * (x - centre) * (y - level)).sum() / (weight * (x - centre) ** 2).sum())
    if slope > _FLATTEST:
        reached = x[y <= wanted]
        return (float(np.exp(reached.min())) if len(reached) else math.inf), -slope, math.nan
    crossing = centre + (wanted - level) / slope
    variance = 1 / weight.sum() + (crossing - centre) ** 2 / (weight * (x - centre) ** 2).sum()
    return float(np.exp(crossing)), -slope, math.sqrt(variance) / -slope
