"""Rates: log-log slopes of a measure on a size, and ratios of measures, with replicate-bootstrap intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from simulations.schema import CONVERGED

Array = np.ndarray
Statistic = Callable[[Array], Array]


def rmse(errors: Array) -> Array:
    """Root mean squared error over the last axis."""
    return np.sqrt(np.mean(errors**2, axis=-1))


def absolute_bias(errors: Array) -> Array:
    """Absolute mean error over the last axis."""
    return np.abs(np.mean(errors, axis=-1))


def mean(errors: Array) -> Array:
    """Mean error over the last axis: of use where the truth is 0 and the estimate is a risk."""
    return np.mean(errors, axis=-1)


class TooFewReplicatesError(ValueError):
    """A cell with fewer than two converged replicates: nothing can be said about its errors."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval and standard error.

    Parameters
    ----------
    estimate, low, high : float
        Estimate and percentile interval.
    monte_carlo_se : float
        Standard deviation over bootstrap samples.
    """

    estimate: float
    low: float
    high: float
    monte_carlo_se: float


def slope(
    rows: pd.DataFrame,
    x: str = "n",
    measure: Statistic = rmse,
    *,
    burn_in: float = 0,
    weighted: bool = False,
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Interval:
    r"""Slope of log measure on log size by least squares over the sizes.

    The bootstrap resamples replicates within each size, independently between sizes: give sizes different
    streams. The interval is the percentile one: the log-RMSE is close to normal and its small downward bias,
    alike at every size, cancels in the slope, so percentile and basic intervals agree, and the percentile one
    respects the log transformation. Where a bias is not told from zero, log bias has a long left tail and the
    interval is wide: `simulations.verdicts.point` then cannot tell.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of one parameter and one line of the plot: one row a (size, replicate). Converged rows are used;
        `simulations.measures` reports the others.
    x : str
        Column of the size, such as ``n`` or ``n_draws``.
    measure : callable
        Maps errors (..., R), estimate minus truth, to (...).
    burn_in : float
        Sizes below it are left out.
    weighted : bool
        Weigh each size by the reciprocal of the bootstrap variance of its log measure. Off by default: with
        equal numbers of replicates the log-RMSE is about equally precise at every size. On for a bias, whose
        relative error grows as it vanishes. The weights are held fixed while resampling.
    level : float
        Level of the interval.
    samples : int
        Number of bootstrap samples.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Interval
        Slope; NaN where a measure is zero or not finite.

    Raises
    ------
    ValueError
        Fewer than two sizes past burn-in, fewer than two converged replicates at a size, repeated
        (size, replicate), or a size that is not positive.
    """
    errors = _errors_by_size(rows, x, burn_in)
    log_size = np.log(np.array(list(errors), dtype=float))
    streams = np.random.SeedSequence(seed).spawn(len(errors))
    draws = [_bootstrap(cell, measure, samples, stream) for cell, stream in zip(errors.values(), streams, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_values = np.log([float(measure(cell)) for cell in errors.values()])
        log_draws = np.log(draws)
        weights = 1 / np.var(log_draws, axis=1) if weighted else np.ones(len(log_size))
        # The least-squares slope is linear in the log measures.
        centred = log_size - np.average(log_size, weights=weights)
        coefficients = weights * centred / np.sum(weights * centred**2)
        return _interval(float(coefficients @ log_values), coefficients @ log_draws, level)


def ratio(
    numerator: pd.DataFrame,
    denominator: pd.DataFrame,
    measure: Statistic = rmse,
    *,
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Ratio of a measure between two cells, such as the RMSE of two estimators at one size.

    The two cells are resampled independently. Where they share a stream and their errors correlate
    positively, as those of two estimators on the same data do, the interval is conservative.

    Parameters
    ----------
    numerator, denominator : pandas.DataFrame
        Rows of one parameter in one cell each; converged rows are used.
    measure, level, samples, seed
        As in `slope`.

    Raises
    ------
    ValueError
        Fewer than two converged replicates in a cell, or repeated replicates.
    """
    cells = [_errors(numerator, "numerator"), _errors(denominator, "denominator")]
    streams = np.random.SeedSequence(seed).spawn(2)
    draws = [_bootstrap(cell, measure, samples, stream) for cell, stream in zip(cells, streams, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(np.divide(measure(cells[0]), measure(cells[1])))
        return _interval(estimate, draws[0] / draws[1], level)


def _errors_by_size(rows: pd.DataFrame, x: str, burn_in: float) -> dict[float, Array]:
    if x not in rows.columns or not (rows[x] > 0).all():
        raise ValueError(f"sizes come from column {x!r}: it must be there and positive")
    kept = rows[rows[x] >= burn_in]
    cells = {float(size): _errors(kept[kept[x] == size], f"{x} = {size}") for size in np.unique(kept[x])}
    if len(cells) < 2:
        raise ValueError(f"a slope needs two sizes {x} >= {burn_in}, found {list(cells)}: lower burn_in")
    return cells


def _errors(rows: pd.DataFrame, where: str) -> Array:
    if rows.duplicated("replicate").any():
        raise ValueError(f"{where}: a replicate is repeated; select one parameter and one estimator first")
    good = rows[rows["status"] == CONVERGED]
    if len(good) < 2:
        raise TooFewReplicatesError(f"{where}: {len(good)} of {len(rows)} replicates converged, at least 2 are needed")
    return (good["estimate"] - good["truth"]).to_numpy()


def _bootstrap(errors: Array, measure: Statistic, samples: int, stream: np.random.SeedSequence) -> Array:
    index = np.random.default_rng(stream).integers(len(errors), size=(samples, len(errors)))
    return measure(errors[index])


def _interval(estimate: float, draws: Array, level: float) -> Interval:
    if not (np.isfinite(estimate) and np.isfinite(draws).all()):
        return Interval(estimate, np.nan, np.nan, np.nan)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), float(np.std(draws, ddof=1)))
