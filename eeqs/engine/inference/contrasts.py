r"""Contrasts of two fits whose data overlap.

Both estimates are averages of influences, :math:`\hat\theta_k - \theta_k \approx n_k^{-1} \sum_i \phi_{ki}`, so their
joint covariance is a sum over groups g of rows that may depend on each other: single rows, or clusters,

.. math:: \widehat{\mathrm{cov}}(\hat\theta_k, \hat\theta_l)
          = \frac{1}{n_k n_l} \sum_g \Big(\sum_{i \in g} \phi_{ki}\Big) \Big(\sum_{i \in g} \phi_{li}\Big)^\top,

in which a group that only one fit has seen drops out of the product (Weesie 1999, Stata Technical Bulletin 52; the
stacked estimating equations of both fits give the same).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.inference.coefficients import DerivedEstimate
from eeqs.engine.inference.delta import linearise
from eeqs.engine.inference.result import Estimate

__all__ = ["contrast"]


def contrast(
    first: Estimate,
    second: Estimate,
    function: Callable[[Tensor, Tensor], Any] | None = None,
    *,
    clusters: str | pd.Series | None = None,
) -> DerivedEstimate:
    """Compare two fits, allowing for the observations they share.

    Parameters
    ----------
    first, second : Estimate
        Rows are the same observation when they have the same label in the index of the data: keep it when you take a
        subset. Data without an index are matched by position. Where the data of both have a column of the same name,
        its values must agree at equal labels.
    function : callable, optional
        ``function(theta_first, theta_second)`` to a scalar, a vector or a mapping of names to scalars, in torch
        operations. The default is the difference, first minus second, of every parameter with a name in both.
    clusters : str or Series, optional
        Column of the data of both fits, or labels by row label, of observations that depend on each other. The same
        cluster may have different rows in the two fits.

    Returns
    -------
    DerivedEstimate
        The covariance is HC0, or CR0 with clusters, whatever that of the two fits.

    Raises
    ------
    DataError
        If rows cannot be matched: labels that are not unique, rows with the same label and different data, different
        numbers of rows with nothing but their numbers in common, frequency weights, or a fit from a file without
        influence.
    ValueError
        If the fits share no parameter name and no function is given; or as in `Estimate.delta`.
    NotEstimableError
        If the function depends on what one of the fits does not identify.
    """
    rows = [_influence(first, "first"), _influence(second, "second")]
    _check_labels(first, second, *rows)
    groups = [_groups(fit, part, clusters) for fit, part in zip((first, second), rows, strict=True)]
    p = len(first.names)
    both = torch.cat([first.solution.theta, second.solution.theta])
    lines = linearise(_joint(function or _difference(first, second), p), both)
    first.require_estimable(lines.gradient[:, :p])
    second.require_estimable(lines.gradient[:, p:])
    sums = _sums([part.to_numpy() / len(part) for part in rows], groups)
    moved = torch.from_numpy(sums).to(lines.gradient) @ lines.gradient.mT
    origin = f"contrast of two fits, covariance {'HC0' if clusters is None else 'CR0'}"
    return DerivedEstimate(lines.value, moved.mT @ moved, lines.names, None, origin)


def _influence(fit: Estimate, which: str) -> pd.DataFrame:
    if fit.problem is not None and fit.problem.psi.counts is not None:
        raise DataError(f"the {which} fit has frequency weights, whose rows cannot be matched; repeat rows instead.")
    rows = fit.influence()
    if not rows.index.is_unique:
        label = rows.index[rows.index.duplicated()][0]
        raise DataError(f'the {which} fit has several rows with the label "{label}"; give every row its own.')
    return rows


def _check_labels(first: Estimate, second: Estimate, one: pd.DataFrame, two: pd.DataFrame) -> None:
    """Raise where equal labels do not mean equal rows, as far as the data tell."""
    raws: list[Any] = [None if fit.problem is None else fit.problem.raw for fit in (first, second)]
    if raws[0] is not None and raws[0] is raws[1]:
        return
    named = all(isinstance(raw, Mapping | pd.DataFrame) for raw in raws)
    columns = [name for name in raws[0] if name in raws[1]] if named else []
    if not columns and len(one) != len(two) and all(_numbered(part.index) for part in (one, two)):
        raise DataError(
            f"the fits have {len(one)} and {len(two)} rows, numbered from 0 in both, which does not tell which are the "
            "same; keep the index of the data they were taken from, or give separate samples labels of their own."
        )
    shared = one.index.intersection(two.index)
    at = one.index.get_indexer(shared), two.index.get_indexer(shared)
    for column in columns:
        left, right = (_column(raw, column)[rows] for raw, rows in zip(raws, at, strict=True))
        differ = ~((left == right) | (pd.isna(left) & pd.isna(right)))
        if differ.any():
            label = shared[int(np.argmax(differ.reshape(len(shared), -1).any(axis=1)))]
            raise DataError(
                f'row "{label}" has different values of "{column}" in the two fits, so it is not the same observation; '
                "give separate samples labels of their own."
            )


def _numbered(index: pd.Index) -> bool:
    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1


def _column(data: Any, name: Any) -> np.ndarray:
    column = data[name]
    return column.numpy(force=True) if isinstance(column, Tensor) else np.asarray(column)


def _groups(fit: Estimate, rows: pd.DataFrame, clusters: str | pd.Series | None) -> np.ndarray:
    """Labels (n,) of the groups of a fit's rows."""
    if clusters is None:
        return rows.index.to_numpy(dtype=object)
    if isinstance(clusters, str):
        raw = fit.data().raw
        if not isinstance(raw, Mapping | pd.DataFrame) or clusters not in raw:
            raise DataError(f'unknown cluster column "{clusters}"; the data of both fits need it.')
        labels = _column(raw, clusters)
    else:
        labels = clusters.reindex(rows.index).to_numpy()
    if pd.isna(labels).any():
        raise DataError(f"{int(pd.isna(labels).sum())} row(s) have no cluster label; fill or drop them.")
    return labels.astype(object)


def _sums(influences: list[np.ndarray], groups: list[np.ndarray]) -> np.ndarray:
    """Sum within groups, (G, p1 + p2): each fit in its own columns."""
    codes, labels = pd.factorize(np.concatenate(groups))
    sums = np.zeros((len(labels), sum(part.shape[1] for part in influences)))
    (one, two), n, p = influences, len(influences[0]), influences[0].shape[1]
    np.add.at(sums[:, :p], codes[:n], one)
    np.add.at(sums[:, p:], codes[n:], two)
    return sums


def _joint(function: Callable[[Tensor, Tensor], Any], p: int) -> Callable[[Tensor], Any]:
    return lambda theta: function(theta[:p], theta[p:])


def _difference(first: Estimate, second: Estimate) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    shared = [name for name in first.names if name in second.names]
    if not shared:
        raise ValueError(f"the fits share no parameter name: {list(first.names)} and {list(second.names)}.")
    return lambda a, b: {name: a[first.names.index(name)] - b[second.names.index(name)] for name in shared}
