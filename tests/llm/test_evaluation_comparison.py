"""Paired differences between methods, and intervals that hold for all domains at once."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scored import scored, shifted, taken

from eeqs.engine.errors import DataError
from eeqs.llm.evaluation import accuracy, bits_per_byte, compare, perplexity


def _methods(seed: int, sizes: tuple[int, ...] = (15, 25, 9)) -> dict:
    rng = np.random.default_rng(seed)
    plain = {f"domain{k}": scored(rng, size) for k, size in enumerate(sizes)}
    return {
        "plain": plain,
        "noise": {name: shifted(one, rng.normal(0.05, 0.1, len(one))) for name, one in plain.items()},
        "learned": {name: shifted(one, rng.normal(0.1, 0.1, len(one))) for name, one in plain.items()},
    }


def test_differences_and_standard_errors_are_those_of_numpy():
    scores = _methods(0)
    table = compare(scores, "plain")
    assert list(zip(table["method"], table["domain"], strict=True)) == [
        (method, domain) for method in ("noise", "learned") for domain in scores["plain"]
    ]
    for row in table.itertuples():
        ours, base = scores[row.method][row.domain], scores["plain"][row.domain]
        x = base.n_bytes
        y = (base.log_probability - ours.log_probability) / np.log(2)
        ratio = y.sum() / x.sum()
        se = np.sqrt((np.square(y - ratio * x) / (1 - x / x.sum())).sum()) / x.sum()
        half = stats.t.ppf(0.975, len(x) - 1) * se
        assert (row.estimate, row.se) == pytest.approx((ratio, se), rel=1e-8)
        assert (row.low, row.high) == pytest.approx((ratio - half, ratio + half), rel=1e-8)
        assert row.n_documents == len(x)


def test_pairing_is_what_makes_them_small():
    scores = _methods(1)
    unpaired = scores | {
        "noise": {name: taken(one, np.arange(len(one))[::-1]) for name, one in scores["noise"].items()}
    }
    with pytest.raises(DataError, match='document 0 is "d0" in one and "d14" in the other'):
        compare(unpaired, "plain")
    table, single = compare(scores, "plain"), scores["plain"]["domain0"]
    residual = -single.log_probability / np.log(2) - single.bits_per_byte * single.n_bytes
    alone = np.sqrt(np.square(residual).sum()) / single.n_bytes.sum()
    assert table["se"][0] < 0.7 * alone


def test_perplexity_is_compared_on_its_own_scale():
    scores = _methods(2)
    table = compare(scores, "plain", perplexity)
    values = [
        np.exp(-scores[m]["domain1"].log_probability.sum() / scores[m]["domain1"].n_tokens.sum())
        for m in ("noise", "plain")
    ]
    assert table["estimate"][1] == pytest.approx(values[0] - values[1], rel=1e-9)
    # Jackknife by hand, to first order the same.
    keep = [np.delete(np.arange(25), i) for i in range(25)]
    pair = scores["noise"]["domain1"], scores["plain"]["domain1"]
    left_out = [
        np.subtract(*(np.exp(-one.log_probability[k].sum() / one.n_tokens[k].sum()) for one in pair)) for k in keep
    ]
    assert table["se"][1] == pytest.approx(np.sqrt(24**2 / 25 * np.var(left_out, ddof=1)), rel=0.05)


def test_independent_domains_have_sidaks_critical_value_and_all_pairs_a_wider_one():
    scores = _methods(3, (200, 200, 200))
    one, every = compare(scores, "plain"), compare(scores, "plain", over_methods=True)
    critical = (one["simultaneous_high"] - one["estimate"]) / one["se"]
    np.testing.assert_allclose(critical, stats.t.ppf(1 - (1 - 0.95 ** (1 / 3)) / 2, 199), rtol=1e-3)
    wider = (every["simultaneous_high"] - every["estimate"]) / every["se"]
    assert (wider > critical + 0.1).all()
    assert (wider < stats.t.ppf(1 - 0.025 / 6, 199) + 1e-9).all()
    pd.testing.assert_frame_equal(one.iloc[:, :8], every.iloc[:, :8])


def test_simultaneous_intervals_cover_all_domains_together():
    # Domains share no document, so that the critical value is the same in every replicate; the estimates and standard
    # errors are those of numpy, which are compared with the package's above.
    rng, replicates = np.random.default_rng(4), 4000
    base = {f"domain{k}": scored(rng, 8, most=12) for k in range(4)}
    one = compare({"plain": base, "noise": {n: shifted(s, rng.normal(size=8)) for n, s in base.items()}}, "plain")
    critical = ((one["simultaneous_high"] - one["estimate"]) / one["se"]).mean()
    statistics = []
    for scores in base.values():
        x, y = scores.n_bytes, rng.normal(0.1, 0.2, (replicates, 8)) * scores.n_tokens
        estimate = y.sum(axis=1) / x.sum()
        residual = np.square(y - estimate[:, None] * x) / (1 - x / x.sum())
        truth = 0.1 * scores.n_tokens.sum() / x.sum()
        statistics.append(np.abs(estimate - truth) * x.sum() / np.sqrt(residual.sum(axis=1)))
    largest = np.max(statistics, axis=0)
    # Monte Carlo standard error 0.35 %, three of them; with documents of unequal size t is an approximation.
    assert (largest > critical).mean() == pytest.approx(0.05, abs=0.0105)
    assert (largest > stats.t.ppf(0.975, 7)).mean() > 0.1
    assert (largest > stats.norm.ppf(1 - (1 - 0.95 ** (1 / 4)) / 2)).mean() > 0.1


def test_translations_of_the_same_texts_are_dependent_domains():
    rng = np.random.default_rng(5)
    english, german = scored(rng, 300, name="en/"), scored(rng, 300, name="de/")
    english = replace(english, n_tokens=np.full(300, 20.0), n_bytes=np.full(300, 80.0))
    german = replace(german, n_tokens=np.full(300, 20.0), n_bytes=np.full(300, 80.0))
    shift = rng.normal(0, 0.2, 300)
    scores = {
        "plain": {"en": english, "de": german},
        "noise": {"en": shifted(english, shift), "de": shifted(german, shift)},
    }
    apart, together = compare(scores, "plain"), compare(scores, "plain", cluster=lambda name: name[3:])
    np.testing.assert_allclose(apart["se"], together["se"], rtol=1e-6)
    half = (together["simultaneous_high"] - together["estimate"]) / together["se"]
    # The two differences are one, so that there is nothing simultaneous about them.
    np.testing.assert_allclose(half, stats.t.ppf(0.975, 299), rtol=1e-6)
    assert ((apart["simultaneous_high"] - apart["estimate"]) / apart["se"] > half + 0.2).all()


@given(st.integers(0, 10_000))
def test_exchanging_method_and_reference_changes_the_sign(seed):
    scores = _methods(seed, (5, 8))
    del scores["learned"]
    there, back = compare(scores, "plain"), compare(scores, "noise")
    np.testing.assert_allclose(there["estimate"], -back["estimate"], rtol=1e-9)
    np.testing.assert_allclose(there["simultaneous_low"], -back["simultaneous_high"], rtol=1e-6)


def test_equal_methods_differ_by_nothing():
    scores = _methods(6, (5, 8))
    table = compare({"plain": scores["plain"], "copy": scores["plain"]}, "plain")
    np.testing.assert_allclose(table[["estimate", "se", "simultaneous_low", "simultaneous_high"]], 0, atol=1e-12)


def test_bad_input_is_named():
    scores = _methods(7)
    with pytest.raises(DataError, match='reference "base" is not among'):
        compare(scores, "base")
    with pytest.raises(DataError, match="0 methods beside"):
        compare({"plain": scores["plain"]}, "plain")
    fewer = {name: one for name, one in scores["noise"].items() if name != "domain2"}
    with pytest.raises(DataError, match='"domain2" is scored by only one of "noise" and "plain"'):
        compare({"plain": scores["plain"], "noise": fewer}, "plain")

    def altered(**changes: np.ndarray) -> dict:
        one = replace(scores["noise"]["domain1"], **changes)
        return {"plain": scores["plain"], "noise": scores["noise"] | {"domain1": one}}

    base = scores["plain"]["domain1"]
    with pytest.raises(DataError, match='on domain1: document "d3" has bytes'):
        compare(altered(n_bytes=base.n_bytes + (np.arange(25) >= 3)), "plain")
    more_tokens = altered(n_tokens=base.n_tokens + (np.arange(25) == 4))
    with pytest.raises(DataError, match='"d4" has the denominator of accuracy'):
        compare(more_tokens, "plain", accuracy)
    assert len(compare(more_tokens, "plain", bits_per_byte)) == 3
    short = {"plain": scores["plain"], "noise": scores["noise"] | {"domain1": taken(base, np.arange(24))}}
    with pytest.raises(DataError, match='"d24" is extra'):
        compare(short, "plain")
