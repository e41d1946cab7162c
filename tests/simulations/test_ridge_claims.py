"""The judge of the study ``ridge`` on fabricated tables, whose relative errors are fixed quantiles around a law."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from simulations.claims.ridge import judge, label, rows_of
from simulations.designs.ridge_lines import LINES, Line
from simulations.verdicts import check_verdicts

SIZES = (64, 128, 256, 512, 1024)
SLOPE, RATIO, FAILURES = "slope of mean", "excess risk /", "share of failures"
ERRORS = norm.ppf((np.arange(60) + 0.5) / 60)

Plant = Callable[[pd.DataFrame], pd.DataFrame]


def _rows(line: Line, replicates: int) -> pd.DataFrame:
    """Excess risks that obey the theory's law exactly in the mean, anchored at the equivalent of n = 256."""
    errors = 1 + 0.2 * ERRORS[:: len(ERRORS) // replicates]
    errors /= errors.mean()
    parts = [
        pd.DataFrame(
            {
                **line.levels,
                "n": n,
                "replicate": np.arange(len(errors)),
                "parameter": "excess_risk",
                "truth": 0.0,
                "estimate": line.equivalent(256) * (n / 256) ** -line.design.exponent * errors,
                "se": np.nan,
                "status": "converged",
            }
        )
        for n in SIZES
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.concat([_rows(line, 60) for line in LINES], ignore_index=True)


def _having(verdicts: pd.DataFrame, verdict: str) -> set[tuple[str, str]]:
    rows = verdicts[verdicts["verdict"] == verdict]
    kinds = (SLOPE, RATIO, FAILURES)
    return {(row.regime, next(k for k in kinds if row.quantity.startswith(k))) for row in rows.itertuples(index=False)}


def test_all_claims_hold_on_a_table_that_obeys_the_theory(table: pd.DataFrame) -> None:
    verdicts = judge(table, LINES, max_width=0.2)
    check_verdicts(verdicts)
    assert (verdicts["verdict"] == "holds").all(), verdicts.to_string()
    assert set(verdicts["claim"]) == {"T7"}
    assert len(verdicts) == len(LINES) + 4 + 1
    slopes = verdicts[verdicts["quantity"].str.startswith(SLOPE)]
    np.testing.assert_allclose(slopes["estimate"], slopes["predicted"], atol=1e-9)
    np.testing.assert_allclose(slopes["predicted"], [-line.design.exponent for line in LINES])


def first_line_is_flatter(table: pd.DataFrame) -> pd.DataFrame:
    mine = table.index.isin(rows_of(table, LINES[0]).index)
    return table.assign(estimate=table["estimate"] * np.where(mine, (table["n"] / 256) ** 0.15, 1.0))


def a_logistic_line_has_a_floor(table: pd.DataFrame) -> pd.DataFrame:
    mine = table.index.isin(rows_of(table, LINES[4]).index)
    return table.assign(estimate=table["estimate"] + mine * LINES[4].equivalent(512))


def first_line_is_a_third_higher(table: pd.DataFrame) -> pd.DataFrame:
    mine = table.index.isin(rows_of(table, LINES[0]).index)
    return table.assign(estimate=table["estimate"] * np.where(mine, 4 / 3, 1.0))


def one_in_ten_fails(table: pd.DataFrame) -> pd.DataFrame:
    failed = table["replicate"] % 10 == 5
    return table.assign(status=table["status"].mask(failed, "max_iterations"), estimate=table["estimate"].mask(failed))


@pytest.mark.parametrize(
    ("plant", "failing"),
    [
        (first_line_is_flatter, {(label(LINES[0]), SLOPE)}),
        (a_logistic_line_has_a_floor, {(label(LINES[4]), SLOPE)}),
        (first_line_is_a_third_higher, {(label(LINES[0]), RATIO)}),
        (one_in_ten_fails, {("all lines", FAILURES)}),
    ],
)
def test_a_planted_error_fails_its_own_claims_only(
    plant: Plant, failing: set[tuple[str, str]], table: pd.DataFrame
) -> None:
    verdicts = judge(plant(table), LINES, max_width=0.2)
    assert _having(verdicts, "fails") == failing, verdicts.to_string()
    assert _having(verdicts, "could not tell") == set()


def test_too_few_replicates_leave_claims_open() -> None:
    few = pd.concat([_rows(line, 3) for line in LINES], ignore_index=True)
    verdicts = judge(few, LINES, max_width=0.05)
    assert _having(verdicts, "fails") == set()
    assert (verdicts.loc[verdicts["quantity"].str.startswith(SLOPE), "verdict"] == "could not tell").all()


def test_sizes_before_the_burn_in_do_not_count(table: pd.DataFrame) -> None:
    binary = table["estimator"] != "least_squares"
    bent = table.assign(estimate=table["estimate"] * np.where(binary & (table["n"] < 128), 0.5, 1.0))
    assert (judge(bent, LINES, max_width=0.2)["verdict"] == "holds").all()
