"""The door of the store: rows that violate the schema are refused, each with the offender named."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from toy_studies.exponential import STUDY

from simulations.schema import check_rows, columns, complete
from simulations.seeds import from_text, replicate_seed
from simulations.study import Batch, Cell

BATCH = Batch(Cell("exponential", {"estimator": "plain", "n": 10}, 30, 4), range(4, 8))
SEEDS = [replicate_seed(0, "n=10", i) for i in BATCH.replicates]


def _returned() -> pd.DataFrame:
    return STUDY.run(BATCH.cell, BATCH.replicates, SEEDS)


def _rows() -> pd.DataFrame:
    return complete(_returned(), BATCH, SEEDS, seconds=2.0)


def test_completed_rows_pass_and_are_sorted() -> None:
    shuffled = complete(_returned().sample(frac=1, random_state=0), BATCH, SEEDS, seconds=2.0)
    check_rows(shuffled, BATCH)
    pd.testing.assert_frame_equal(shuffled, _rows())
    assert list(shuffled.columns) == columns(BATCH)
    assert shuffled["replicate"].tolist() == [4, 5, 6, 7]
    assert shuffled["seconds"].tolist() == [0.5] * 4


def test_seed_column_reproduces_a_replicate() -> None:
    row = _rows().iloc[2]
    again = STUDY.run(BATCH.cell, [int(row["replicate"])], [from_text(row["seed"])]).iloc[0]
    assert again["estimate"] == row["estimate"]


def _set(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(**{column: [value, *rows[column][1:]]})

    return change


FAULTS = [
    (lambda rows: rows.drop(columns="se"), ValueError, r"columns missing: \['se'\]"),
    (lambda rows: rows.assign(extra=1), ValueError, r"not expected: \['extra'\]"),
    (lambda rows: rows.iloc[1:], ValueError, r"replicates missing: \[4\]"),
    (_set("replicate", 99), ValueError, r"not expected: \[99\]"),
    (lambda rows: pd.concat([rows, rows.iloc[:1]]), ValueError, "is repeated"),
    (lambda rows: pd.concat([rows, rows.iloc[:1].assign(parameter="x")]), ValueError, "lacks a parameter"),
    (
        _set("estimate", np.nan),
        ValueError,
        "converged without a finite estimate in 1 row.*replicate 4, parameter 'mean'",
    ),
    (_set("estimate", np.inf), ValueError, "converged without a finite estimate"),
    (_set("truth", np.nan), ValueError, "truth is not finite"),
    (_set("se", -1.0), ValueError, "se is negative or infinite"),
    (_set("se", np.inf), ValueError, "se is negative or infinite"),
    (_set("status", ""), ValueError, "status is empty"),
    (_set("seconds", np.nan), ValueError, "seconds is not a time"),
    (_set("estimator", "shrunk"), ValueError, "estimator differs from the cell's 'plain'"),
    (lambda rows: rows.assign(estimate="1.0"), TypeError, "'estimate' is .*, it must hold float"),
    (lambda rows: rows.assign(status=1), TypeError, "'status' is int64, it must hold str"),
    (_set("status", None), TypeError, "'status' is .*, it must hold str"),
    (lambda rows: rows.assign(replicate=rows["replicate"].astype(float)), TypeError, "'replicate' is float64"),
]


@pytest.mark.parametrize(("fault", "error", "message"), FAULTS)
def test_fault_is_refused(fault: Callable, error: type[Exception], message: str) -> None:
    rows = _rows().assign(status="converged", estimate=1.0, se=0.1)
    check_rows(rows, BATCH)
    with pytest.raises(error, match=message):
        check_rows(fault(rows), BATCH)


def test_a_failure_may_lack_an_estimate() -> None:
    check_rows(_rows().assign(status="refused", estimate=np.nan, se=np.inf), BATCH)


def test_standard_error_may_be_absent() -> None:
    check_rows(_rows().assign(status="converged", estimate=1.0, se=np.nan), BATCH)


def test_study_must_return_the_stated_columns_and_replicates() -> None:
    with pytest.raises(ValueError, match=r"columns missing: \['truth'\]"):
        complete(_returned().drop(columns="truth"), BATCH, SEEDS, 1.0)
    with pytest.raises(ValueError, match=r"replicates missing: \[7\]"):
        complete(_returned().iloc[:-1], BATCH, SEEDS, 1.0)


def test_cell_parameter_may_not_shadow_a_column() -> None:
    cell = Cell("exponential", {"status": "a"}, 4, 4)
    with pytest.raises(ValueError, match="cell parameter 'status'"):
        columns(next(cell.batches()))
