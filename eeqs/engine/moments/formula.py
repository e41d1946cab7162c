"""Formulas: ``logit.from_formula("y ~ x + C(g)", data)`` for every regression of the form ``(y, x, *, intercept)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.psi import EstimatingFunction

__all__ = ["with_formula"]

_RESPONSE = "response"


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
        left, right = _specs(formula, data)
        names = [str(name) for name in right.column_names]
        constant = "Intercept" in names
        regressors = [name for name in names if name != "Intercept"]
        if constant and names[0] != "Intercept":
            raise DataError(f'the intercept of "{formula}" is not its first column; the columns are {names}.')
        inner = factory(_RESPONSE, regressors, *args, intercept=constant, **options)
        beside = set(inner.columns or ()) - {_RESPONSE, *regressors}

        def encode(raw: Any) -> dict[str, Any]:
            frame = _frame(raw)
            response, design = _matrix(left, frame), _matrix(right, frame)
            if response.shape[1] != 1:
                raise DataError(f'the left side of "{formula}" makes {response.shape[1]} columns; it must make one.')
            columns: dict[str, Any] = {_RESPONSE: response.iloc[:, 0].to_numpy()}
            columns |= {name: design[name].to_numpy() for name in regressors}
            missing = beside - set(frame.columns)
            if missing:
                raise DataError(f'unknown column "{min(missing)}"; the data has {list(frame.columns)}.')
            return columns | {name: raw[name] for name in beside}

        return replace(inner, encode=encode)

    typed = cast("RegressionFactory", factory)
    typed.from_formula = from_formula  # type: ignore[method-assign]
    return typed


def _specs(formula: str, data: Any) -> tuple[Any, Any]:
    """Left and right model specifications, fitted on the data."""
    import formulaic
    from formulaic.errors import FormulaicError

    try:
        matrices = formulaic.model_matrix(formula, _frame(data), na_action="ignore")
        left, right = matrices.lhs.model_spec, matrices.rhs.model_spec
    except AttributeError as error:
        raise DataError(f'the formula "{formula}" has no response; write "y ~ x".') from error
    except FormulaicError as error:
        raise DataError(f'the formula "{formula}" does not fit the data: {error}') from error
    return left, right


def _matrix(spec: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of one side of the formula for new data; every row is kept."""
    from formulaic.errors import FormulaicError

    for name in sorted(map(str, spec.required_variables)):
        if name not in frame:
            raise DataError(f'unknown column "{name}"; the data has {list(frame.columns)}.')
        missing = frame[name].isna().to_numpy()
        if missing.any():
            raise DataError(
                f'column "{name}" has {int(missing.sum())} row(s) with missing values, first at row '
                f"{int(missing.argmax())}; drop or impute them before estimating."
            )
    _require_known_levels(spec, frame)
    try:
        matrix = spec.get_model_matrix(frame, na_action="ignore")
    except FormulaicError as error:
        raise DataError(f"the formula does not fit the data: {error}") from error
    return pd.DataFrame(np.asarray(matrix, dtype=np.float64), columns=[str(name) for name in spec.column_names])


def _require_known_levels(spec: Any, frame: pd.DataFrame) -> None:
    """Raise for a factor level that the fit of the formula did not see."""
    for factor, (_, state) in spec.encoder_state.items():
        known = state.get("categories")
        columns = [name for name in map(str, spec.required_variables) if name in str(factor)]
        if known is None or len(columns) != 1:
            continue
        unseen = sorted(map(str, set(frame[columns[0]].unique()) - set(known)))
        if unseen:
            raise DataError(f'column "{columns[0]}" has the level "{unseen[0]}", which the formula was not fitted on.')


def _frame(data: Any) -> pd.DataFrame:
    if isinstance(data, pd.DataFrame):
        return data
    if not isinstance(data, Mapping):
        raise DataError(f"a formula needs named columns; pass a DataFrame or a mapping, not a {type(data).__name__}.")
    return pd.DataFrame(
        {name: column.cpu().numpy() if isinstance(column, Tensor) else column for name, column in data.items()}
    )
