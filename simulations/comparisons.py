"""Measures that need more than the errors of one cell: the size of the truth, a null value, another method."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm

from simulations.measures import Array, Measure
from simulations.schema import CONVERGED, FIXED

__all__ = ["compare", "interval_width", "precision_gain", "rejection", "relative_bias"]


def relative_bias(errors: Array, truth: Array) -> Measure:
    r"""Average the errors over the truth; Monte Carlo error :math:`sd(error / \theta) / \sqrt R`.

    Parameters
    ----------
    errors, truth : (R,) array
        Of the converged replicates. NaN where the truth is zero.
    """
    if not len(errors) or not np.all(truth):
        return Measure(np.nan, np.nan)
    return _mean(errors / truth)


def rejection(estimates: Array, se: Array, quantile: float, null: float = 0.0) -> Measure:
    r"""Share of tests that reject :math:`\theta = \theta_0`: :math:`|\hat\theta - \theta_0| \ge z \cdot se`.

    It is the power where the truth is not the null value and the type I error where it is. A method with intervals
    that are too short has much of both: compare powers of methods with the same type I error only.

    Parameters
    ----------
    estimates, se : (R,) array
        Of the converged replicates.
    quantile : float
        z.
    null : float
        :math:`\theta_0`.
    """
    if not len(estimates) or np.isnan(se).any():
        return Measure(np.nan, np.nan)
    share = float(np.mean(np.abs(estimates - null) >= quantile * se))
    return Measure(share, float(np.sqrt(share * (1 - share) / len(estimates))))


def interval_width(se: Array, quantile: float) -> Measure:
    r"""Average the widths :math:`2 z \cdot se` of the intervals; Monte Carlo error :math:`sd(width) / \sqrt R`."""
    return _mean(2 * quantile * se)


def precision_gain(errors: Array, reference: Array) -> Measure:
    r"""Percentage by which a method is more precise than a reference on the same replicates.

    .. math:: 100 \{(EmpSE_A / EmpSE_B)^2 - 1\}, \qquad
              \text{Monte Carlo error } 200 (EmpSE_A / EmpSE_B)^2 \sqrt{(1 - \rho^2) / (R - 1)},

    with A the reference, :math:`\rho` the correlation of both estimates over the replicates in which both converged,
    and each empirical SE over all replicates of its own method that converged, R for B (Morris, White & Crowther 2019,
    Table 6; rsimsum treats absent estimates so).

    Parameters
    ----------
    errors, reference : (R,) array
        Estimates, or their errors, of B and A in the same replicates; NaN where one failed.
    """
    own, other = errors[~np.isnan(errors)], reference[~np.isnan(reference)]
    both = ~np.isnan(errors) & ~np.isnan(reference)
    if min(len(own), len(other), int(both.sum())) < 2 or not np.std(own) > 0:
        return Measure(np.nan, np.nan)
    if np.array_equal(errors, reference, equal_nan=True):  # the reference itself, whose correlation is one to rounding
        return Measure(0.0, 0.0)
    ratio = float(np.var(other, ddof=1) / np.var(own, ddof=1))
    correlation = float(np.corrcoef(errors[both], reference[both])[0, 1])
    unexplained = max(1 - correlation**2, 0.0)
    return Measure(100 * (ratio - 1), 200 * ratio * float(np.sqrt(unexplained / (len(own) - 1))))


def compare(
    table: pd.DataFrame, method: str, reference: str | float, *, null: float = 0.0, level: float = 0.95
) -> pd.DataFrame:
    """Compare methods that saw the same replicates.

    Parameters
    ----------
    table : pandas.DataFrame
        Long table, see `simulations`; rows that did not converge count as absent.
    method : str
        Column that names the method, such as ``estimator``.
    reference : str or float
        Its level that the others are compared with.
    null : float
        Null value of `rejection`.
    level : float
        Nominal coverage of the intervals, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        The other cell parameters, ``parameter``, the method, ``measure, value, mcse, n_used``, with the measures
        ``precision_gain``, ``relative_bias``, ``rejection`` and ``interval_width``.

    Raises
    ------
    ValueError
        An unknown column or level, a level outside (0, 1), a group without the reference, or a repeated replicate.
    """
    if method not in table.columns or not (table[method] == reference).any() or not 0 < level < 1:
        raise ValueError(f"need a column {method!r} that holds {reference!r}, and a level in (0, 1), not {level}")
    by = [name for name in table.columns if name not in FIXED and name != method]
    quantile = float(norm.ppf((1 + level) / 2))
    rows: list[tuple[object, ...]] = []
    for group, part in table.groupby([*by, "parameter"], sort=False):
        estimates = _wide(part, method, group)
        if reference not in estimates.columns:
            raise ValueError(f"{dict(zip([*by, 'parameter'], group, strict=True))} has no rows of {reference!r}")
        for name, mine in part.groupby(method, sort=False):
            good = mine[mine["status"] == CONVERGED]
            gain = precision_gain(estimates[name].to_numpy(), estimates[reference].to_numpy())
            found = {"precision_gain": gain, **_own(good, quantile, null)}
            rows += [(*group, name, measure, *pair, len(good)) for measure, pair in found.items()]
    return pd.DataFrame(rows, columns=[*by, "parameter", method, "measure", "value", "mcse", "n_used"])


def _own(good: pd.DataFrame, quantile: float, null: float) -> dict[str, Measure]:
    estimate, truth, se = (good[name].to_numpy() for name in ("estimate", "truth", "se"))
    return {
        "relative_bias": relative_bias(estimate - truth, truth),
        "rejection": rejection(estimate, se, quantile, null),
        "interval_width": interval_width(se, quantile),
    }


def _wide(part: pd.DataFrame, method: str, group: Sequence[object]) -> pd.DataFrame:
    """Estimates, one row a replicate and one column a method; NaN where one failed."""
    if part.duplicated(["replicate", method]).any():
        raise ValueError(f"a replicate of {group} is repeated at a level of {method!r}")
    estimates = part["estimate"].where(part["status"] == CONVERGED)
    return part.assign(estimate=estimates).pivot_table("estimate", "replicate", method, dropna=False)


def _mean(values: Array) -> Measure:
    if not len(values):
        return Measure(np.nan, np.nan)
    error = float(np.std(values, ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return Measure(float(np.mean(values)), error)
