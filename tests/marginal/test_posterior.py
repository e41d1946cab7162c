"""The score by rejection: accepted draws follow the posterior, and Fisher's and Louis' identities hold everywhere."""

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

import eeqs
from eeqs.marginal import Gaussian, Identity, Marginal, QuadraticSoftmax, Softmax, exact
from eeqs.marginal.kernels import LinearGaussian
from eeqs.marginal.laws import RADEMACHER
from eeqs.marginal.random_cost import posterior, posterior_information, rejection
from eeqs.marginal.random_cost import score as random_cost
from simulations.designs.frozen_kernel import FrozenKernel

# Standard errors at which a mean is rejected: a false alarm has probability 7e-6 each.
ALARM = 4.5
# Level of a chi-square test.
LEVEL = 1e-5
SHIFTS = (0.0, -0.6, 0.5)
N = 20_000


class CoinNoise(Gaussian):
    """Noise of two values a coordinate: with d = 2 the posterior has four atoms."""

    latent_law = RADEMACHER


def coin_model(V=4):
    generator = torch.Generator().manual_seed(5)
    weight, square = (torch.randn(V, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    return Marginal(
        CoinNoise(2, log_scale=(-0.1, 0.2)), QuadraticSoftmax(1.5 * weight, 0.3 * square).requires_grad_(False)
    )


def copies(n, y=1):
    """Observations (n, 2), all the same, so that their draws share one posterior."""
    return torch.tensor([[0.3, -0.7]], dtype=torch.float64).expand(n, 2), torch.full((n,), y)


def chi_square(counts, probability):
    return stats.chisquare(counts, np.asarray(probability) * np.sum(counts)).pvalue


def atoms_and_probability(model, y=1):
    """Atoms (4, 2) of the coin law, p(y | atom) (4,), by a formula of its own."""
    x, kernel = np.array([0.3, -0.7]), model.kernel
    atoms = np.array(list(product((-1.0, 1.0), repeat=2)))
    e = x + np.exp(model.perturbation.log_scale.detach().numpy()) * atoms
    logits = e @ kernel.weight.detach().numpy().T + e**2 @ kernel.square_weight.detach().numpy().T
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return atoms, p[:, y]


def law_of_accepted(model, n=6_000, n_accepted=3):
    """P-value that all accepted draws, and the last of them alone, follow the enumerated posterior."""
    x, y = copies(n)
    generator = torch.Generator().manual_seed(11)
    block = next(posterior(n_accepted).sampler(model, x, y, generator, None, 10**6))
    atoms, p = atoms_and_probability(model)
    hit = (block.z.numpy()[:, :, None] == atoms).all(axis=-1)
    assert hit.sum() == n * n_accepted
    return min(chi_square(hit.sum(axis=(0, 1)), p / p.sum()), chi_square(hit[:, -1].sum(axis=0), p / p.sum()))


@pytest.mark.parametrize("V", [2, 4])
def test_accepted_draws_follow_the_posterior(V):
    assert law_of_accepted(coin_model(V)) > LEVEL


def test_accepted_draws_of_one_observation_are_independent():
    x, y = copies(6_000)
    model = coin_model()
    block = next(posterior(2).sampler(model, x, y, torch.Generator().manual_seed(3), None, 10**6))
    code = ((block.z > 0).long() * torch.tensor([2, 1])).sum(dim=-1).numpy()
    table = np.histogram2d(code[:, 0], code[:, 1], bins=4)[0]
    assert stats.chi2_contingency(table).pvalue > LEVEL


def plant_tempered_acceptance(monkeypatch):
    honest = rejection.log_response
    monkeypatch.setattr(rejection, "log_response", lambda *arguments: 0.7 * honest(*arguments))


def test_a_wrong_probability_of_acceptance_is_caught(monkeypatch):
    plant_tempered_acceptance(monkeypatch)
    assert law_of_accepted(coin_model()) < LEVEL


@pytest.mark.parametrize("n_accepted", [1, 2])
def test_tries_are_negative_binomial(n_accepted):
    """Up to the eighth try they are made one at a time; later ones are pooled here."""
    model = coin_model()
    x, y = copies(20_000)
    cost = posterior(n_accepted).loss(model, x, y, torch.Generator().manual_seed(4))[1].numpy()
    q = atoms_and_probability(model)[1].mean()
    expected = stats.nbinom.pmf(np.arange(8 - n_accepted), n_accepted, q)
    counts = [(cost == t).sum() for t in range(n_accepted, 8)]
    assert chi_square([*counts, (cost >= 8).sum()], [*expected, 1 - expected.sum()]) > LEVEL
    assert n_accepted / q <= cost.mean() < 1.25 * n_accepted / q


def frozen(n, shift):
    design = FrozenKernel()
    data = design.sample(n, None, torch.Generator().manual_seed(2))
    return design.model(design.truth + shift), data, torch.Generator().manual_seed(3)


@cache
def exact_scores(shift):
    model, data, _ = frozen(N, shift)
    return model.psi(exact(48))(model.theta, data)


def z_of_error(values, shift):
    """Mean error of N scores in standard errors."""
    error = values.double() - exact_scores(shift)
    return float(error.mean() / error.std() * N**0.5)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("n_accepted", [1, 4])
def test_mean_is_the_exact_score_at_every_parameter(shift, n_accepted):
    model, data, generator = frozen(N, shift)
    values, _ = posterior(n_accepted).score_sample(model, data["x"], data["y"], generator)
    assert abs(z_of_error(values, shift)) < ALARM


def test_a_wrong_probability_of_acceptance_biases_the_score(monkeypatch):
    """Caught at N = 20,000: by its mean, and so without enumeration."""
    model, data, generator = frozen(N, 0.0)
    plant_tempered_acceptance(monkeypatch)
    block = next(posterior().sampler(model, data["x"], data["y"], generator, None, 10**6))
    assert abs(z_of_error(random_cost._score(model, data["x"], data["y"], block, model.theta), 0.0)) > 2 * ALARM


def test_draws_at_other_parameters_bias_the_score():
    """Fisher's identity wants the posterior of the parameters at which the score is evaluated."""
    model, data, generator = frozen(N, 0.0)
    block = next(posterior().sampler(model, data["x"], data["y"], generator, model.theta - 0.5, 10**6))
    assert abs(z_of_error(random_cost._score(model, data["x"], data["y"], block, model.theta), 0.0)) > 2 * ALARM


def test_gradient_of_the_loss_is_minus_the_score_on_the_same_draws():
    model = coin_model()
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = model.simulate(x, torch.Generator().manual_seed(1))
    loss, cost = posterior(2).loss(model, x, y, torch.Generator().manual_seed(2))
    loss.mean().backward()
    values, again = posterior(2).score_sample(model, x, y, torch.Generator().manual_seed(2))
    torch.testing.assert_close(model.perturbation.log_scale.grad, -values.mean(0), rtol=1e-12, atol=1e-14)
    assert torch.equal(cost, again)
    assert loss.shape == cost.shape == (40,)


def test_draws_are_made_at_theta():
    model, data, _ = frozen(500, 0.0)
    theta = model.theta - 0.4
    here = posterior().score_sample(model, data["x"], data["y"], torch.Generator().manual_seed(2), theta)
    there = posterior().score_sample(model.with_theta(theta), data["x"], data["y"], torch.Generator().manual_seed(2))
    elsewhere = posterior().score_sample(model, data["x"], data["y"], torch.Generator().manual_seed(2))
    assert torch.equal(here[0], there[0])
    assert not torch.equal(here[0], elsewhere[0])


def test_the_generator_is_the_only_source_of_randomness():
    model, data, _ = frozen(300, 0.0)
    state = torch.get_rng_state()
    first, second, other = (
        posterior(2).score_sample(model, data["x"], data["y"], torch.Generator().manual_seed(seed))[0]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_small_blocks_keep_every_observation_in_its_place(monkeypatch):
    """Without a latent the score is exact whatever is drawn."""
    kernel = Softmax(torch.tensor([[1.0, 0.5], [-0.3, 0.2], [0.1, 0.0]], dtype=torch.float64))
    model = Marginal(Identity(2), kernel)
    x = torch.randn(37, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = model.simulate(x, torch.Generator().manual_seed(1))
    monkeypatch.setattr(random_cost, "_NUMBERS", 60)
    values, cost = posterior(2).score_sample(model, x, y, torch.Generator().manual_seed(3))
    torch.testing.assert_close(values, model.psi(exact(1))(model.theta, {"x": x, "y": y}), rtol=1e-12, atol=1e-14)
    loss, _ = posterior(2).loss(model, x, y, torch.Generator().manual_seed(3))
    log_q = model.predict(x, nodes=1).log()[torch.arange(37), y]
    torch.testing.assert_close(loss.detach(), -log_q, rtol=1e-12, atol=1e-14)
    assert cost.min() >= 2


def exact_information(model, x, y, theta):
    def loss(b):
        z, log_weight = model.quadrature(64, x)
        log_p = model.evaluate(x, z[None], b)[:, torch.arange(len(y)), y]
        return -(log_p + log_weight[:, None]).logsumexp(dim=0).mean()

    return torch.func.hessian(loss)(theta)


@pytest.mark.parametrize(("shift", "n_accepted"), [(0.0, 2), (0.5, 5)])
def test_information_is_the_exact_hessian_on_average(shift, n_accepted):
    """Over 40 replicates, t tests of the three entries at 4.5 standard errors."""
    model = coin_model()
    theta = model.theta + shift
    x = torch.randn(150, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = model.simulate(x, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    found = torch.stack(
        [posterior_information(model, x, y, generator, n_accepted=n_accepted, theta=theta) for _ in range(40)]
    )
    assert torch.equal(found, found.mT)
    error = found.mean(0) - exact_information(model, x, y, theta)
    assert bool((error.abs() < ALARM * found.std(0) / 40**0.5).all())


def test_information_without_the_missing_part_is_caught(monkeypatch):
    model, data, generator = frozen(4_000, 0.0)
    arguments = (data["x"], data["y"])
    exact_value = float(exact_information(model, *arguments, model.theta))

    def z():
        found = torch.stack([posterior_information(model, *arguments, generator)[0, 0] for _ in range(20)])
        return abs(float((found.mean() - exact_value) / found.std() * 20**0.5))

    assert z() < ALARM
    monkeypatch.setattr(rejection, "directional", lambda f, b: (f(b), torch.zeros(1, *f(b).shape)))
    assert z() > 10 * ALARM


def test_a_response_too_rare_is_named_with_its_probability():
    model = Marginal(Gaussian(1, log_scale=-3.0), Softmax(torch.tensor([[0.0], [1.0]], dtype=torch.float64)))
    x = torch.tensor([[0.0], [-20.0], [-900.0], [0.5]], dtype=torch.float64)
    y = torch.tensor([1, 1, 1, 0])
    # The probability of class 1 at x = -900 is about e^-900 = 10^-390.9, which underflows.
    with pytest.raises(eeqs.DataError, match=r"observation 2 with 0.*10\^-390.*max_tries.*multilevel"):
        posterior(max_tries=2_000).loss(model, x, y, torch.Generator().manual_seed(1))


def test_a_rare_response_is_drawn_all_the_same():
    model = Marginal(Gaussian(1, log_scale=0.0), Softmax(torch.tensor([[0.0], [1.0]], dtype=torch.float64)))
    x, y = torch.full((20, 1), -8.0, dtype=torch.float64), torch.ones(20)
    loss, cost = posterior().loss(model, x, y, torch.Generator().manual_seed(1))
    q = float(model.predict(x[:1], nodes=64)[0, 1])
    # The mean of 20 geometric variables is within a factor of 3 of its expectation but for 1e-5.
    assert 1 / 3 < float(cost.double().mean()) * q < 3
    assert bool(torch.isfinite(loss).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_of_the_embeddings_is_kept(dtype):
    model, data, generator = frozen(200, 0.0)
    model = model.to(dtype)
    x = data["x"].to(dtype)
    loss, cost = posterior(2).loss(model, x, data["y"], generator)
    values, _ = posterior(2).score_sample(model, x, data["y"], generator)
    information = posterior_information(model, x, data["y"], generator)
    assert loss.dtype == dtype
    assert cost.dtype == torch.int64
    assert all(bool(torch.isfinite(found).all()) for found in (loss, values, information))


def test_mean_in_float32_is_the_exact_score_too():
    model, data, generator = frozen(N, 0.0)
    values, _ = posterior().score_sample(model.to(torch.float32), data["x"].float(), data["y"], generator)
    assert abs(z_of_error(values, 0.0)) < ALARM


def test_what_does_not_fit_is_refused():
    model, generator = coin_model(), torch.Generator().manual_seed(1)
    x, y = copies(3)
    score = posterior()
    with pytest.raises(ValueError, match="n_accepted is 0 and max_tries"):
        posterior(0)
    with pytest.raises(ValueError, match="n_accepted is 5 and max_tries 4"):
        posterior(5, max_tries=4)
    with pytest.raises(TypeError, match="generator is a NoneType"):
        score.loss(model, x, y, None)
    with pytest.raises(eeqs.DataError, match=r"shape \(3, 1\)"):
        score.loss(model, x[:, :1], y, generator)
    with pytest.raises(eeqs.DataError, match=r"outside the classes 0..3, the first is 4"):
        score.loss(model, x, y + 3, generator)
    with pytest.raises(eeqs.DataError, match=r"y has shape \(0,\)"):
        score.loss(model, x[:0], y[:0], generator)
    with pytest.raises(ValueError, match="theta has shape"):
        score.score_sample(model, x, y, generator, torch.zeros(5))
    with pytest.raises(ValueError, match="no parameter of the model is learnable"):
        score.score_sample(coin_model().requires_grad_(False), x, y, generator)
    with pytest.raises(ValueError, match="n_accepted is 1; a variance"):
        posterior_information(model, x, y, generator, n_accepted=1)
    continuous = Marginal(Gaussian(2), LinearGaussian(torch.ones(2, dtype=torch.float64)))
    with pytest.raises(ValueError, match=r"posterior needs probabilities.*LinearGaussian is continuous.*energy"):
        score.loss(continuous, x, y, generator)
