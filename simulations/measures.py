"""Performance measures of a simulation study, each with its Monte Carlo standard error by formula."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from simulations.schema import CONVERGED, FIXED

Array = np.ndarray


class Measure(NamedTuple):
    """A measure of performance and its Monte Carlo standard error."""

    value: float
    mcse: float


def measures(table: pd.DataFrame, by: Sequence[str] | None = None, *, level: float = 0.95) -> pd.DataFrame:
    r"""Estimate every performance measure in each group of replicates.

    Formulas are those of Morris, White & Crowther (2019), *Statistics in Medicine* 38, 2074-2102, Table 6.
    The Monte Carlo errors of the empirical SE and of the relative error in the model SE hold for normal
    estimates. Intervals are :math:`\hat\theta \pm z \cdot se`.

    Parameters
    ----------
    table : pandas.DataFrame
        Long table, see `simulations`.
    by : sequence of str, optional
        Grouping columns besides ``parameter``. Default: the cell parameters.
    level : float
        Nominal coverage of the intervals, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        Grouping columns, ``parameter, measure, value, mcse, n_used``. ``replicates``, ``n_failed``, ``failed``
        and, for each status that occurs, ``failed: STATUS`` (proportions) count all replicates; the others use
        the `n_used` converged ones. A measure is NaN where they are too few, and those of the standard error
        are NaN where a converged row has none.

    Raises
    ------
    ValueError
        An empty table, a level outside (0, 1), or an unknown column.
    """
    if by is None:
        by = [name for name in table.columns if name not in FIXED]
    unknown = [name for name in by if name not in table.columns]
    if unknown or table.empty or not 0 < level < 1:
        raise ValueError(f"need rows, known columns and a level in (0, 1): unknown {unknown}, level {level}")
    quantile = float(norm.ppf((1 + level) / 2))
    keys = [*by, "parameter"]
    rows = []
    for group, part in table.groupby(keys, sort=False):
        good = part[part["status"] == CONVERGED]
        errors, se = (good["estimate"] - good["truth"]).to_numpy(), good["se"].to_numpy()
        summaries = [(failures(part["status"]), len(part)), (performance(errors, se, quantile), len(good))]
        rows += [(*group, name, *pair, used) for found, used in summaries for name, pair in found.items()]
    return pd.DataFrame(rows, columns=[*keys, "measure", "value", "mcse", "n_used"])


def failures(status: pd.Series) -> dict[str, Measure]:
    """Count replicates and failures, and give the proportion of each cause with its binomial error.

    Parameters
    ----------
    status : pandas.Series of str
        Status of each replicate.
    """
    n = len(status)
    failed = status[status != CONVERGED]
    share = _proportion(n, len(failed))
    found = {
        "replicates": Measure(n, 0.0),
        "n_failed": Measure(len(failed), n * share.mcse),
        "failed": share,
    }
    for cause, count in sorted(failed.value_counts().items()):
        found[f"failed: {cause}"] = _proportion(n, count)
    return found


def performance(errors: Array, se: Array, quantile: float) -> dict[str, Measure]:
    """Measure the performance of converged replicates.

    Parameters
    ----------
    errors : (R,) array
        Estimate minus truth.
    se : (R,) array
        Standard errors.
    quantile : float
        Half-width of an interval in standard errors.
    """
    # A single NaN must show, and 0 replicates give NaN: neither may look like a measured number.
    known = len(se) > 0 and not np.isnan(se).any()
    mean = errors.mean() if len(errors) else np.nan
    found = {
        "bias": Measure(mean, _sd(errors) / np.sqrt(max(len(errors), 1))),
        "empirical_se": empirical_se(errors),
        "mse": mse(errors),
        "rmse": rmse(errors),
    }
    if not known:
        absent = ("model_se", "model_se_relative_error", "coverage", "bias_eliminated_coverage")
        return found | dict.fromkeys(absent, Measure(np.nan, np.nan))
    return found | {
        "model_se": model_se(se),
        "model_se_relative_error": model_se_relative_error(errors, se),
        "coverage": _proportion(len(se), int(np.sum(np.abs(errors) <= quantile * se))),
        "bias_eliminated_coverage": _proportion(len(se), int(np.sum(np.abs(errors - mean) <= quantile * se))),
    }


def empirical_se(errors: Array) -> Measure:
    r"""Take the standard deviation of the estimates; Monte Carlo error :math:`EmpSE / \sqrt{2(R-1)}`."""
    value = _sd(errors)
    return Measure(value, value / np.sqrt(2 * max(len(errors) - 1, 1)))


def mse(errors: Array) -> Measure:
    r"""Average the squared errors; Monte Carlo error :math:`sd(error^2) / \sqrt R`."""
    if not len(errors):
        return Measure(np.nan, np.nan)
    squares = errors**2
    return Measure(squares.mean(), _sd(squares) / np.sqrt(len(errors)))


def rmse(errors: Array) -> Measure:
    r"""Take the root of the mean squared error; delta method: :math:`mcse(MSE) / (2 RMSE)`."""
    square = mse(errors)
    value = np.sqrt(square.value)
    return Measure(value, square.mcse / (2 * value) if value else 0.0)


def model_se(se: Array) -> Measure:
    r"""Take the root mean square of the standard errors.

    Monte Carlo error :math:`\sqrt{var(se^2) / (4 R\, ModSE^2)}`.
    """
    value = np.sqrt(np.mean(se**2))
    return Measure(value, _sd(se**2) / (2 * np.sqrt(len(se)) * value) if value else 0.0)


def model_se_relative_error(errors: Array, se: Array) -> Measure:
    r"""Give the percentage by which the model SE exceeds the empirical SE.

    Monte Carlo error
    :math:`100\, (ModSE / EmpSE) \sqrt{var(se^2) / (4 R\, ModSE^4) + 1 / (2(R-1))}`.
    """
    model, empirical = model_se(se), empirical_se(errors)
    if not (model.value > 0 and empirical.value > 0):
        return Measure(np.nan, np.nan)
    ratio = model.value / empirical.value
    return Measure(
        100 * (ratio - 1), 100 * ratio * np.hypot(model.mcse / model.value, empirical.mcse / empirical.value)
    )


def _sd(values: Array) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def _proportion(n: int, count: int) -> Measure:
    share = count / n
    return Measure(share, np.sqrt(share * (1 - share) / n))
