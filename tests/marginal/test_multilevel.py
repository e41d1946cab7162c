"""The randomised level: its terms telescope exactly, its mean is the exact score everywhere, its cost has its law."""

import math
from functools import cache, partial
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

import eeqs
from eeqs.marginal import Gaussian, Identity, Marginal, Softmax, exact, plug_in
from eeqs.marginal.kernels import LinearGaussian
from eeqs.marginal.random_cost import multilevel, randomised_level
from eeqs.marginal.random_cost import score as random_cost
from simulations.designs.frozen_kernel import FrozenKernel

# Standard errors at which a mean is rejected: a false alarm has probability 7e-6 each.
ALARM = 4.5
SHIFTS = (0.0, -0.6, 0.5)
N = 20_000
# Log-probabilities of a response under the two values of a fair coin.
ATOMS = np.array([-0.3, -2.5])
honest = randomised_level._debiased_loss


def without_the_probability(log_p, *, base, probability):  # noqa: ARG001 - planted
    return honest(log_p, base=base, probability=1.0)


def with_overlapping_halves(log_p, *, base, probability):
    """Halves that share a draw, where a half has two at least."""
    half = len(log_p) // 2
    shift = 1 if half > 1 else 0
    shared = torch.cat([log_p[:half], log_p[half - shift : 2 * half - shift]])
    return honest(shared, base=base, probability=probability)


def mean_log_mixture(n_draws):
    """E log of the mean of p over n draws of the coin, from the binomial law."""
    heads = np.arange(n_draws + 1)
    with np.errstate(divide="ignore"):
        logs = np.stack([np.log(n_draws - heads) + ATOMS[0], np.log(heads) + ATOMS[1]])
    return float(stats.binom.pmf(heads, n_draws, 0.5) @ (logsumexp(logs, axis=0) - math.log(n_draws)))


def telescoping_error(loss, base, rate, levels=3):
    """Enumerated sum over levels of P(l) E[loss | l], against what the telescoping sum leaves of it."""
    total = 0.0
    for level in range(levels):
        probability = (1 - 2**-rate) * 2 ** (-rate * level)
        flips = torch.tensor(list(product((0, 1), repeat=base * 2 ** (level + 1))))
        total += probability * float(loss(torch.from_numpy(ATOMS)[flips].mT, base=base, probability=probability).mean())
    lowest, last = mean_log_mixture(base), mean_log_mixture(base * 2**levels)
    return abs(total + (1 - 2 ** (-rate * levels)) * lowest + last - lowest)


@pytest.mark.parametrize(("base", "levels"), [(1, 3), (2, 2), (3, 2)])
@pytest.mark.parametrize("rate", [1.2, 1.5])
def test_terms_telescope_by_enumeration(base, levels, rate):
    assert telescoping_error(honest, base, rate, levels) < 1e-12


@pytest.mark.parametrize("planted", [without_the_probability, with_overlapping_halves])
def test_planted_errors_do_not_telescope(planted):
    assert telescoping_error(planted, 1, 1.5) > 1e-3


def test_loss_equals_its_definition():
    log_p = -torch.rand(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    p = log_p.exp().numpy()
    correction = np.log(p.mean(0)) - (np.log(p[:6].mean(0)) + np.log(p[6:].mean(0))) / 2
    expected = -np.mean([np.log(p[j : j + 3].mean(0)) for j in (0, 3, 6, 9)], axis=0) - correction / 0.2
    found = honest(log_p, base=3, probability=0.2)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize("gap", [0.0, 45.0, 800.0, 1e4])
def test_draws_that_agree_on_nothing_stay_finite_with_two_derivatives(gap):
    log_p = torch.tensor([0.0, -gap, -gap, -gap], dtype=torch.float64)[:, None]
    loss = partial(honest, base=1, probability=0.2)

    def gradient(point):
        return torch.func.grad(lambda live: loss(live).sum())(point)

    assert bool(torch.isfinite(loss(log_p)).all())
    assert bool(torch.isfinite(gradient(log_p)).all())
    assert bool(torch.isfinite(torch.func.jvp(gradient, (log_p,), (torch.ones_like(log_p),))[1]).all())


@pytest.mark.parametrize("rate", [1.2, 1.8])
def test_levels_are_geometric(rate):
    level = randomised_level._levels(50_000, rate, torch.Generator().manual_seed(1), torch.device("cpu")).numpy()
    probability = (1 - 2**-rate) * 2.0 ** (-rate * np.arange(5))
    counts = [*(level == np.arange(5)[:, None]).sum(axis=1), (level >= 5).sum()]
    assert level.min() == 0
    assert stats.chisquare(counts, 50_000 * np.append(probability, 1 - probability.sum())).pvalue > 1e-5


def test_an_extreme_uniform_number_gives_a_finite_level(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda n, **_: torch.linspace(0, 1 - 2.0**-53, n, dtype=torch.float64))
    level = randomised_level._levels(3, 1.5, torch.Generator(), torch.device("cpu"))
    assert level.tolist() == [0, 0, 35]


@pytest.mark.parametrize(("base", "rate"), [(1, 1.5), (4, 1.8)])
def test_mean_cost_is_as_stated(base, rate):
    """Costs have no variance, so all but the dearest thousandth are compared: their law is known up to there."""
    model, data, generator = frozen(0.0)
    cost = multilevel(base, rate=rate).loss(model, data["x"], data["y"], generator)[1].numpy() / base
    assert set(np.unique(np.log2(cost))) <= set(range(1, 40))
    top = math.ceil(math.log2(1000) / rate)
    level = np.arange(top)
    expected = (1 - 2**-rate) * float(np.sum(2 ** (-rate * level) * 2.0 ** (level + 1)))
    kept = np.where(cost < 2.0 ** (top + 1), cost, 0)
    assert abs(kept.mean() - expected) < ALARM * kept.std() / N**0.5
    formula = 2 * (1 - 2**-rate) / (1 - 2 ** (1 - rate))
    remainder = (1 - 2**-rate) * float(np.sum(2.0 ** ((1 - rate) * np.arange(top, 3000)) * 2))
    assert expected + remainder == pytest.approx(formula, rel=1e-9)


def frozen(shift):
    design = FrozenKernel()
    data = design.sample(N, None, torch.Generator().manual_seed(2))
    return design.model(design.truth + shift), data, torch.Generator().manual_seed(3)


@cache
def exact_scores(shift):
    model, data, _ = frozen(shift)
    return model.psi(exact(48))(model.theta, data)


def z_of_error(values, shift):
    """Mean error of N scores in standard errors."""
    error = values.double() - exact_scores(shift)
    return float(error.mean() / error.std() * N**0.5)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("base", [4, 8])
def test_mean_is_the_exact_score_at_every_parameter(shift, base):
    model, data, generator = frozen(shift)
    values, _ = multilevel(base).score_sample(model, data["x"], data["y"], generator)
    assert abs(z_of_error(values, shift)) < ALARM


@pytest.mark.parametrize("shift", SHIFTS)
def test_plug_in_at_a_larger_cost_is_caught(shift):
    """The same test rejects plug_in with 20 draws, where multilevel(4) takes 17.7 on average."""
    model, data, generator = frozen(shift)
    values = model.psi(plug_in, draws=20)(model.theta, data | {"z": model.draw(data["x"], 20, generator)})
    assert abs(z_of_error(values, shift)) > 2 * ALARM


@pytest.mark.parametrize("planted", [without_the_probability, with_overlapping_halves])
def test_planted_errors_bias_the_score(planted, monkeypatch):
    monkeypatch.setattr(randomised_level, "_debiased_loss", planted)
    model, data, generator = frozen(0.0)
    values, _ = multilevel(2).score_sample(model, data["x"], data["y"], generator)
    assert abs(z_of_error(values, 0.0)) > ALARM


def test_mean_of_the_loss_is_minus_log_q():
    model, data, generator = frozen(0.5)
    loss, _ = multilevel(4).loss(model, data["x"], data["y"], generator)
    log_q = model.predict(data["x"], nodes=48).log().gather(1, data["y"][:, None])[:, 0]
    error = loss.detach() + log_q
    assert abs(float(error.mean() / error.std() * N**0.5)) < ALARM


def few(dtype=torch.float64):
    model, data, _ = frozen(0.0)
    return model.to(dtype), data["x"][:300].to(dtype), data["y"][:300]


def test_gradient_of_the_loss_is_minus_the_score_on_the_same_draws():
    model, x, y = few()
    loss, cost = multilevel(2).loss(model, x, y, torch.Generator().manual_seed(2))
    loss.mean().backward()
    values, again = multilevel(2).score_sample(model, x, y, torch.Generator().manual_seed(2))
    torch.testing.assert_close(model.perturbation.log_scale.grad, -values.mean(0)[0], rtol=1e-10, atol=1e-12)
    assert torch.equal(cost, again)


def test_the_generator_is_the_only_source_of_randomness():
    model, x, y = few()
    state = torch.get_rng_state()
    first, second, other = (
        multilevel().score_sample(model, x, y, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_draws_do_not_depend_on_theta():
    model, x, y = few()
    theta = model.theta - 0.4
    here = multilevel().score_sample(model, x, y, torch.Generator().manual_seed(2), theta)
    there = multilevel().score_sample(model.with_theta(theta), x, y, torch.Generator().manual_seed(2))
    assert torch.equal(here[0], there[0])


def test_small_blocks_keep_every_observation_in_its_place(monkeypatch):
    """Without a latent all draws agree: the correction is zero and the score exact."""
    model = Marginal(Identity(2), Softmax(torch.tensor([[1.0, 0.5], [-0.3, 0.2], [0.1, 0.0]], dtype=torch.float64)))
    x = torch.randn(37, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = model.simulate(x, torch.Generator().manual_seed(1))
    monkeypatch.setattr(random_cost, "_NUMBERS", 60)
    values, _ = multilevel(2).score_sample(model, x, y, torch.Generator().manual_seed(3))
    torch.testing.assert_close(values, model.psi(exact(1))(model.theta, {"x": x, "y": y}), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_of_the_embeddings_is_kept(dtype):
    model, x, y = few(dtype)
    loss, cost = multilevel().loss(model, x, y, torch.Generator().manual_seed(2))
    assert loss.dtype == dtype
    assert cost.dtype == torch.int64


def test_mean_in_float32_is_the_exact_score_too():
    model, data, generator = frozen(0.0)
    values, _ = multilevel().score_sample(model.to(torch.float32), data["x"].float(), data["y"], generator)
    assert abs(z_of_error(values, 0.0)) < ALARM


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_classes_of_which_one_is_nearly_impossible(dtype):
    """Log-probabilities near -900, whose exponential underflows: a mean over draws of a small scale is near them."""
    model = Marginal(Gaussian(1, log_scale=-3.0), Softmax(torch.tensor([[0.0], [1.0]], dtype=torch.float64))).to(dtype)
    x, y = torch.full((500, 1), -900.0, dtype=dtype), torch.ones(500)
    loss, cost = multilevel().loss(model, x, y, torch.Generator().manual_seed(2))
    values, _ = multilevel().score_sample(model, x, y, torch.Generator().manual_seed(2))
    assert bool(torch.isfinite(loss).all())
    assert bool(torch.isfinite(values).all())
    # log E e^(x + s z) = x + s^2 / 2 there, with s = e^-3 and derivative s^2 in log s.
    if dtype == torch.float64:
        for found, expected in ((-loss.detach(), -900 + math.exp(-6) / 2), (values[:, 0], math.exp(-6))):
            assert abs(float((found.mean() - expected) / found.std() * 500**0.5)) < ALARM
    assert int(cost.min()) == 8


@pytest.mark.parametrize("rate", [1.0, 2.0, 0.5, math.nan])
def test_a_rate_without_finite_cost_and_variance_is_refused(rate):
    with pytest.raises(ValueError, match=r"rate is .*pass 1 < rate < 2"):
        multilevel(rate=rate)


def test_what_does_not_fit_is_refused():
    model, x, y = few()
    generator = torch.Generator().manual_seed(1)
    with pytest.raises(ValueError, match="base is 0"):
        multilevel(0)
    with pytest.raises(TypeError, match="generator is a int"):
        multilevel().loss(model, x, y, 1)
    with pytest.raises(eeqs.DataError, match=r"outside the classes 0\.\.5"):
        multilevel().loss(model, x, y + 6, generator)
    continuous = Marginal(Gaussian(1), LinearGaussian(torch.ones(1, dtype=torch.float64)))
    with pytest.raises(ValueError, match=r"multilevel needs probabilities.*LinearGaussian is continuous"):
        multilevel().loss(continuous, x, y, generator)
