"""Wald tests of linear hypotheses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eeqs.engine.inference.hypothesis import HypothesisTest, positions
from eeqs.engine.inference.reference import joint_pvalue

__all__ = ["mahalanobis", "restrictions", "wald_test"]

# Relative eigenvalue of a correlation matrix, or squared singular value of scaled restrictions, that counts as zero.
_SINGULAR = 1e-12


def restrictions(hypothesis: Any, value: Any, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    r"""Matrix R (m, p) and right-hand side r (m,) of the hypothesis :math:`R \theta = r`.

    ``hypothesis`` is R itself, one row (p,), a name, names, or a mapping of names to their values.
    """
    p = len(names)
    if isinstance(hypothesis, Mapping):
        matrix = np.eye(p)[positions(hypothesis, names)]
        right = np.array(list(hypothesis.values()), dtype=np.float64)
    else:
        if isinstance(hypothesis, str):
            hypothesis = [hypothesis]
        if isinstance(hypothesis, Sequence) and hypothesis and all(isinstance(part, str) for part in hypothesis):
            matrix = np.eye(p)[positions(hypothesis, names)]
        else:
            matrix = np.atleast_2d(np.asarray(hypothesis, dtype=np.float64))
        right = np.broadcast_to(np.asarray(value, dtype=np.float64), (len(matrix),))
    if matrix.ndim != 2 or matrix.shape[1] != p or len(matrix) == 0:
        raise ValueError(f"restrictions have shape {matrix.shape}; pass (m, {p}), one column a parameter.")
    if not (np.isfinite(matrix).all() and np.isfinite(right).all()):
        raise ValueError("restrictions have NaN or infinite entries.")
    return matrix, right


def wald_test(
    theta: np.ndarray, covariance: np.ndarray, matrix: np.ndarray, right: np.ndarray, df: float | None
) -> HypothesisTest:
    r"""Wald test of :math:`R \theta = r`: :math:`(R\hat\theta - r)^\top (R V R^\top)^{-1} (R\hat\theta - r)`.

    Against chi-square with m degrees of freedom, or divided by m against :math:`F(m, df)`.
    """
    m = len(matrix)
    _check_rank(matrix, covariance)
    quadratic = float(mahalanobis((matrix @ theta - right)[None], matrix @ covariance @ matrix.T)[0])
    pvalue = joint_pvalue(quadratic, m, df)
    if df is None:
        return HypothesisTest(f"Wald, chi2({m})", quadratic, m, pvalue)
    return HypothesisTest(f"Wald, F({m}, {df:g})", quadratic / m, m, pvalue, df)


def _check_rank(matrix: np.ndarray, covariance: np.ndarray) -> None:
    """Raise when a restriction is a combination of those before it, in units of the standard errors."""
    size = np.sqrt(np.diag(covariance))
    scaled = matrix * np.where(size > 0, size, 1.0)
    length = np.sqrt(np.square(scaled).sum(axis=1))
    if (length == 0).any():
        raise ValueError(f"restriction {int(np.argmin(length))} is zero for every parameter; leave it out.")
    scaled = scaled / length[:, None]
    for k in range(1, len(scaled)):
        rest = scaled[k] - scaled[:k].T @ np.linalg.lstsq(scaled[:k].T, scaled[k], rcond=None)[0]
        if rest @ rest <= _SINGULAR:
            raise ValueError(f"restriction {k} is a combination of those before it; leave it out.")


def mahalanobis(difference: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Squared distances (n,) of rows (n, m) in the metric of a covariance (m, m), in any units.

    Raises
    ------
    ValueError
        If the covariance is not positive definite.
    """
    variance = np.diag(covariance)
    if not (np.isfinite(covariance).all() and (variance > 0).all()):
        raise ValueError("the covariance has entries that are NaN or variances that are not positive.")
    size = np.sqrt(variance)
    values, vectors = np.linalg.eigh(covariance / np.outer(size, size))
    rank = int((values > _SINGULAR * values[-1]).sum())
    if rank < len(values):
        raise ValueError(
            f"the covariance of {len(values)} estimates has rank {rank} (fewer clusters than restrictions, or "
            "estimates that determine each other); test fewer of them at once."
        )
    squared: np.ndarray = np.square((difference / size) @ vectors / np.sqrt(values)).sum(axis=1)
    return squared
