"""Seeds and documents as crossed levels of variation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scored import scored, shifted

from eeqs.engine.errors import DataError
from eeqs.llm.evaluation import (
    Crossed,
    bits_per_byte,
    compare,
    compare_over_seeds,
    crossed,
    evaluate,
    evaluate_over_seeds,
)
from eeqs.llm.evaluation.ratio_measures import fit_ratios


def _design(rng: np.random.Generator, documents: int, seeds: int, sd: tuple[float, float, float]) -> np.ndarray:
    """Crossed random effects (documents, seeds) of mean zero: of documents, seeds and their interaction."""
    parts = (rng.normal(size=(documents, 1)), rng.normal(size=(1, seeds)), rng.normal(size=(documents, seeds)))
    return sum(size * part for size, part in zip(sd, parts, strict=True))


def _crossed(y: np.ndarray) -> Crossed:
    return crossed(y.mean(0), np.cov(y.T) / len(y), len(y))


def test_the_decomposition_is_that_of_the_mean_squares():
    y = _design(np.random.default_rng(0), 12, 4, (1.0, 0.8, 0.5))
    rows, columns, mean = y.mean(1), y.mean(0), y.mean()
    of_documents = 4 * np.square(rows - mean).sum() / 11
    of_seeds = 12 * np.square(columns - mean).sum() / 3
    of_both = np.square(y - rows[:, None] - columns + mean).sum() / 33
    found = _crossed(y)
    assert found.estimate == pytest.approx(mean)
    assert found.se_documents == pytest.approx(np.sqrt(of_documents / 48))
    assert found.se_seeds == pytest.approx(np.sqrt(of_seeds / 48))
    assert found.se == pytest.approx(np.sqrt((of_documents + of_seeds - of_both) / 48))
    assert found.seed_sd == pytest.approx(np.sqrt((of_seeds - of_both) / 12))
    v = np.array([of_documents, of_seeds, of_both]) / 48
    df = (v[0] + v[1] - v[2]) ** 2 / (v**2 / [11, 3, 33]).sum()
    assert found.df == pytest.approx(df)
    low, high = found.interval(0.1)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.95, df) * found.se)


@pytest.mark.parametrize(
    ("documents", "seeds", "sd"),
    [
        (30, 3, (1.0, 0.3, 0.5)), (30, 3, (1.0, 0.0, 0.5)), (100, 3, (0.2, 1.0, 0.2)),
        (15, 5, (1.0, 0.3, 2.0)), (60, 10, (1.0, 0.15, 0.5)),
    ],
)  # fmt: skip
def test_intervals_cover_for_new_seeds_and_documents(documents, seeds, sd):
    rng, replicates = np.random.default_rng(1), 3000
    found = [_crossed(_design(rng, documents, seeds, sd)) for _ in range(replicates)]
    covered = np.mean([low <= 0 <= high for low, high in (one.interval(0.05) for one in found)])
    # Monte Carlo standard error 0.4 %. With the df of three seeds Satterthwaite's approximation errs by about 1 %, and
    # where seeds hardly differ the variance, which is never below that of documents, is too large.
    assert 0.93 < covered < 0.99, covered
    variance = np.mean([one.se**2 for one in found])
    actual = sd[0] ** 2 / documents + sd[1] ** 2 / seeds + sd[2] ** 2 / documents / seeds
    # 3 standard errors of a mean of 3000 variances with 2 or more degrees of freedom are 5.5 %.
    assert variance > 0.945 * actual
    spread = np.var([one.estimate for one in found])
    assert spread == pytest.approx(actual, rel=3.5 * np.sqrt(2 / replicates))


def test_planted_errors_do_not_cover():
    rng = np.random.default_rng(2)
    found = [_crossed(_design(rng, 100, 3, (0.2, 1.0, 0.2))) for _ in range(500)]
    documents_only = np.mean([abs(one.estimate) < 1.96 * one.se_documents for one in found])
    normal_critical = np.mean([abs(one.estimate) < 1.96 * one.se for one in found])
    assert documents_only < 0.3
    assert normal_critical < 0.88


def _runs(seed: int, seeds: int = 3, count: int = 12, spread: float = 0.05) -> list:
    rng = np.random.default_rng(seed)
    base = scored(rng, count)
    return [shifted(base, rng.normal(0, spread) + rng.normal(0, 0.03, count)) for _ in range(seeds)]


def test_means_over_seeds_and_their_parts_come_from_the_clustered_covariance():
    runs = _runs(3)
    table = evaluate_over_seeds({"in": runs}).set_index("measure")
    x = runs[0].n_bytes
    y = np.column_stack([-one.log_probability / np.log(2) for one in runs])
    values = y.sum(0) / x.sum()
    scaled = (y - values * x[:, None]) / x.sum() / np.sqrt(1 - x / x.sum())[:, None]
    expected = crossed(values, scaled.T @ scaled, 12)
    row = table.loc["bits_per_byte"]
    for name in ("estimate", "se_documents", "se_seeds", "se", "df", "seed_sd"):
        assert row[name] == pytest.approx(getattr(expected, name), rel=1e-7)
    assert (row["n_documents"], row["n_seeds"]) == (12, 3)
    perplexities = [evaluate(one)["estimate"][0] for one in runs]
    assert table.loc["perplexity", "estimate"] == pytest.approx(np.mean(perplexities))
    assert table.loc["perplexity", "se_seeds"] == pytest.approx(np.std(perplexities, ddof=1) / np.sqrt(3))
    # All seeds find the same tokens correct.
    assert table.loc["accuracy", "se_seeds"] == pytest.approx(0, abs=1e-12)
    assert table.loc["accuracy", "se"] == pytest.approx(evaluate(runs[0])["se"][2], rel=1e-6)


def test_differences_are_paired_by_document_and_seed():
    plain = {"in": _runs(4), "out": _runs(5, count=9)}
    rng = np.random.default_rng(6)
    learned = {
        name: [shifted(one, 0.1 + rng.normal(0, 0.01, len(one))) for one in runs] for name, runs in plain.items()
    }
    table = compare_over_seeds({"plain": plain, "learned": learned}, "plain")
    single = evaluate_over_seeds(plain, [bits_per_byte])
    assert (table["se"] < 0.5 * single["se"]).all()
    for place, name in enumerate(plain):
        parts = [
            compare({"a": {name: a}, "b": {name: b}}, "b") for a, b in zip(learned[name], plain[name], strict=True)
        ]
        assert table["estimate"][place] == pytest.approx(np.mean([part["estimate"][0] for part in parts]))
        assert table["se_seeds"][place] == pytest.approx(
            np.std([part["estimate"][0] for part in parts], ddof=1) / np.sqrt(3)
        )
    half = (table["simultaneous_high"] - table["estimate"]) / table["se"]
    np.testing.assert_allclose(half, stats.t.ppf(1 - 0.025 / 2, table["df"]), rtol=1e-9)


@given(st.integers(0, 10_000))
def test_the_order_of_seeds_does_not_matter_and_the_parts_add_up(seed):
    rng = np.random.default_rng(seed)
    y = _design(rng, 8, 4, (1.0, 0.5, 0.5))
    one, other = _crossed(y), _crossed(y[:, rng.permutation(4)])
    for name in ("estimate", "se_documents", "se_seeds", "se", "df", "seed_sd"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9)
    assert one.se_documents <= one.se <= np.hypot(one.se_documents, one.se_seeds) + 1e-12
    assert one.df >= 3 - 1e-9


def test_one_seed_and_unequal_runs_are_refused():
    runs = _runs(7)
    with pytest.raises(DataError, match="seed 0 on in: there is one seed"):
        evaluate_over_seeds({"in": runs[:1]})
    with pytest.raises(DataError, match='"learned" has 2 seeds, "plain" 3'):
        compare_over_seeds({"plain": {"in": runs}, "learned": {"in": runs[:2]}}, "plain")
    with pytest.raises(DataError, match="seed 0 on in and seed 1 on in: one has 12 documents"):
        evaluate_over_seeds({"in": [runs[0], _runs(7, count=11)[0], runs[2]]})
    with pytest.raises(DataError, match="one seed"):
        crossed(np.ones(1), np.ones((1, 1)), 5)


def test_equal_seeds_have_the_error_of_one():
    one = scored(np.random.default_rng(8), 10)
    table = evaluate_over_seeds({"in": [one, one, one]}, [bits_per_byte])
    assert table["se_seeds"][0] == pytest.approx(0, abs=1e-12)
    fit = fit_ratios(-one.log_probability[:, None] / np.log(2), one.n_bytes[:, None], one.names, ["bits"])
    assert table["se"][0] == pytest.approx(fit.bse.iloc[0], rel=1e-6)
    assert table["df"][0] == pytest.approx(9, rel=1e-6)
