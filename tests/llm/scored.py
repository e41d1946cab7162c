"""Simulated sums over the tokens of documents, for the tests of evaluation."""

from dataclasses import fields, replace

import numpy as np

from eeqs.llm.evaluation.document_scores import BINS, DocumentScores


def scored(
    rng: np.random.Generator, count: int = 20, *, overconfidence: float = 0.1, most: int = 60, name: str = "d"
) -> DocumentScores:
    """Documents of 5 to ``most`` tokens that share an effect within a document."""
    n_tokens = rng.integers(5, most, count)
    of = np.repeat(np.arange(count), n_tokens)
    effect = rng.normal(0, 0.3, count)[of]
    confidence = rng.uniform(0.3, 0.95, len(of))
    correct = rng.uniform(size=len(of)) < (confidence - overconfidence + 0.1 * effect)
    log_p = -np.abs(rng.normal(2, 0.5, len(of)) + effect)
    bins = np.zeros((3, count, BINS))
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)
    for place, values in enumerate((np.ones(len(of)), correct, confidence)):
        np.add.at(bins[place], (of, bin_of), values)
    sums = [np.bincount(of, values, count) for values in (log_p, np.ones(len(of)), correct)]
    n_bytes = (n_tokens * 4 + rng.integers(0, 5, count)).astype(float)
    names = tuple(f"{name}{i}" for i in range(count))
    return DocumentScores(names, sums[0], sums[1], n_bytes, sums[2], *bins)


def shifted(scores: DocumentScores, shift: float | np.ndarray) -> DocumentScores:
    """The same documents with ``shift`` added to the log-probability of every token."""
    return replace(scores, log_probability=scores.log_probability + shift * scores.n_tokens)


def taken(scores: DocumentScores, index: np.ndarray, names: tuple[str, ...] | None = None) -> DocumentScores:
    """Documents by index, with repetition if ``names`` are given."""
    arrays = [getattr(scores, field.name)[index] for field in fields(scores)[1:]]
    return DocumentScores(names or tuple(scores.names[i] for i in index), *arrays)
