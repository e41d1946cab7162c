r"""Claim T12 judged on the table of the study ``budget``.

The best K at a budget is where a parabola in log K, fitted to the log-RMSE over the grid with weights 1 / RMSE, is
least, or the end of the grid nearest to it. Near its minimum the curve of plug_in is
:math:`\tfrac12 \log\{(e^{-2t} + 2 e^t) / 3\} \approx t^2 / 2` at K = best times :math:`e^t`, whatever the budget; the
weights keep the far branches from bending it. The exponent is the least-squares slope of log K on log budget.
Replicates are resampled within every cell, and the search for the best K is repeated in every bootstrap sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from simulations.claims.rows import ERROR, Bounds, Row, frame, level_row, point_row, slope_row
from simulations.rates import Interval
from simulations.schema import CONVERGED

__all__ = ["Best", "best", "best_draws", "judge"]

Array = np.ndarray

DRAWS_EXPONENT = {"plug_in": 1 / 3, "cross_fitted": 0.0, "two_sample": 0.0}
RMSE_EXPONENT = {"plug_in": -1 / 3, "cross_fitted": -1 / 2, "two_sample": -1 / 2}
# Fixed draws of the floor and of the rate without one.
FIXED_DRAWS = 4
_FLOOR = Bounds(at_least=-0.1)


class Best(NamedTuple):
    """Best number of draws of one estimator at each budget, and its RMSE there.

    Attributes
    ----------
    budget : array of shape (M,)
    log_draws, log_rmse : array of shape (1 + S, M)
        Logarithms; the first row is the estimate, the others are bootstrap samples.
    """

    budget: Array
    log_draws: Array
    log_rmse: Array


def judge(table: pd.DataFrame, *, exponent_width: float, rmse_width: float) -> pd.DataFrame:
    """Return one row a claim and line, with columns `simulations.study.VERDICT_COLUMNS`.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    exponent_width, rmse_width : float
        Widest interval of the exponent of the best K, and of an RMSE, that supports its claim.
    """
    found = {name: best(table[table["estimator"] == name]) for name in DRAWS_EXPONENT}
    return frame(
        [
            *(_exponent(name, found[name], exponent_width) for name in DRAWS_EXPONENT),
            *(_rmse_exponent(name, found[name], rmse_width) for name in RMSE_EXPONENT),
            *_fixed(table, rmse_width),
            _gain(found["plug_in"], found["cross_fitted"]),
        ]
    )


def best(rows: pd.DataFrame, *, samples: int = 2000, seed: int = 0) -> Best:
    """Find the best number of draws at each budget, on the rows and on bootstrap samples of their replicates.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of one estimator; converged ones are used.
    samples, seed : int
        Of the bootstrap.

    Raises
    ------
    ValueError
        A budget has fewer than three numbers of draws.
    """
    random = np.random.default_rng(seed)
    budgets = np.unique(rows["budget"])
    found = []
    for budget in budgets:
        cells = rows[(rows["budget"] == budget) & (rows["status"] == CONVERGED)].groupby("n_draws")
        if len(cells) < 3:
            raise ValueError(f"budget {budget}: {len(cells)} numbers of draws, the best one needs at least 3")
        draws, errors = zip(*((k, (part["estimate"] - part["truth"]).to_numpy()) for k, part in cells), strict=True)
        log_rmse = np.stack([_log_rmse(cell, samples, random) for cell in errors], axis=1)
        found.append(best_draws(np.log(np.array(draws, dtype=float)), log_rmse))
    log_draws, log_rmse = (np.stack(part, axis=1) for part in zip(*found, strict=True))
    return Best(budgets, log_draws, log_rmse)


def best_draws(log_draws: Array, log_rmse: Array) -> tuple[Array, Array]:
    """Where the fitted parabola is least on the grid, or the least point where it opens downwards.

    Parameters
    ----------
    log_draws : array of shape (D,)
        Increasing, D >= 3.
    log_rmse : array of shape (S, D)

    Returns
    -------
    tuple of two arrays of shape (S,)
        Where each row is least, and its value there.
    """
    weight = np.exp(log_rmse.min(axis=1, keepdims=True) - log_rmse)
    centre = log_draws.mean()
    powers = (log_draws - centre) ** np.arange(3)[:, None]
    normal = np.einsum("sd,id,jd->sij", weight, powers, powers)
    right = np.einsum("sd,id,sd->si", weight, powers, log_rmse)
    constant, slope, curvature = np.linalg.solve(normal, right[..., None])[..., 0].T
    opens = curvature > 0
    vertex = centre - slope / (2 * np.where(opens, curvature, 1.0))
    at = np.where(opens, np.clip(vertex, log_draws[0], log_draws[-1]), log_draws[log_rmse.argmin(axis=1)])
    step = at - centre
    return at, np.where(opens, constant + slope * step + curvature * step**2, log_rmse.min(axis=1))


def _log_rmse(errors: Array, samples: int, random: np.random.Generator) -> Array:
    """Log-RMSE of the errors and of bootstrap samples of them, (1 + S,)."""
    index = random.integers(len(errors), size=(samples, len(errors)))
    return np.log(np.append(np.mean(errors**2), np.mean(errors[index] ** 2, axis=1))) / 2


def _slope(budget: Array, values: Array, family: int) -> Interval:
    """Least-squares slope of values (1 + S, M) on log budget."""
    centred = np.log(budget) - np.log(budget).mean()
    return _interval(values @ (centred / np.sum(centred**2)), family)


def _interval(values: Array, family: int) -> Interval:
    low, high = np.quantile(values[1:], [ERROR / (2 * family), 1 - ERROR / (2 * family)])
    return Interval(float(values[0]), float(low), float(high), float(values[1:].std(ddof=1)))


def _exponent(name: str, found: Best, max_width: float) -> Row:
    interval = _slope(found.budget, found.log_draws, len(DRAWS_EXPONENT))
    return point_row("T12", name, "exponent of the best K in nK", interval, DRAWS_EXPONENT[name], max_width)


def _rmse_exponent(name: str, found: Best, max_width: float) -> Row:
    interval = _slope(found.budget, found.log_rmse, len(RMSE_EXPONENT))
    return point_row("T12", name, "exponent of the RMSE at the best K in nK", interval, RMSE_EXPONENT[name], max_width)


def _fixed(table: pd.DataFrame, max_width: float) -> list[Row]:
    """RMSE of the biased and of an unbiased equation where K does not follow the budget."""
    at = table[table["n_draws"] == FIXED_DRAWS]
    predicted: dict[str, float | Bounds] = {"plug_in": _FLOOR, "cross_fitted": RMSE_EXPONENT["cross_fitted"]}
    rows = []
    for name, exponent in predicted.items():
        bound = ", at least" if isinstance(exponent, Bounds) else ""
        quantity = f"exponent of the RMSE at K = {FIXED_DRAWS} in nK{bound}"
        line = at[at["estimator"] == name]
        rows.append(slope_row("T12", name, quantity, line, exponent, x="budget", max_width=max_width, family=2))
    return rows


def _gain(biased: Best, unbiased: Best) -> Row:
    """RMSE of plug_in in units of that of cross_fitted, each at its best K, at the largest budget."""
    ratio = _interval(np.exp(biased.log_rmse[:, -1] - unbiased.log_rmse[:, -1]), 1)
    quantity = f"RMSE plug_in / cross_fitted, each at its best K, nK = {biased.budget[-1]}, at least"
    return level_row("T12", "largest budget", quantity, ratio, Bounds(at_least=1.0))
