"""Formulas: ``logit.from_formula("y ~ x + C(g)", data)`` for every regression of the form ``(y, x, *, intercept)``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd
from torch import Tensor

from eeqs.engine.data import text_columns
from eeqs.engine.errors import DataError
from eeqs.engine.psi import EstimatingFunction

__all__ = ["with_formula"]


class RegressionFactory(Protocol):
    """A regression by column names, and by formula."""

    def __call__(self, y: str, x: Any, *args: Any, **options: Any) -> EstimatingFunction: ...

    def from_formula(self, formula: str, data: Any, *args: Any, **options: Any) -> EstimatingFunction: ...


def with_formula(factory: Callable[..., EstimatingFunction]) -> RegressionFactory:
    """Give a regression ``factory(y, x, *, intercept)`` a ``from_formula``."""

    def from_formula(formula: str, data: Any, *args: Any, **options: Any) -> EstimatingFunction:
        r"""Build the regression that a formula describes.

        Parameters
        ----------
        formula : str
            In the grammar of formulaic, such as ``"y ~ x1 * x2 + C(g)"``; ``"y ~ 0 + x"`` has no intercept.
        data : DataFrame or mapping of columns
            Fixes factor levels and the state of transformations such as ``scale(x)``; psi applies to any data that
            has the columns, and names of the parameters are those of formulaic.
        *args, **options
            Further arguments of the regression, except ``intercept``. Columns that they name, such as weights, are
            read beside the formula.

        Raises
        ------
        DataError
            If a column is unknown, has missing values, the response is not one number a row, or later data has a
            factor level that ``data`` had not.
        """
        if "intercept" in options:
            raise ValueError('the formula says whether there is an intercept: write "y ~ 0 + x" for none.')
        left, right = _fitted(formula, data)
        names, (response,) = [str(name) for name in right.column_names], left.column_names
        regressors = [name for name in names if name != "Intercept"]
        inner = factory(str(response), regressors, *args, intercept="Intercept" in names, **options)
        beside = set(inner.columns or ()) - {str(response), *regressors}

        def encode(raw: Any) -> Any:
            frame = _frame(raw)
            text = set(text_columns(tuple(raw.keys()), raw)) - beside
            columns = {name: raw[name] for name in raw.keys() if name not in text}  # noqa: SIM118 - a DataFrame too
            columns |= _columns(right, frame) | _columns(left, frame)
            return columns if inner.encode is None else inner.encode(columns)

        return replace(inner, encode=encode)

    typed = cast("RegressionFactory", factory)
    typed.from_formula = from_formula  # type: ignore[method-assign]
    return typed


def _fitted(formula: str, data: Any) -> tuple[Any, Any]:
    """Left and right model specifications, with the levels and transformations of the data."""
    from formulaic import model_matrix

    frame = _frame(data)
    # An empty context: a formula reads columns and formulaic's own functions, not whatever variables are in scope.
    matrices = _checked(lambda: model_matrix(formula, frame, context={}, na_action="ignore", output="numpy"))
    left, right = (getattr(getattr(matrices, side, None), "model_spec", None) for side in ("lhs", "rhs"))
    if left is None or right is None:
        raise DataError(f'the formula "{formula}" does not have one response and one right side; write "y ~ x".')
    if len(left.column_names) != 1:
        raise DataError(
            f'the left side of "{formula}" makes the columns {list(left.column_names)}; it must make one, so code a '
            "categorical response as numbers."
        )
    for spec in (left, right):
        _require_complete(spec, frame)
    return left, right


def _columns(spec: Any, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Columns of one side of the formula for new data; every row is kept."""
    _require_complete(spec, frame)
    _require_known_levels(spec, frame)
    matrix = np.asarray(_checked(lambda: spec.get_model_matrix(frame, context={})), dtype=np.float64)
    return {str(name): matrix[:, j] for j, name in enumerate(spec.column_names)}


def _checked(make: Callable[[], Any]) -> Any:
    """Make a model matrix; what formulaic refuses, and levels that it would turn to zeros, are errors."""
    from formulaic.errors import DataMismatchWarning, FormulaicError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DataMismatchWarning)
            return make()
    except (FormulaicError, DataMismatchWarning) as error:
        raise DataError(f"the formula does not fit the data: {error}") from error


def _require_complete(spec: Any, frame: pd.DataFrame) -> None:
    for name in sorted(map(str, spec.required_variables)):
        if name not in frame:
            raise DataError(f'unknown column "{name}"; the flat columns of the data are {list(frame.columns)}.')
        missing = frame[name].isna().to_numpy()
        if missing.any():
            raise DataError(
                f'column "{name}" has {int(missing.sum())} row(s) with missing values, first at row '
                f"{int(missing.argmax())}; drop or impute them before estimating."
            )


def _require_known_levels(spec: Any, frame: pd.DataFrame) -> None:
    """Name the column and the level that the formula was not fitted on; `_checked` finds those of transformations."""
    for factor, (_, state) in spec.encoder_state.items():
        name = str(factor).removeprefix("C(").split(",")[0].removesuffix(")")
        if "categories" not in state or name not in frame:
            continue
        unseen = sorted(map(str, set(frame[name].unique()) - set(state["categories"])))
        if unseen:
            raise DataError(f'column "{name}" has the level "{unseen[0]}", which the formula was not fitted on.')


def _frame(data: Any) -> pd.DataFrame:
    """Flat columns of the data."""
    if not isinstance(data, pd.DataFrame | Mapping):
        raise DataError(f"a formula needs named columns; pass a DataFrame or a mapping, not a {type(data).__name__}.")
    if isinstance(data, pd.DataFrame):
        if not data.columns.is_unique:
            raise DataError(f'column "{data.columns[data.columns.duplicated()][0]}" appears more than once.')
        return data
    arrays = {name: column.numpy(force=True) if isinstance(column, Tensor) else column for name, column in data.items()}
    flat = {name: pd.Series(array).array for name, array in arrays.items() if np.ndim(array) == 1}
    lengths = {name: len(array) for name, array in flat.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns have different lengths: {lengths}.")
    return pd.DataFrame(flat)
