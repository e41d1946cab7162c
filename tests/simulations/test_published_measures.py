"""Measures of a published table of estimates equal those printed by rsimsum, with all replicates and with failures.

Sources and licences of the numbers: ``data/SOURCE.md``.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulations.comparisons import compare
from simulations.measures import measures

TRUTH, METHODS = 0.5, ("cc", "mi_logt")

# What cutting estimates at 1e-6 does to the mean or standard deviation of 1,000 of them, relative: 1e-8 of some 0.02.
CUT = 1e-6
PERCENTAGES = ("precision_gain", "model_se_relative_error")

# For each method the value and the Monte Carlo standard error that rsimsum prints.
PRINTED = {
    "bias": ((0.0167662, 0.0047787), (0.0009231, 0.0041744)),
    "relative_bias": ((0.0335323, 0.0095574), (0.0018462, 0.0083488)),
    "empirical_se": ((0.1511150, 0.0033807), (0.1320064, 0.0029532)),
    "mse": ((0.0230940, 0.0011338), (0.0174091, 0.0008813)),
    "precision_gain": ((0.0, 0.0), (31.0463410, 3.9374726)),
    "model_se": ((0.1470963, 0.0005274), (0.1349413, 0.0006046)),
    "model_se_relative_error": ((-2.6593842, 2.2054817), (2.2232593, 2.3323382)),
    "coverage": ((0.9430000, 0.0073315), (0.9490000, 0.0069569)),
    "bias_eliminated_coverage": ((0.9400000, 0.0075100), (0.9490000, 0.0069569)),
    "rejection": ((0.9460000, 0.0071473), (0.9690000, 0.0054808)),
}
DROPPED = {
    "bias": ((0.0142, 0.0048), (-0.0022, 0.0043)),
    "relative_bias": ((0.0283, 0.0096), (-0.0044, 0.0086)),
    "empirical_se": ((0.1493, 0.0034), (0.1320, 0.0030)),
    "mse": ((0.0225, 0.0011), (0.0174, 0.0009)),
    "precision_gain": ((0.0, 0.0), (27.9890, 3.9442)),
    "model_se": ((0.1459, 0.0005), (0.1323, 0.0005)),
    "model_se_relative_error": ((-2.2821, 2.2545), (0.2271, 2.3291)),
    "coverage": ((0.9447, 0.0074), (0.9464, 0.0073)),
    "bias_eliminated_coverage": ((0.9426, 0.0075), (0.9453, 0.0074)),
    "rejection": ((0.9457, 0.0073), (0.9685, 0.0057)),
}


def _published() -> pd.DataFrame:
    """Long table of the published estimates; a number cut after six decimals lies half a unit further from zero."""
    wide = pd.read_csv(Path(__file__).parent / "data" / "mi_sim.csv")
    wide = wide + 5e-7 * np.sign(wide)
    parts = [
        pd.DataFrame(
            {
                "study": "MIsim",
                "method": name,
                "replicate": range(len(wide)),
                "parameter": "b",
                "truth": TRUTH,
                "estimate": wide[name],
                "se": wide[f"{name}_se"],
                "status": "converged",
                "seconds": 0.0,
                "seed": "",
            }
        )
        for name in METHODS
    ]
    return pd.concat(parts, ignore_index=True)


def _distances(values: pd.Series) -> pd.Series:
    """Distances from the median in units of that between Tukey's hinges."""
    ordered, depth = np.sort(values), (np.floor((len(values) + 3) / 2)) / 2
    low, high = (
        np.mean([side[int(np.floor(depth)) - 1], side[int(np.ceil(depth)) - 1]]) for side in (ordered, ordered[::-1])
    )
    return (values - values.median()).abs() / (high - low)


def _with_failures(table: pd.DataFrame) -> pd.DataFrame:
    """The table with large estimates and standard errors as failures, whose numbers are absent."""
    parts = []
    for _, part in table.groupby("method"):
        large = (_distances(part["estimate"]) > 4) | (_distances(part["se"]) > 1.5)
        gone = {name: part[name].mask(large) for name in ("estimate", "se")}
        parts.append(part.assign(status=part["status"].mask(large, "large"), **gone))
    return pd.concat(parts, ignore_index=True)


def _found(table: pd.DataFrame) -> pd.DataFrame:
    both = pd.concat([measures(table), compare(table, "method", "cc")])
    return both.set_index(["measure", "method"])


def _assert_printed(found: pd.DataFrame, printed: dict, decimals: int, cut: float) -> None:
    """Numbers agree to half a unit of the last printed decimal, plus what cutting the estimates does (relative).

    A percentage is 100 times a ratio less one, so cutting moves it by 100 times as much.
    """
    for name, pairs in printed.items():
        for method, pair in zip(METHODS, pairs, strict=True):
            mine = found.loc[(name, method), ["value", "mcse"]].to_numpy(dtype=float)
            atol = 0.5001 * 10**-decimals + (100 * cut if name in PERCENTAGES else 0)
            np.testing.assert_allclose(mine, pair, rtol=cut, atol=atol, err_msg=f"{name} of {method}")


def test_all_replicates() -> None:
    found = _found(_published())
    assert (found["n_used"] == 1000).all()
    _assert_printed(found, PRINTED, 7, cut=CUT)


def test_replicates_that_fail_are_left_out_and_counted() -> None:
    table = _with_failures(_published())
    found = _found(table)
    for method, used in zip(METHODS, (958, 951), strict=True):
        assert found.loc[("bias", method), "n_used"] == used
        assert found.loc[("precision_gain", method), "n_used"] == used
        assert found.loc[("n_failed", method), "value"] == 1000 - used
        assert found.loc[("failed: large", method), "value"] == pytest.approx(1 - used / 1000)
    _assert_printed(found, DROPPED, 4, cut=CUT)


def test_width_of_the_intervals() -> None:
    found, cc = _found(_published()), _published().query("method == 'cc'")
    width = 2 * 1.959964 * cc["se"]
    assert found.loc[("interval_width", "cc"), "value"] == pytest.approx(width.mean(), rel=1e-6)
    assert found.loc[("interval_width", "cc"), "mcse"] == pytest.approx(width.std() / 1000**0.5, rel=1e-6)


@pytest.mark.parametrize("column", ["estimate", "se"])
def test_one_percent_on_the_numbers_would_show(column: str) -> None:
    table = _published()
    with pytest.raises(AssertionError):
        _assert_printed(_found(table.assign(**{column: 1.01 * table[column]})), PRINTED, 4, cut=CUT)


def test_failures_taken_for_numbers_would_show() -> None:
    """Planted: absent estimates imputed by the truth; and pairs in place of each method's own replicates."""
    table = _with_failures(_published())
    imputed = table.assign(estimate=table["estimate"].fillna(TRUTH), se=table["se"].fillna(0.14), status="converged")
    with pytest.raises(AssertionError):
        _assert_printed(_found(imputed), DROPPED, 4, cut=CUT)
    failed = table.loc[table["status"] != "converged", "replicate"]
    paired = _found(table[~table["replicate"].isin(failed)])
    with pytest.raises(AssertionError, match="precision_gain"):
        _assert_printed(paired, {"precision_gain": DROPPED["precision_gain"]}, 4, cut=CUT)


def test_degrees_of_freedom_of_an_early_version_would_show() -> None:
    """Version 0.9.0 of rsimsum took 1/(2R - 1) for the 1/(2(R - 1)) of the paper, as later versions do."""
    early = {"model_se_relative_error": ((-2.6593842, 2.2049438), (2.2232593, 2.3317773))}
    with pytest.raises(AssertionError, match="model_se_relative_error"):
        _assert_printed(_found(_published()), early, 7, cut=CUT)
