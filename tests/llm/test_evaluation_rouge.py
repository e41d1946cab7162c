"""ROUGE-1 against worked examples, and its clustered mean against statsmodels."""

from collections import Counter

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from eeqs.engine.errors import DataError
from eeqs.llm.evaluation import rouge_1, rouge_1_mean
from eeqs.llm.evaluation.rouge import unigrams


def _one(candidate: str, reference: str) -> tuple[float, ...]:
    return tuple(rouge_1([candidate], [reference], ["a"]).iloc[0, 1:])


@pytest.mark.parametrize(
    ("candidate", "reference", "expected"),
    [
        # Lin (2004), section 3: three of the four words of the reference, and of the candidate.
        ("police kill the gunman", "police killed the gunman", (0.75, 0.75, 0.75)),
        ("the the the", "the cat", (1 / 3, 1 / 2, 0.4)),
        ("testing one two", "testing", (1 / 3, 1.0, 0.5)),
        ("A b-c 1,000!", "a B c 1 000", (1.0, 1.0, 1.0)),
        ("", "something", (0.0, 0.0, 0.0)),
        ("something", "...", (0.0, 0.0, 0.0)),
    ],
)
def test_worked_examples(candidate, reference, expected):
    assert _one(candidate, reference) == pytest.approx(expected)


def test_words_are_not_stemmed_and_only_ascii():
    assert unigrams("Übung macht runs, Runs") == Counter({"runs": 2, "bung": 1, "macht": 1})


@given(st.lists(st.sampled_from("abcde"), max_size=12), st.lists(st.sampled_from("abcde"), max_size=12), st.randoms())
def test_exchanging_the_texts_exchanges_precision_and_recall_and_order_does_not_matter(first, second, random):
    one, other = " ".join(first), " ".join(second)
    precision, recall, f1 = _one(one, other)
    assert _one(other, one) == pytest.approx((recall, precision, f1))
    random.shuffle(first)
    assert _one(" ".join(first), other) == (precision, recall, f1)
    assert max(precision, recall) <= 1
    assert min(precision, recall) - 1e-12 <= f1 <= max(precision, recall) + 1e-12


def test_means_are_clustered_by_document():
    rng = np.random.default_rng(0)
    words = np.array(list("abcdefgh"))
    names = [f"d{i}" for i in range(12) for _ in range(3)]
    references = [" ".join(rng.choice(words, 6)) for _ in range(12) for _ in range(1)]
    references = [one for one in references for _ in range(3)]
    candidates = [" ".join(rng.choice(words, 5)) for _ in names]
    table = rouge_1(candidates, references, names)
    found = rouge_1_mean(table)
    assert list(found["measure"]) == ["rouge_1_precision", "rouge_1_recall", "rouge_1_f1"]
    assert (found["n_documents"] == 12).all()
    for row, name in zip(found.itertuples(), ("precision", "recall", "f1"), strict=True):
        y = table[name].to_numpy()
        fit = sm.OLS(y, np.ones_like(y)).fit(
            cov_type="cluster", cov_kwds={"groups": np.repeat(np.arange(12), 3), "use_correction": False}, use_t=True
        )
        # Documents of one size: CR2 is CR0 times G / (G - 1).
        assert (row.estimate, row.se) == pytest.approx((fit.params[0], fit.bse[0] * np.sqrt(12 / 11)), rel=1e-9)
    # Planted error: rows taken for independent have another standard error.
    unclustered = table["f1"].std(ddof=1) / 6
    assert abs(found["se"][2] / unclustered - 1) > 0.02


def test_unequal_lists_are_refused():
    with pytest.raises(DataError, match="2 candidates, 1 references and 2 names"):
        rouge_1(["a", "b"], ["a"], ["x", "y"])
    with pytest.raises(DataError, match="0 candidates"):
        rouge_1([], [], [])
    with pytest.raises(DataError):
        rouge_1_mean(rouge_1(["a"], ["a"], ["x"]))
