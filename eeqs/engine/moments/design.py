"""Design matrices from named columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from eeqs.engine.data import Leaves
from eeqs.engine.errors import DataError
from eeqs.engine.psi import EstimatingFunction
from eeqs.engine.weights import weight

__all__ = [
    "Regression",
    "offset_of",
    "regression_columns",
    "regression_names",
    "require_flat",
    "stack_columns",
    "stack_regression",
    "weighted",
]

Regression: TypeAlias = tuple[Tensor, ...]


def regression_columns(y: str, x: Sequence[str], offset: str | None = None) -> tuple[str, ...]:
    """Columns a regression reads; y is a name and x a sequence of names."""
    if isinstance(x, str):
        raise DataError(f'x is the string "{x}"; pass a list of column names, such as ["{x}"].')
    return tuple(dict.fromkeys((y, *x, *((offset,) if offset else ()))))


def regression_names(x: Sequence[str], intercept: bool) -> tuple[str, ...]:
    """Parameter names: the columns of x, after ``Intercept``."""
    names = (("Intercept",) if intercept else ()) + tuple(x)
    if not names:
        raise DataError("a regression needs a regressor or an intercept.")
    return names


def stack_regression(
    leaves: Leaves,
    y: str,
    x: Sequence[str],
    intercept: bool,
    validate: Callable[[Tensor], None] | None = None,
    offset: str | None = None,
) -> Regression:
    """Response (..., n), design (..., n, p) and, where there is one, offset (..., n) from named leaves."""
    assert isinstance(leaves, dict)  # noqa: S101 - for the type checker: named columns were asked for
    response = leaves[y]
    require_flat(leaves, regression_columns(y, x, offset))
    if validate is not None:
        validate(response)
    design = stack_columns(leaves, x, intercept, response)
    return (response, design) if offset is None else (response, design, leaves[offset])


def require_flat(leaves: dict[str, Tensor], columns: Sequence[str]) -> None:
    """Raise unless the columns have one shape, naming the widest: a moment reads rows (n,), or replicates (R, n)."""
    shapes = {name: tuple(leaves[name].shape) for name in columns}
    wide = max(columns, key=lambda name: len(shapes[name]))
    if len(set(shapes.values())) > 1:
        raise DataError(f'column "{wide}" has shape {shapes[wide]}; every column here is flat, one number a row.')


def stack_columns(leaves: Leaves, x: Sequence[str], intercept: bool, like: Tensor) -> Tensor:
    """Design (..., n, p), every column contiguous: stacking is then a copy, and products stream along the rows."""
    assert isinstance(leaves, dict)  # noqa: S101 - for the type checker
    columns = ([torch.ones_like(like)] if intercept else []) + [leaves[name] for name in x]
    return torch.stack(columns, dim=-2).mT


def offset_of(index: Tensor, data: Regression) -> Tensor:
    """Add the offset to a linear index, where the data has one."""
    return index if len(data) == 2 else index + data[2]


def weighted(psi: EstimatingFunction, weights: str | None) -> EstimatingFunction:
    """Apply probability weights, where a column of them is given."""
    return psi if weights is None else weight(psi, weights)
