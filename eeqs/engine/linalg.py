"""Equilibrated solves and rank detection for small square matrices.

Rank is a property of the equations and not of their units, so every matrix is scaled to unit rows and columns
before its singular values are looked at: a column in dollars beside one in 1e-5 units keeps full rank, a
duplicated column does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.errors import SingularBreadError

__all__ = ["RANK_TOLERANCE", "condition_number", "equilibrate", "invert", "null_parameters", "pseudo_inverse"]

# Relative singular value below which an equilibrated bread counts as rank deficient. A sample of columns that
# differ by 1e-6 relative gives a normal matrix at this level, whose solves keep about four digits.
RANK_TOLERANCE = 1e-12
# Share of a null direction (relative to its largest entry) from which a parameter is named.
_NAMED_SHARE = 1e-3


def equilibrate(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale rows and columns of (..., p, p) to entries of at most about one.

    Returns
    -------
    scaled : Tensor of shape (..., p, p)
        ``matrix * rows[..., None] * columns[..., None, :]``.
    rows, columns : Tensor of shape (..., p)
        Powers of two, so scaling is exact. A zero row or column keeps its scale.

    Notes
    -----
    Alternating division by the square root of row and column maxima (Ruiz 2001, RAL-TR-2001-034).
    """
    scaled, rows, columns = _equilibrate(matrix.numpy(force=True))
    return torch.from_numpy(scaled).to(matrix), torch.from_numpy(rows).to(matrix), torch.from_numpy(columns).to(matrix)


def _equilibrate(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`equilibrate` in numpy, whose calls on small matrices cost a fraction of those of torch."""
    rows, columns, scaled = np.ones(matrix.shape[:-1]), np.ones(matrix.shape[:-1]), matrix
    for _ in range(8):
        size = np.abs(scaled)
        row, column = _power_of_two(size.max(axis=-1)), _power_of_two(size.max(axis=-2))
        if (row == 1).all() and (column == 1).all():
            break
        rows, columns = rows * row, columns * column
        scaled = matrix * rows[..., None] * columns[..., None, :]
    return scaled, rows, columns


def _power_of_two(size: np.ndarray) -> np.ndarray:
    exponent = np.round(-0.5 * np.log2(np.where(size > 0, size, 1.0)))
    return np.asarray(np.exp2(np.where(np.isfinite(exponent), exponent, 0.0)))


def condition_number(matrix: Tensor) -> Tensor:
    """Condition number (...,) of the equilibrated matrix; infinite when it is singular or not finite."""
    return torch.from_numpy(_condition(_equilibrate(matrix.numpy(force=True))[0])).to(matrix.device)


def _condition(scaled: np.ndarray) -> np.ndarray:
    finite = np.isfinite(scaled).all(axis=(-2, -1))
    values = np.linalg.svd(np.where(finite[..., None, None], scaled, 0.0), compute_uv=False)
    with np.errstate(all="ignore"):
        ratio = values[..., 0] / values[..., -1]
    return np.asarray(np.where(finite & ~np.isnan(ratio), ratio, np.inf))


def null_parameters(matrix: Tensor, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the parameters that enter the null directions of one (p, p) matrix; empty at full rank."""
    _, values, right = torch.linalg.svd(equilibrate(matrix)[0])
    null = right[values <= RANK_TOLERANCE * values[0].clamp_min(torch.finfo(values.dtype).tiny)]
    if len(null) == 0:
        return ()
    share = (null.abs() / null.abs().amax(dim=1, keepdim=True)).amax(dim=0)
    return tuple(name for name, part in zip(names, share.tolist(), strict=True) if part > _NAMED_SHARE)


def invert(matrix: Tensor, names: tuple[str, ...] | None = None, condition: Any = None) -> Tensor:
    """Inverse of (..., p, p) after equilibration, with its `condition_number` where that is already known.

    Raises
    ------
    SingularBreadError
        For a single matrix without full rank, naming the parameters. In a batch, the inverses of singular members are
        NaN, so that one replicate cannot stop the others.
    """
    array = matrix.numpy(force=True)
    scaled, rows, columns = _equilibrate(array)
    singular = np.asarray(_condition(scaled) if condition is None else condition) >= 1 / RANK_TOLERANCE
    if matrix.ndim == 2 and singular:
        raise_singular(matrix, names or tuple(f"theta[{j}]" for j in range(matrix.shape[0])))
    safe = np.where(singular[..., None, None], np.eye(array.shape[-1]), scaled)
    inverse = columns[..., None] * np.linalg.inv(safe) * rows[..., None, :]
    return torch.from_numpy(np.where(singular[..., None, None], np.nan, inverse)).to(matrix.device)


def raise_singular(matrix: Tensor, labels: tuple[str, ...]) -> None:
    """Raise the error that names what a singular bread does not identify."""
    if not bool(torch.isfinite(matrix).all()):
        raise SingularBreadError("the bread has NaN or infinite entries; the parameters are not at a root.", labels)
    involved = null_parameters(matrix, labels)
    raise SingularBreadError(
        f"the bread is rank deficient: {', '.join(involved)} are not separately identified by this data; "
        "drop or combine them (duplicated or constant columns, or fewer observations than parameters, are the usual "
        "causes), or pass minimum_norm=True for functionals that are identified.",
        involved,
    )


def pseudo_inverse(matrix: Tensor, tolerance: float = RANK_TOLERANCE) -> tuple[Tensor, Tensor]:
    """Generalised inverse (p, p) of a square matrix and an orthonormal basis (p, k) of its null space.

    The rank is that of the equilibrated matrix. Functionals in the row space of ``matrix`` do not depend on which
    generalised inverse is taken.
    """
    scaled, rows, columns = equilibrate(matrix)
    left, values, right = torch.linalg.svd(scaled)
    kept = values > tolerance * values[0]
    inverse = right[kept].mT @ ((left[:, kept] / values[kept]).mT)
    null = torch.linalg.qr(columns[:, None] * right[~kept].mT)[0]
    return columns[:, None] * inverse * rows, null
