"""Sampling against the enumerated marginal law, and features against the back-end."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eeqs.engine.errors import DataError
from eeqs.llm import PerturbedLM, ToyTransformer
from eeqs.llm.evaluation import Sampling, generate, last_state, mean_state, sequence_features
from eeqs.llm.evaluation.generation import keep_top_p
from eeqs.marginal import Gaussian, Identity, single_draw

V, D = 7, 8


def _model(scale: float | None = 0.5, seed: int = 0) -> PerturbedLM:
    toy = ToyTransformer(V, D, context=24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        toy.tokens.weight.mul_(2)
    perturbation = Identity(D) if scale is None else Gaussian(D, log_scale=float(np.log(scale)))
    return PerturbedLM(toy, perturbation, single_draw, draws=1)


def _counts(texts: list[torch.Tensor]) -> np.ndarray:
    return np.bincount([int(one[-1]) for one in texts], minlength=V)


PROMPT = torch.tensor([1, 4, 2])


def test_tokens_follow_the_marginal_law_and_not_that_of_the_exact_prefix():
    model = _model(1.5)
    law = model.log_probabilities(PROMPT[None], draws=20_000)[0, -1].exp().numpy()
    counts = _counts(generate(model, [PROMPT] * 3000, Sampling(1), batch_size=500))
    # False alarm in one of 10,000; the law's own Monte Carlo error is far smaller than that of the counts.
    assert stats.chisquare(counts, 3000 * law / law.sum()).pvalue > 1e-4
    # Planted error: the law without the perturbation.
    exact = _model(None).log_probabilities(PROMPT[None])[0, -1].exp().numpy()
    assert stats.chisquare(counts, 3000 * exact / exact.sum()).pvalue < 1e-6


def test_the_second_token_follows_the_law_given_the_first():
    model = _model(None)
    texts = generate(model, [PROMPT] * 3000, Sampling(2), batch_size=500)
    first = max(range(V), key=[int(one[0]) for one in texts].count)
    counts = _counts([one for one in texts if int(one[0]) == first])
    law = model.log_probabilities(torch.cat([PROMPT, torch.tensor([first])])[None])[0, -1].exp().numpy()
    assert stats.chisquare(counts, counts.sum() * law / law.sum()).pvalue > 1e-4


@pytest.mark.parametrize(("temperature", "top_p"), [(0.5, 1.0), (2.0, 1.0), (1.0, 0.9)])
def test_temperature_and_top_p(temperature, top_p):
    model = _model(None)
    law = model.log_probabilities(PROMPT[None])[0, -1].exp().numpy() ** (1 / temperature)
    law /= law.sum()
    order = np.argsort(-law)
    kept = order[: int(np.searchsorted(law[order].cumsum(), top_p - 1e-12)) + 1] if top_p < 1 else order
    expected = np.zeros(V)
    expected[kept] = law[kept] / law[kept].sum()
    assert 1 < len(kept) < V or top_p == 1
    counts = _counts(generate(model, [PROMPT] * 2000, Sampling(1, temperature, top_p), batch_size=500))
    assert counts[expected == 0].sum() == 0
    assert stats.chisquare(counts[kept], 2000 * expected[kept]).pvalue > 1e-4


def test_temperature_zero_takes_the_most_probable_token_every_time():
    model = _model(None)
    (text,) = generate(model, [PROMPT], Sampling(5, temperature=0))
    prefix = PROMPT
    for token in text:
        assert int(token) == int(model.log_probabilities(prefix[None])[0, -1].argmax())
        prefix = torch.cat([prefix, token[None]])


def test_a_text_depends_on_seed_and_place_only():
    model, generator = _model(), torch.Generator().manual_seed(1)
    prompts = [torch.randint(V, (length,), generator=generator) for length in (3, 5, 3, 1, 5, 3)]
    texts = generate(model, prompts, Sampling(6), seed=2)
    for other in (
        generate(model, prompts, Sampling(6), seed=2, batch_size=1),
        generate(model, prompts, Sampling(6), seed=2),
    ):
        for one, two in zip(texts, other, strict=True):
            torch.testing.assert_close(one, two)
    changed = generate(model, prompts, Sampling(6), seed=3)
    assert any(not torch.equal(one, two) for one, two in zip(texts, changed, strict=True))
    # Equal prompts have streams of their own.
    assert len({tuple(one.tolist()) for one in generate(model, [PROMPT] * 10, Sampling(8))}) > 5


def test_the_stop_token_ends_a_text_and_leaves_the_others_alone():
    model, prompts = _model(), [PROMPT] * 30
    free, stopped = generate(model, prompts, Sampling(8)), generate(model, prompts, Sampling(8, stop=0))
    assert any(len(one) < 8 for one in stopped)
    for whole, cut in zip(free, stopped, strict=True):
        at = (whole == 0).nonzero()[:, 0].tolist()
        torch.testing.assert_close(cut, whole[: at[0]] if at else whole)


def test_the_model_keeps_its_mode_and_its_step():
    model = _model().train()
    before = int(model.step)
    generate(model, [PROMPT], Sampling(2, draws=3))
    assert model.training
    assert int(model.step) == before


@given(st.integers(0, 10_000), st.floats(0.01, 1))
def test_top_p_keeps_the_fewest_tokens_that_suffice(seed, top_p):
    law = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(9)))
    kept = keep_top_p(law, top_p)
    chosen = law[kept > 0]
    assert chosen.sum() >= top_p - 1e-9
    assert chosen.sum() - chosen.min() < top_p + 1e-9
    torch.testing.assert_close(kept[kept > 0], chosen)
    if (kept == 0).any():
        assert chosen.min() >= law[kept == 0].max()


def test_bad_input_is_named():
    model = _model()
    with pytest.raises(DataError, match="prompt 1 has shape"):
        generate(model, [PROMPT, PROMPT[:0]], Sampling(1))
    with pytest.raises(ValueError, match=r"25 positions; this model takes 24"):
        generate(model, [PROMPT], Sampling(40))
    for options in (
        {"length": 0},
        {"length": 1, "temperature": -1},
        {"length": 1, "top_p": 0},
        {"length": 1, "draws": 0},
    ):
        with pytest.raises(ValueError, match=r"pass|at least"):
            Sampling(**options)
    with pytest.raises(ValueError, match="batch_size is 0"):
        generate(model, [PROMPT], Sampling(1), batch_size=0)
    with torch.no_grad():
        model.backend.tokens.weight[0] = torch.nan
    with pytest.raises(DataError, match="not finite"):
        generate(model, [PROMPT], Sampling(1))


def test_features_are_the_hidden_states_whatever_the_padding():
    toy, generator = _model().backend, torch.Generator().manual_seed(3)
    texts = [torch.randint(V, (length,), generator=generator) for length in (4, 9, 1, 6)]
    states = [toy.hidden(toy.embed(one[None]))[0].detach().numpy() for one in texts]
    for pooling, reduce in ((last_state, lambda s: s[-1]), (mean_state, lambda s: s.mean(axis=0))):
        for size in (1, 3, 16):
            found = sequence_features(toy, texts, pooling=pooling, batch_size=size)
            np.testing.assert_allclose(found, np.stack([reduce(one) for one in states]), rtol=1e-10, atol=1e-12)
    with pytest.raises(DataError, match="sequence 1 has shape"):
        sequence_features(toy, [texts[0], texts[0][:0]])
    with pytest.raises(ValueError, match="batch_size is 0"):
        sequence_features(toy, texts, batch_size=0)
    with pytest.raises(DataError, match="no sequences"):
        sequence_features(toy, [])
