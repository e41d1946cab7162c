"""Design matrices from named columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from eeqs.engine.data import Leaves
from eeqs.engine.errors import DataError

__all__ = ["Regression", "regression_columns", "regression_names", "stack_regression"]

Regression: TypeAlias = tuple[Tensor, Tensor]


def regression_columns(y: str, x: Sequence[str]) -> tuple[str, ...]:
    """Columns a regression reads; y is a name and x a sequence of names."""
    if isinstance(x, str):
        raise DataError(f'x is the string "{x}"; pass a list of column names, such as ["{x}"].')
    return (y, *dict.fromkeys(x))


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
) -> Regression:
    """Response (..., n) and design (..., n, p) from named leaves."""
    assert isinstance(leaves, dict)  # noqa: S101 - for the type checker: named columns were asked for
    response = leaves[y]
    for name in (y, *x):
        if leaves[name].shape != response.shape:
            raise DataError(f'column "{name}" has shape {tuple(leaves[name].shape)}; a regression column is flat.')
    if validate is not None:
        validate(response)
    columns = ([torch.ones_like(response)] if intercept else []) + [leaves[name] for name in x]
    return response, torch.stack(columns, dim=-1)
