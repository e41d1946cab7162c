"""Claim T4 judged on the table of the study ``efficiency``.

Predictions: as K grows, 1 - RE of cross_fitted is c / K with c from quadrature; that of two_sample on scrambled nets
falls at least as K^-2, the order for integrands of bounded variation; that of quadratic tends to a limit above zero,
computed by quadrature, and the excess variance 1/RE - 1 exceeds its own by a term of order 1/K. Roots attain the
efficiency computed at the truth.

The next term of a loss c / K is smaller by a factor of order 1 / K: with an excess variance of c / K exactly, 1 - RE
is c / (K + c), whose local slope is -1 + c / (K + c). A slope fitted from K0 on is therefore claimed to lie within
c / K0 of -1 (within 1 / K0 for quadratic, whose excess variance is that of a U-statistic of order two,
c / K + d / (K (K - 1))): no number of replicates would bring it closer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from simulations.claims.rows import ERROR, Bounds, Row, frame, mean_row, point_row, slope_row
from simulations.rates import Interval, mean
from simulations.schema import CONVERGED

__all__ = ["attained", "judge", "lost"]

NET_SLOPE = Bounds(at_most=-2.0)


def judge(
    table: pd.DataFrame,
    *,
    burn_in: Mapping[str, int],
    constant: float,
    max_width: float,
    root_max_width: float,
) -> pd.DataFrame:
    """Return one row a claim and line, with columns `simulations.study.VERDICT_COLUMNS`.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the study.
    burn_in : mapping of str to int
        Smallest K of the fitted slope of each line.
    constant : float
        c of the leading order c / K of 1 - RE for independent draws.
    max_width : float
        Widest interval of K (1/RE - 1) / c that supports its claim.
    root_max_width : float
        Widest interval of the ratio of two efficiencies.
    """
    excess, roots = (table[table["quantity"] == kind] for kind in ("excess_variance", "root"))
    lines = {name: excess[excess["estimator"] == name] for name in burn_in}
    return frame(
        [
            *_cross_fitted(lines["cross_fitted"], burn_in["cross_fitted"], constant, max_width),
            _net(lines["two_sample"], burn_in["two_sample"]),
            *_quadratic(lines["quadratic"], burn_in["quadratic"]),
            *_attained(roots, excess, root_max_width),
        ]
    )


def lost(excess: pd.DataFrame) -> pd.DataFrame:
    """Turn rows of the excess variance 1/RE - 1 into rows of the lost efficiency 1 - RE, the limit with them."""
    change = {name: excess[name] / (1 + excess[name]) for name in ("estimate", "truth")}
    return excess.assign(**change)


def _near_minus_one(regime: str, quantity: str, rows: pd.DataFrame, burn_in: int, next_order: float) -> Row:
    """Judge that a slope lies as close to -1 as the next order allows."""
    bounds = Bounds(-1 - next_order, -1 + next_order)
    quantity = f"slope of {quantity} in K >= {burn_in}, within {next_order:.2g} of"
    row = slope_row(
        "T4",
        regime,
        quantity,
        rows,
        bounds,
        x="n_draws",
        measure=mean,
        burn_in=burn_in,
        weighted=True,
        max_width=np.inf,
    )
    return row._replace(predicted=-1.0)


def _cross_fitted(rows: pd.DataFrame, burn_in: int, constant: float, max_width: float) -> Iterator[Row]:
    yield _near_minus_one("cross_fitted", "1 - RE", lost(rows), burn_in, constant / burn_in)
    most = int(rows["n_draws"].max())
    share = most * rows.loc[rows["n_draws"] == most, "estimate"] / constant
    quantity = f"K (1/RE - 1) / c at K = {most}, c = {constant:.3f} by quadrature"
    yield mean_row("T4", "cross_fitted", quantity, share, 1.0, max_width=max_width)


def _net(rows: pd.DataFrame, burn_in: int) -> Row:
    quantity = f"slope of 1 - RE in K >= {burn_in}, at most"
    rows = lost(rows)
    return slope_row(
        "T4",
        "two_sample, Sobol",
        quantity,
        rows,
        NET_SLOPE,
        x="n_draws",
        measure=mean,
        burn_in=burn_in,
        max_width=np.inf,
    )


def _quadratic(rows: pd.DataFrame, burn_in: int) -> Iterator[Row]:
    yield _near_minus_one("quadratic", "1/RE less its limit", rows, burn_in, 1 / burn_in)
    most = rows["n_draws"].max()
    last = lost(rows[rows["n_draws"] == most])
    limit = Bounds(at_least=float(last["truth"].iloc[0]))
    yield mean_row("T4", "quadratic", f"1 - RE at K = {most}, at least its limit", last["estimate"], limit)


def _attained(roots: pd.DataFrame, excess: pd.DataFrame, max_width: float) -> Iterator[Row]:
    best = roots[roots["estimator"] == "exact"]
    lines = roots[roots["estimator"] != "exact"].groupby(["estimator", "n_draws"], sort=False)
    level = 1 - ERROR / max(lines.ngroups, 1)
    for (name, n_draws), rows in lines:
        at_truth = excess[(excess["estimator"] == name) & (excess["n_draws"] == n_draws)]
        found = attained(best, rows, 1 / (1 + float(at_truth["estimate"].mean())), level=level)
        regime, quantity = f"{name} K={n_draws}", f"RE of roots at n = {rows['n'].iloc[0]} / RE at the truth"
        yield point_row("T4", regime, quantity, found, 1.0, max_width)


def attained(
    best: pd.DataFrame, rows: pd.DataFrame, efficiency: float, *, level: float = 0.95, samples: int = 2000
) -> Interval:
    """Ratio of mean squared errors, maximum likelihood's to an estimator's, over the efficiency it should be.

    Replicates where both have a root are resampled in pairs: the two share their observations, and the ratio varies
    less than their errors do.

    Parameters
    ----------
    best, rows : pandas.DataFrame
        Roots of maximum likelihood and of the estimator.
    efficiency : float
        Relative efficiency at the truth.
    level : float
        Level of the percentile interval.
    samples : int
        Bootstrap samples.
    """
    good = [part[part["status"] == CONVERGED].set_index("replicate") for part in (best, rows)]
    squares = pd.concat([(part["estimate"] - part["truth"]) ** 2 for part in good], axis=1, join="inner").to_numpy()
    if len(squares) < 2:
        return Interval(np.nan, np.nan, np.nan, np.nan)
    index = np.random.default_rng(0).integers(len(squares), size=(samples, len(squares)))
    draws = squares[index].mean(axis=1)
    ratios = draws[:, 0] / draws[:, 1] / efficiency
    means = squares.mean(axis=0)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Interval(means[0] / means[1] / efficiency, float(low), float(high), float(ratios.std(ddof=1)))
