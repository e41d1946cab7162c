"""Verdicts: holds, fails, could not tell."""

from math import inf, nan

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.study import VERDICT_COLUMNS
from simulations.verdicts import FAILS, HOLDS, check_verdicts, point, within

NUMBER = st.floats(-10, 10)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.55, -0.45, "holds"),
        (-0.5, -0.4, "holds"),
        (-0.45, -0.40, "fails"),
        (-0.9, -0.6, "fails"),
        (-0.7, -0.3, "could not tell"),
        (nan, -0.4, "could not tell"),
        (-inf, inf, "could not tell"),
    ],
)
def test_point_claim(low: float, high: float, verdict: str) -> None:
    assert point(-0.5, low, high, max_width=0.15) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.93, 0.97, "holds"),
        (0.90, 0.96, "could not tell"),
        (0.94, 0.99, "could not tell"),
        (0.80, 0.92, "fails"),
        (0.98, 1.0, "fails"),
        (nan, nan, "could not tell"),
    ],
)
def test_range_claim(low: float, high: float, verdict: str) -> None:
    assert within(low, high, at_least=0.925, at_most=0.975) == verdict


def test_one_sided_claims() -> None:
    assert within(5.0, 6.0, at_least=4.0) == "holds"
    assert within(0.0, 0.1, at_most=0.2) == "holds"
    assert within(0.3, 0.4, at_most=0.2) == "fails"


@given(NUMBER, NUMBER, NUMBER)
def test_a_claim_fails_exactly_where_the_interval_excludes_it(claim: float, low: float, width: float) -> None:
    high = low + abs(width)
    excluded = not low <= claim <= high
    assert (point(claim, low, high, max_width=1.0) == "fails") == excluded
    assert (within(low, high, at_least=claim, at_most=claim) == "fails") == excluded


def _verdicts(**changes: object) -> pd.DataFrame:
    row = dict.fromkeys(VERDICT_COLUMNS, 0.0) | {"verdict": "holds"}
    return pd.DataFrame([row | changes])


def test_verdict_table_is_checked() -> None:
    check_verdicts(_verdicts())
    with pytest.raises(ValueError, match=r"verdicts are .* not \['perhaps'\]"):
        check_verdicts(_verdicts(verdict="perhaps"))
    for bad in (_verdicts().drop(columns="low"), _verdicts().iloc[:0]):
        with pytest.raises(ValueError, match="a verdict table has rows and columns"):
            check_verdicts(bad)


def test_an_interval_that_ends_at_the_prediction_up_to_rounding_contains_it() -> None:
    assert point(0.0, 7e-17, 0.1, 0.2) == HOLDS
    assert point(-0.5, -0.7, -0.5 - 1e-16, 0.4) == HOLDS
    assert point(0.0, 1e-9, 0.1, 0.2) == FAILS
