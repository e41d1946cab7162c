"""Generation under both latent schemes against the exact law, latents enumerated; the cache; greedy decoding."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

transformers = pytest.importorskip("transformers")

from eeqs.llm.huggingface import PerturbedCausalLM, perturb  # noqa: E402
from eeqs.llm.huggingface.generation import SharedLatents  # noqa: E402
from eeqs.marginal import Contextual, Gaussian, LowRank  # noqa: E402
from eeqs.marginal.laws import RADEMACHER  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
V, D, PROMPT, NEW = 4, 8, 2, 3


def _model(latent: str = "fresh", perturbation: torch.nn.Module | None = None, **options: object) -> PerturbedCausalLM:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.6, pad_token_id=0, bos_token_id=None,
        eos_token_id=None,
    )  # fmt: skip
    language_model = transformers.LlamaForCausalLM(config).eval()
    if perturbation is None:
        perturbation = LowRank(torch.linspace(-0.5, 0.5, D)[:, None])
        perturbation.latent_law = RADEMACHER  # two values a position, so that laws are finite sums
    return perturb(language_model, perturbation, latent=latent, **options).eval()


def _every(model: PerturbedCausalLM, sequence: torch.Tensor) -> torch.Tensor:
    """Probabilities (2^T, T, V) of the next token after every position of one sequence, at all its latents."""
    z = torch.tensor(list(product([-1.0, 1.0], repeat=len(sequence))))[:, :, None]
    family, kernel = model.perturbed.perturbation, model.language_model
    with torch.no_grad():
        embedded = kernel.get_input_embeddings()(sequence)
        return kernel(inputs_embeds=embedded + z @ family.factor.T).logits.double().softmax(-1)


def _law(model: PerturbedCausalLM, prompt: torch.Tensor, latent: str) -> np.ndarray:
    """Probability of every continuation of length NEW, in the order of `product`."""
    law = []
    for tokens in product(range(V), repeat=NEW):
        p = _every(model, torch.cat([prompt, torch.tensor(tokens[:-1])]))
        factors = torch.stack([p[:, PROMPT - 1 + t, y] for t, y in enumerate(tokens)])
        law.append(float(factors.mean(1).prod() if latent == "fresh" else factors.prod(0).mean()))
    return np.array(law)


def _sampled(model: PerturbedCausalLM, prompt: torch.Tensor, n: int) -> np.ndarray:
    torch.manual_seed(1)
    rows = model.generate(prompt.repeat(n, 1), max_new_tokens=NEW, do_sample=True, top_k=0)[:, PROMPT:]
    return np.bincount((rows * torch.tensor([V**2, V, 1])).sum(1).numpy(), minlength=V**NEW)


def _p_value(counts: np.ndarray, law: np.ndarray) -> float:
    """Chi-square test; cells that expect fewer than five are one cell."""
    expected = law * counts.sum()
    rare = expected < 5
    cells = [(counts[~rare], expected[~rare])]
    if rare.any():
        cells.append((counts[rare].sum(keepdims=True), expected[rare].sum(keepdims=True)))
    return float(stats.chisquare(*map(np.concatenate, zip(*cells, strict=True))).pvalue)


def test_sampled_sequences_have_the_law_of_their_scheme_and_not_of_the_other() -> None:
    """Four tests of level 0.001 with fixed seeds; two of them have to reject."""
    prompt = torch.tensor([1, 3])
    laws = {latent: _law(_model(), prompt, latent) for latent in ("fresh", "shared")}
    for latent, law in laws.items():
        assert law.sum() == pytest.approx(1.0, abs=1e-5)
        counts = _sampled(_model(latent), prompt, 5000)
        other = laws["shared" if latent == "fresh" else "fresh"]
        assert _p_value(counts, law) > 1e-3
        assert _p_value(counts, other) < 1e-3


def test_the_first_token_has_one_law_under_both_schemes() -> None:
    prompt = torch.tensor([1, 3])
    fresh, shared = (_law(_model(), prompt, latent).reshape(V, -1).sum(1) for latent in ("fresh", "shared"))
    np.testing.assert_allclose(fresh, shared, rtol=1e-6)


@pytest.mark.parametrize("latent", ["fresh", "shared"])
def test_greedy_tokens_are_those_of_the_exact_mixture_mean(latent: str) -> None:
    """Where the first two are nearer than five standard errors of 1000 draws, either will do."""
    prompt = torch.tensor([1, 3])
    model = _model(latent, inference_draws=1000)
    found = model.generate(prompt[None], max_new_tokens=NEW, do_sample=False)[0]
    weight = torch.ones((), dtype=torch.float64)
    for t in range(PROMPT, PROMPT + NEW):
        p = _every(model, found[:t])
        if latent == "shared" and t > PROMPT:  # latents that made the tokens so far likely weigh more
            seen = [p[:, s - 1, found[s]] for s in range(PROMPT, t)]
            weight = torch.stack(seen).prod(0)
        mean = (p[:, -1] * weight.expand(len(p))[:, None]).sum(0) / weight.expand(len(p)).sum()
        assert float(mean[found[t]]) > float(mean.max()) - 5 * 0.5 * 1000**-0.5


def test_shared_mixture_means_are_the_exact_ones() -> None:
    """The weighted mean over 20 000 draws within five standard errors, whose size is bounded by 1 / sqrt(n_eff)."""
    model, prompt = _model("shared"), torch.tensor([[1, 3]])
    state = SharedLatents(model.perturbed, 20_000)
    sequence = prompt
    for _ in range(NEW):
        found = state.next_token(sequence, None).double().exp()[0]
        p = _every(model, sequence[0])
        likely = [p[:, s - 1, int(sequence[0, s])] for s in range(PROMPT, sequence.shape[1])]
        weight = torch.stack(likely).prod(0) if likely else torch.ones(len(p), dtype=torch.float64)
        exact = (p[:, -1] * weight[:, None]).sum(0) / weight.sum()
        effective = 20_000 * float(weight.mean() ** 2 / weight.square().mean())
        assert float((found - exact).abs().max()) < 5 * 0.5 * effective**-0.5
        sequence = torch.cat([sequence, torch.tensor([[int(exact.argmin())]])], dim=1)


def test_a_token_costs_one_position_under_shared_latents() -> None:
    lengths: dict[str, list[int]] = {}
    for latent in ("fresh", "shared"):
        model = _model(latent)
        seen = lengths[latent] = []
        model.language_model.model.layers[0].register_forward_hook(
            lambda _, args, __, seen=seen: seen.append(args[0].shape[1])
        )
        model.generate(torch.tensor([[1, 3, 2]]), max_new_tokens=4, do_sample=True)
    assert lengths == {"fresh": [3, 4, 5, 6], "shared": [3, 1, 1, 1]}


@pytest.mark.parametrize(
    "family",
    [
        Gaussian(D, log_scale=0.0),
        Contextual(D, generator=torch.Generator().manual_seed(0), sequence=True, log_scale=0.0),
    ],
    ids=["Gaussian", "Contextual of sequences"],
)
def test_the_cache_gives_the_law_of_the_whole_prefix(family: torch.nn.Module) -> None:
    model, sequence = _model("shared", family), torch.tensor([[1, 3, 2, 0, 1]])
    state = SharedLatents(model.perturbed, 3)
    for length in (2, 3, 4, 5):
        state.next_token(sequence[:, :length], None)
    with torch.no_grad():
        hidden = model.perturbed.hidden(sequence, state._z, torch.ones_like(sequence, dtype=torch.bool))
    expected = model.perturbed.backend.logits(hidden[:, :, -1]).detach().log_softmax(-1)
    torch.testing.assert_close(state._last, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("latent", ["fresh", "shared"])
def test_greedy_tokens_do_not_depend_on_the_batch_or_its_padding(latent: str) -> None:
    model = _model(latent, Gaussian(D, log_scale=-0.5))
    short, long = torch.tensor([[1, 3]]), torch.tensor([[2, 3, 1, 1]])
    both = torch.cat([torch.nn.functional.pad(short, (2, 0)), long])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    found = model.generate(both, attention_mask=mask, max_new_tokens=6, do_sample=False)[:, 4:]
    for row, prompt in zip(found, (short, long), strict=True):
        alone = model.generate(prompt, max_new_tokens=6, do_sample=False)[0, prompt.shape[1] :]
        assert torch.equal(row, alone)


def test_seeds_repeat_a_generation_and_settings_of_transformers_apply() -> None:
    for latent in ("fresh", "shared"):
        model = _model(latent)
        first, second, third = (
            (torch.manual_seed(seed), model.generate(
                torch.tensor([[1, 3]]), max_new_tokens=12, do_sample=True, num_return_sequences=5
            ))[1] for seed in (5, 5, 6)
        )  # fmt: skip
        assert first.shape == (5, 14)
        assert torch.equal(first, second)
        assert not torch.equal(first, third)
    searched = _model().generate(torch.tensor([[1, 3]]), max_new_tokens=3, num_beams=2, do_sample=False)
    assert searched.shape == (1, 5)


def test_the_scheme_is_stored(tmp_path) -> None:
    _model("shared").save_pretrained(tmp_path)
    loaded = PerturbedCausalLM.from_pretrained(tmp_path)
    assert loaded.config.latent == "shared"
    prompt = torch.tensor([[1, 3]])
    assert torch.equal(loaded.generate(prompt, max_new_tokens=4), _model("shared").generate(prompt, max_new_tokens=4))


def test_what_cannot_be_generated_is_refused() -> None:
    with pytest.raises(ValueError, match="latent is 'sometimes'; a stored model has one of fresh, shared"):
        _model("sometimes")
    with pytest.raises(ValueError, match="beam search goes back"):
        _model("shared").generate(torch.tensor([[1, 3]]), max_new_tokens=2, num_beams=2)
    state = SharedLatents(_model("shared").perturbed, 1)
    state.next_token(torch.tensor([[1, 3, 2]]), None)
    with pytest.raises(ValueError, match="one token at a time"):
        state.next_token(torch.tensor([[1, 3]]), None)
    reading = Contextual(D, generator=torch.Generator().manual_seed(0), sequence=True)
    with pytest.raises(ValueError, match="reads all earlier positions, also padding"):
        SharedLatents(_model("shared", reading).perturbed, 1).next_token(torch.tensor([[0, 3]]), torch.tensor([[0, 1]]))
