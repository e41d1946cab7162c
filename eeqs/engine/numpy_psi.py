r"""Estimating functions written in numpy, differentiated by central differences.

A derivative by differences loses digits that automatic differentiation keeps: with steps :math:`h_m = \epsilon^{1/3}`
relative to the parameter and one Richardson extrapolation, about ten digits of the Jacobian remain on a smooth psi.
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

# Relative step of the finer of two central differences: the fifth root of the rounding unit balances truncation of
# order h^4, after extrapolation, against rounding.
_STEP = 2.0**-10


def from_numpy(
    psi: Callable[[np.ndarray, Any], np.ndarray],
    *,
    names: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    scale: Sequence[float] | None = None,
) -> EstimatingFunction:
    r"""Estimating function from numpy code, such as one that calls scipy.special.

    Parameters
    ----------
    psi : callable
        ``psi(theta, data) -> (n, p)`` or (n,), with theta an array (p,) and data the columns as arrays, in a dict or a
        tuple as they were passed. It must be smooth in theta.
    names, columns : sequence of str
        As in `eeqs.EstimatingFunction`.
    scale : sequence of float, optional
        Sizes of the parameters (p,) by which steps are measured near zero; 1 when left out.

    Returns
    -------
    EstimatingFunction
        Its Jacobian is by central differences with steps :math:`2^{-10} \max(|\theta_m|, s_m)`, half that, and
        Richardson extrapolation: relative error near :math:`10^{-11}` on functions without sharp bends. It says so in
        summaries (``numerical``), works on the CPU, and is for one data set, not a batch of replicates.

    Raises
    ------
    PsiError
        If psi returns something other than a numeric array, or is used on replicates.
    """
    sizes = None if scale is None else torch.as_tensor(np.asarray(scale, dtype=np.float64))

    def evaluate(theta: Tensor, data: Any) -> Tensor:
        try:
            arrays = theta.numpy(), map_tree(lambda leaf: leaf.numpy(), data)
        except RuntimeError as error:  # a tensor inside torch.func, or on a GPU
            raise PsiError(
                "a numpy psi is for one data set on the CPU, and is not differentiated automatically; write it in "
                "torch operations for replicates, stacking or a GPU."
            ) from error
        values = np.asarray(psi(*arrays))
        if values.dtype.kind not in "fiub":
            raise PsiError(f"the numpy psi returned an array of dtype {values.dtype}; return numbers.")
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))

    def mean_jacobian(theta: Tensor, data: Any) -> Tensor:
        def mean(b: Tensor) -> Tensor:
            values = evaluate(b, data)
            return (values if values.ndim > 1 else values[:, None]).mean(dim=0)

        steps = _STEP * torch.maximum(theta.abs(), torch.ones_like(theta) if sizes is None else sizes)
        coarse, fine = central_difference(mean, theta, steps), central_difference(mean, theta, steps / 2)
        return (4 * fine - coarse) / 3

    return EstimatingFunction(
        evaluate,
        tuple(names),
        None if columns is None else tuple(columns),
        mean_jacobian=mean_jacobian,
        numerical=True,
    )
