"""The one-sided test that a language model needs no noise: its score, its size and its power."""

import numpy as np
import pytest
import torch
from inference_text import DESIGN, packed
from scipy import stats

import eeqs
from eeqs.llm import PerturbedLM
from eeqs.llm.inference import document_stream, sample_text, zero_noise_test
from eeqs.llm.inference.psi import Text
from eeqs.llm.inference.zero_noise import _window_scores, variance_scores
from eeqs.llm.packing import pack
from eeqs.llm.perturbed import IGNORED
from eeqs.llm.tokens import TokenisedDocument
from eeqs.marginal import Gaussian, iid

KERNEL = DESIGN.model().backend


def scaled(scale: float | list[float]) -> PerturbedLM:
    return PerturbedLM(KERNEL, Gaussian(8, scale=scale)).eval()


def texts(sigma: float, n: int, seed: int, length: int = 10):
    """Rows of n documents made with noise of one scale."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(12, (n, 1), generator=generator)
    ids = sample_text(scaled(sigma), first, length, generator)
    return pack([TokenisedDocument(str(k), own, length) for k, own in enumerate(ids)], length)


def test_the_score_is_half_the_second_derivative_of_p_over_p() -> None:
    """Second differences of the mean of p over the same signs, one token at a time."""
    rows, model, step = packed(4), scaled(0.0), 5e-4
    (columns,) = document_stream(rows, _Signs(), iid(6), seed=0)()
    expected = np.zeros(4)
    for place, (ids, labels, z) in enumerate(zip(columns["input_ids"], columns["labels"], columns["z"], strict=True)):
        embedded = model.backend.embed(ids[None])

        def p(sigma: float, embedded=embedded, ids=ids, z=z) -> torch.Tensor:
            with torch.no_grad():
                hidden = model.backend.hidden(embedded + sigma * z, None, None)
                law = model.backend.logits(hidden).softmax(dim=-1)[:, :-1]
                return law.gather(-1, ids[1:].expand(len(z), -1)[..., None])[..., 0]

        second = (p(step) - 2 * p(0.0) + p(-step)) / step**2
        kept = labels[1:] != IGNORED
        expected[place] = (second / p(0.0) / 2).mean(dim=0)[kept].sum()
    np.testing.assert_allclose(variance_scores(model, rows, draws=6)[:, 0], expected, rtol=1e-2, atol=1e-2)


class _Signs(Gaussian):
    """Reads the same signs as the test does."""

    def __init__(self) -> None:
        super().__init__(8, scale=0.0)
        self.latent_law = eeqs.marginal.RADEMACHER


def test_a_single_draw_has_mean_zero_given_the_prefix() -> None:
    """The mean over all next tokens, weighted by p, is zero up to rounding for every set of signs."""
    model = scaled(0.0)
    prefix = torch.tensor([5, 0, 3])
    with torch.no_grad():
        law = model.backend.logits(model.backend.hidden(model.backend.embed(prefix[None]), None, None))[0, -1]
    p = law.softmax(dim=-1).numpy()
    documents = [TokenisedDocument("one", torch.cat([prefix, torch.tensor([v])]), 1) for v in range(12)]
    scores = [_last_score(model, pack([document], 4)) for document in documents]
    assert abs(float(p @ scores)) < 1e-10 * float(p @ np.abs(scores))


def _last_score(model: PerturbedLM, rows) -> float:
    """Score of the last token under signs that do not depend on it."""
    z = torch.randint(2, (1, 1, 4, 8), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    targets = torch.full((1, 3), IGNORED)
    targets[0, -1] = rows.input_ids[0, -1]
    return float(_window_scores(model, 1, Text(rows.input_ids, targets, z)))


@pytest.fixture(scope="module")
def null_scores() -> np.ndarray:
    """Scores of the variance on 4000 documents without noise."""
    return variance_scores(scaled(0.0), texts(0.0, 4000, 1), draws=4, batch_size=250)


def test_size(null_scores: np.ndarray) -> None:
    """Mean zero within 3.5 standard errors (false alarm 5e-4); 5 % of 50 tests of 80 documents reject, within 4."""
    scores = null_scores[:, 0]
    assert abs(scores.mean()) < 3.5 * scores.std() / len(scores) ** 0.5
    groups = scores.reshape(50, 80)
    z = groups.sum(axis=1) / np.sqrt((groups**2).sum(axis=1))
    rejected = int((z > stats.norm.isf(0.05)).sum())
    low, high = stats.binom.ppf([3e-5, 1 - 3e-5], 50, 0.05)
    assert low <= rejected <= high


def test_power_grows_with_the_noise() -> None:
    pvalues = [
        zero_noise_test(scaled(0.1), texts(sigma, 300, 2), draws=8, batch_size=150).pvalue for sigma in (0.0, 0.6)
    ]
    assert pvalues[0] > 0.01
    assert pvalues[1] < 1e-4


def test_several_scales_are_tested_jointly() -> None:
    rows = texts(0.8, 60, 3)
    found = zero_noise_test(scaled([0.1] * 8), rows, draws=4)
    assert found.restrictions == 8
    assert "chi-bar-square(8)" in found.method
    assert found.pvalue < 0.01


def test_what_is_refused() -> None:
    rows = packed(4)
    with pytest.raises(ValueError, match='this inference is on "scale" alone'):
        zero_noise_test(DESIGN.model(), rows)
    with pytest.raises(eeqs.DataError, match="there is one document"):
        zero_noise_test(scaled(0.1), packed(1))
    with pytest.raises(ValueError, match="batch_size is 0"):
        zero_noise_test(scaled(0.1), rows, batch_size=0)
