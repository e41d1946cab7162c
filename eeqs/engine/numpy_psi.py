r"""Estimating functions written in numpy, differentiated by central differences.

A derivative by differences loses digits that automatic differentiation keeps. Steps are measured by what they do to
the mean of psi, so that neither the units of theta nor those of psi matter; with one Richardson extrapolation about ten
digits of the Jacobian remain on a smooth psi.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.derivative import central_difference
from eeqs.engine.errors import PsiError
from eeqs.engine.psi import EstimatingFunction
from eeqs.engine.tree import map_tree

__all__ = ["from_numpy"]

# Change of the mean of psi, in root mean squares, at the coarser of two central differences: the fifth root of the
# rounding unit balances truncation of order h^4, after extrapolation, against rounding.
_STEP = 2.0**-10
# Smallest step relative to the parameter, and most trials and largest factor in the search for a step.
_SMALLEST, _TRIALS, _FACTOR = 2.0**-20, 16, 2.0**30


def from_numpy(
    psi: Callable[[np.ndarray, Any], np.ndarray],
    *,
    names: Sequence[str] = (),
    columns: Sequence[str] | None = None,
) -> EstimatingFunction:
    r"""Estimating function from numpy code, such as one that calls scipy.special.

    Parameters
    ----------
    psi : callable
        ``psi(theta, data) -> (n, p)`` or (n,), with theta an array (p,) and data the columns as arrays, in a dict or a
        tuple as they were passed. It must be smooth in theta.
    names, columns : sequence of str
        As in `eeqs.EstimatingFunction`.

    Returns
    -------
    EstimatingFunction
        Its Jacobian is by central differences, with a step that moves the mean of psi by about :math:`2^{-10}` of its
        root mean square, half that step, and Richardson extrapolation: relative error near :math:`10^{-10}` on
        functions without sharp bends. It says so in summaries (``numerical``), works on the CPU, and is for one data
        set, not a batch of replicates.

    Raises
    ------
    PsiError
        If psi returns something other than a numeric array, or is used on replicates.
    """

    def evaluate(theta: Tensor, data: Any) -> Tensor:
        try:
            arrays = theta.numpy(), map_tree(lambda leaf: leaf.numpy(), data)
        except RuntimeError as error:  # a tensor inside torch.func, or on a GPU
            raise PsiError(
                "a numpy psi is for one data set on the CPU, and is not differentiated automatically; write it in "
                "torch operations for replicates, weights, stacking or a GPU."
            ) from error
        values = np.asarray(psi(*arrays))
        if values.dtype.kind not in "fiub":
            raise PsiError(f"the numpy psi returned an array of dtype {values.dtype}; return numbers.")
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))

    def mean_jacobian(theta: Tensor, data: Any) -> Tensor:
        def rows(b: Tensor) -> Tensor:
            values = evaluate(b, data)
            return values if values.ndim > 1 else values[:, None]

        def mean(b: Tensor) -> Tensor:
            return rows(b).mean(dim=0)

        steps = _steps(mean, theta, rows(theta).square().mean(dim=0).sqrt())
        coarse, fine = central_difference(mean, theta, steps), central_difference(mean, theta, steps / 2)
        return (4 * fine - coarse) / 3

    return EstimatingFunction(
        evaluate,
        tuple(names),
        None if columns is None else tuple(columns),
        mean_jacobian=mean_jacobian,
        numerical=True,
    )


def _steps(mean: Callable[[Tensor], Tensor], theta: Tensor, scale: Tensor) -> Tensor:
    """Find steps (p,) that change some mean (q,) by about `_STEP` of its scale (q,)."""
    here, used = mean(theta), scale > 0
    steps = _STEP * theta.abs().clamp_min(1.0)

    def change(j: int, step: float) -> float:
        there = theta.clone()
        there[j] += step
        with np.errstate(all="ignore"):  # a first step may be far too long
            return float(((mean(there) - here).abs() / scale)[used].amax()) if bool(used.any()) else _STEP

    for j, first in enumerate(steps.tolist()):
        step, shortest = first, _SMALLEST * abs(float(theta[j]))
        for _ in range(_TRIALS):
            size = change(j, step)
            if _STEP / 8 <= size <= 2 * _STEP or step < shortest:
                steps[j] = max(step, shortest)
                break
            factor = _STEP / size if 0 < size < np.inf else _FACTOR if size == 0 else 1 / _FACTOR
            step *= min(max(factor, 1 / _FACTOR), _FACTOR)
    return steps
