"""Measures and their clustered standard errors, against statsmodels, numpy, the bootstrap and simulation."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scored import scored, taken

from eeqs.engine.errors import DataError
from eeqs.llm.evaluation import calibration_error, evaluate
from eeqs.llm.evaluation.ratio_measures import fit_ratios

SEED = st.integers(0, 10_000)


def _estimates(table: pd.DataFrame, column: str = "estimate") -> pd.Series:
    return table.set_index("measure")[column]


def test_estimates_are_the_usual_formulas():
    scores = scored(np.random.default_rng(0))
    found = _estimates(evaluate(scores))
    tokens = scores.n_tokens.sum()
    gaps = scores.bin_confidence.sum(0) - scores.bin_correct.sum(0)
    assert found["perplexity"] == pytest.approx(np.exp(-scores.log_probability.sum() / tokens), rel=1e-12)
    assert found["bits_per_byte"] == pytest.approx(scores.bits_per_byte, rel=1e-12)
    assert found["accuracy"] == pytest.approx(scores.n_correct.sum() / tokens, rel=1e-12)
    assert found["calibration_in_the_large"] == pytest.approx(gaps.sum() / tokens, rel=1e-12)
    assert found["calibration_error"] == pytest.approx(np.abs(gaps).sum() / tokens, rel=1e-12)


def test_standard_errors_are_those_of_statsmodels_on_tokens():
    # The mean over tokens by least squares, clustered by document; without its factor that is CR0, and CR2 follows from
    # the shares of documents: every residual sum is divided by (1 - share) ** 0.5.
    rng = np.random.default_rng(1)
    sizes = rng.integers(3, 40, 15)
    of = np.repeat(np.arange(15), sizes)
    y = rng.normal(size=len(of)) + rng.normal(size=15)[of]
    fit = fit_ratios(np.bincount(of, y)[:, None], sizes[:, None].astype(float), [f"d{i}" for i in range(15)], ["y"])
    reference = sm.OLS(y, np.ones_like(y)).fit(cov_type="cluster", cov_kwds={"groups": of, "use_correction": False})
    residual = np.bincount(of, y - y.mean())
    cr0 = np.sqrt(np.square(residual).sum()) / len(of)
    assert cr0 == pytest.approx(reference.bse[0], rel=1e-10)
    cr2 = np.sqrt((np.square(residual) / (1 - sizes / len(of))).sum()) / len(of)
    assert fit.bse.iloc[0] == pytest.approx(cr2, rel=1e-10)
    assert fit.df == 14


def test_documents_of_one_size_have_the_factor_of_cr1():
    y = np.random.default_rng(2).normal(size=(9, 1))
    fit = fit_ratios(y, np.ones((9, 1)), [str(i) for i in range(9)], ["y"])
    assert fit.bse.iloc[0] == pytest.approx(y.std(ddof=1) / 3, rel=1e-10)
    half = stats.t.ppf(0.975, 8) * y.std(ddof=1) / 3
    assert fit.conf_int().iloc[0, 1] == pytest.approx(y.mean() + half, rel=1e-10)


def test_standard_errors_are_those_of_the_cluster_bootstrap():
    scores, rng = scored(np.random.default_rng(3), 300), np.random.default_rng(4)
    drawn = rng.integers(300, size=(2000, 300))
    total = {
        name: getattr(scores, name)[drawn].sum(1) for name in ("log_probability", "n_tokens", "n_bytes", "n_correct")
    }
    boot = {
        "perplexity": np.exp(-total["log_probability"] / total["n_tokens"]),
        "bits_per_byte": -total["log_probability"] / np.log(2) / total["n_bytes"],
        "accuracy": total["n_correct"] / total["n_tokens"],
    }
    found = _estimates(evaluate(scores), "se")
    # The bootstrap's own error is 1 / sqrt(2 * 2000) = 1.6 %; that of linearisation is smaller.
    for name, values in boot.items():
        assert found[name] == pytest.approx(values.std(), rel=0.065)


def test_the_interval_of_perplexity_is_that_of_its_logarithm():
    scores = scored(np.random.default_rng(5))
    row = evaluate(scores).set_index("measure").loc["perplexity"]
    low, middle, high = np.log([row["low"], row["estimate"], row["high"]])
    half = stats.t.ppf(0.975, 19) * row["se"] / row["estimate"]
    assert (middle - low, high - middle) == pytest.approx((half, half), rel=1e-9)


@given(SEED)
def test_the_order_of_documents_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    scores = scored(rng, 12)
    moved = taken(scores, rng.permutation(12))
    pd.testing.assert_frame_equal(evaluate(scores), evaluate(moved), rtol=1e-8)


@given(SEED)
def test_splitting_documents_changes_nothing_when_their_parts_are_one_cluster(seed):
    scores = scored(np.random.default_rng(seed), 8, most=20)
    parts = taken(scores, np.repeat(np.arange(8), 2), tuple(f"d{i}/{part}" for i in range(8) for part in "ab"))
    # Both halves are the document's sums, so all ratios and their errors are as before.
    found = evaluate(parts, cluster=lambda name: name.partition("/")[0]).drop(columns="n_documents")
    pd.testing.assert_frame_equal(found, evaluate(scores).drop(columns="n_documents"), rtol=1e-8)
    # Planted error: parts taken for independent documents halve the variance, up to the small-sample factor.
    wrong = _estimates(evaluate(parts), "se")["bits_per_byte"]
    assert wrong < 0.85 * _estimates(evaluate(scores), "se")["bits_per_byte"]


def test_several_domains_are_the_domains_one_by_one():
    rng = np.random.default_rng(6)
    domains = {"in": scored(rng, 12), "out": scored(rng, 7)}
    both = evaluate(domains)
    for name, scores in domains.items():
        part = both[both["domain"] == name].drop(columns="domain").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, evaluate(scores))


def _coverage(truth: np.ndarray, *, replicates: int = 400, clusters: int = 200) -> tuple[float, float]:
    """Share of intervals below and above the true sum of absolute gaps, for gaps of standard error 0.01."""
    rng, below, above = np.random.default_rng(7), 0, 0
    mixing = 0.01 * np.linalg.cholesky(0.8 * np.eye(len(truth)) + 0.2)
    for _ in range(replicates):
        sample = truth + rng.standard_normal((clusters, len(truth))) @ mixing.T * np.sqrt(clusters)
        found = calibration_error(sample.mean(0), np.cov(sample.T) / clusters, clusters)
        below += found.high < np.abs(truth).sum()
        above += found.low > np.abs(truth).sum()
    return below / replicates, above / replicates


@pytest.mark.parametrize(
    "truth",
    [np.zeros(10), np.full(10, 0.01), np.r_[np.zeros(5), np.full(5, -0.1)], np.linspace(-0.2, 0.2, 10)],
    ids=["calibrated", "nearly calibrated", "partly", "not calibrated"],
)
def test_the_interval_of_the_calibration_error_covers(truth):
    below, above = _coverage(truth)
    # 2.5 % on either side; Monte Carlo standard error 0.8 %, so that 3.5 of them are allowed.
    assert below <= 0.025 + 3.5 * 0.0078
    assert above <= 0.025 + 3.5 * 0.0078


def test_the_normal_interval_of_the_calibration_error_would_not_cover():
    rng, missed = np.random.default_rng(8), 0
    for _ in range(200):
        gaps = 0.01 * rng.standard_normal(10)
        missed += np.abs(gaps).sum() - 1.96 * 0.01 * np.sqrt(10) > 0
    assert missed / 200 > 0.5


def test_no_document_differs():
    one = taken(scored(np.random.default_rng(9), 2), np.zeros(4, dtype=int), ("a", "b", "c", "d"))
    table = evaluate(one)
    np.testing.assert_allclose(table["se"], 0, atol=1e-12)
    np.testing.assert_allclose(table["low"], table["high"], atol=1e-12)


def test_bad_input_is_named():
    scores = scored(np.random.default_rng(10), 3)
    with pytest.raises(DataError, match=r"story.*one cluster"):
        evaluate({"story": taken(scores, np.array([0]))})
    with pytest.raises(DataError, match="one cluster"):
        evaluate(scores, cluster=lambda _: "all")
    with pytest.raises(DataError, match="no domain"):
        evaluate({})
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        evaluate(scores, alpha=1.5)
    with pytest.raises(DataError, match="perplexity divides by a sum of zero"):
        fit_ratios(np.ones((2, 1)), np.zeros((2, 1)), ["a", "b"], ["perplexity"])
