import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import log_softmax

from eeqs.marginal import Flow, Gaussian, Identity, LogLinear, Marginal, PerToken, QuadraticSoftmax, Softmax, exact


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@pytest.fixture
def model():
    kernel = QuadraticSoftmax(2 * normal(4, 2, seed=1), 0.3 * normal(4, 2, seed=2)).requires_grad_(False)
    return Marginal(LogLinear(2, bias=[-0.3, -0.7], weight=0.4, depends_on=[[True, False], [False, False]]), kernel)


def test_log_prob_is_the_kernel_at_each_perturbed_embedding(model):
    x, z = normal(5, 2), normal(5, 3, 2, seed=3)
    log_p = model.log_prob(x, z)
    assert log_p.shape == (3, 5, 4)
    for k in range(3):
        expected = model.kernel(model.perturbation(x, z[:, k]))
        torch.testing.assert_close(log_p[k], expected, rtol=1e-13, atol=1e-13)


def test_theta_argument_equals_a_model_that_holds_it(model):
    x, z, theta = normal(5, 2), normal(5, 3, 2, seed=3), model.theta + 0.3
    moved = model.with_theta(theta)
    assert torch.equal(model.log_prob(x, z, theta), moved.log_prob(x, z))
    assert torch.equal(model.predict(x, nodes=5, theta=theta), moved.predict(x, nodes=5))
    assert torch.equal(model.simulate(x, generator(4), theta), moved.simulate(x, generator(4)))


def test_quadrature_agrees_with_adaptive_integration():
    """One latent dimension: scipy integrates p(y | x + s z) phi(z) to 1e-10."""
    weight = np.array([[2.0], [-1.0], [0.5]])
    scale, x = 0.8, 0.3

    def probability(v):
        def integrand(z):
            return np.exp(log_softmax(weight[:, 0] * (x + scale * z))[v]) * stats.norm.pdf(z)

        return integrate.quad(integrand, -12, 12, epsabs=1e-12)[0]

    model = Marginal(Gaussian(1, math.log(scale)), Softmax(torch.from_numpy(weight)))
    prefix = torch.tensor([[x]], dtype=torch.float64)
    expected = np.array([probability(v) for v in range(3)])
    np.testing.assert_allclose(model.predict(prefix, nodes=60)[0].numpy(), expected, rtol=1e-7)
    for v in range(3):
        loss = model.loss(exact(60), prefix, torch.tensor([v]))
        assert abs(float(loss.detach()) + math.log(expected[v])) < 1e-7


def test_predict_averages_probabilities_and_not_logits(model):
    x = normal(3, 2)
    truth = model.predict(x, nodes=40)
    draws = 20_000
    mean = model.predict(x, draws=draws, generator=generator(5))
    error = (truth * (1 - truth) / draws).sqrt()  # the variance of p is at most q (1 - q)
    assert ((mean - truth).abs() < 4 * error).all()
    torch.testing.assert_close(mean.sum(1), torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)
    of_logits = model.log_prob(x, normal(3, 5000, 2, seed=6)).mean(0).softmax(-1)
    assert ((of_logits - truth).abs() > 20 * error).any()


def test_simulate_follows_predict(model):
    cells, repeats = normal(3, 2), 20_000
    y = model.simulate(cells.repeat_interleave(repeats, 0), generator(7)).reshape(3, repeats)
    assert y.dtype == torch.int64
    counts = torch.stack([row.bincount(minlength=4) for row in y]).numpy()
    expected = repeats * model.predict(cells, nodes=40).numpy()
    assert stats.chisquare(counts, expected, axis=1).pvalue.min() > 0.001
    without_noise = repeats * model.kernel(cells).exp().detach().numpy()
    assert np.abs(counts - without_noise).max() > 10 * repeats**0.5


def test_sample_is_a_data_set_with_draws_independent_of_the_response(model):
    x = normal(50, 2)
    data = model.sample(x, 4, generator(8))
    assert {name: tuple(leaf.shape) for name, leaf in data.items()} == {"x": (50, 2), "y": (50,), "z": (50, 4, 2)}
    assert data["x"] is x
    again = model.sample(x, 4, generator(8))
    assert all(torch.equal(data[name], again[name]) for name in data)
    # The same seed gives the same responses however many draws follow.
    assert torch.equal(model.sample(x, 2, generator(8))["y"], data["y"])


def test_identity_is_the_plain_kernel():
    model = Marginal(Identity(2), Softmax(normal(4, 2)))
    x = normal(5, 2, seed=1)
    expected = model.kernel(x).exp()
    torch.testing.assert_close(model.predict(x, nodes=7), expected)
    torch.testing.assert_close(model.predict(x, draws=3, generator=generator()), expected)
    assert model.log_prob(x, torch.empty(5, 3, 0, dtype=torch.float64)).shape == (3, 5, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(model, dtype):
    low = model.with_theta(model.theta).to(dtype)
    x, z = normal(5, 2), normal(5, 3, 2, seed=3)
    log_p = low.log_prob(x.to(dtype), z.to(dtype))
    assert log_p.dtype == dtype
    # Logits of size up to about 50 in a format with relative spacing eps.
    assert (log_p.double() - model.log_prob(x, z)).abs().max() < 200 * torch.finfo(dtype).eps
    assert low.simulate(x.to(dtype), generator()).shape == (5,)


def test_parts_are_checked():
    kernel = Softmax(normal(4, 2))
    with pytest.raises(TypeError, match="perturbation is a Linear"):
        Marginal(torch.nn.Linear(2, 2), kernel)
    with pytest.raises(TypeError, match="kernel is a function"):
        Marginal(Gaussian(2), lambda e: e)
    with pytest.raises(ValueError, match="dim 3 but the kernel 2"):
        Marginal(Gaussian(3), kernel)
    for family in (PerToken(2, 4), Flow(2, generator=generator(), sequence=True)):
        with pytest.raises(ValueError, match=f"{type(family).__name__} reads positions of a sequence"):
            Marginal(family, kernel)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m.log_prob(normal(5, 3), normal(5, 3, 2)),
            r'"prefix" have shape \(5, 3\); the model needs \(n, 2\)',
        ),
        (lambda m: m.log_prob(normal(5), normal(5, 3, 2)), r'"prefix" have shape \(5,\)'),
        (
            lambda m: m.log_prob(normal(5, 2), normal(5, 3, 1)),
            r'"z" have shape \(5, 3, 1\); the model needs \(5, 3, 2\)',
        ),
        (lambda m: m.log_prob(normal(5, 2), normal(4, 3, 2)), r"the model needs \(5, 3, 2\)"),
        (lambda m: m.log_prob(normal(5, 2), normal(5)), r"the model needs \(5, K, 2\)"),
        (lambda m: m.predict(normal(5, 2)), "either draws with a generator, or nodes"),
        (lambda m: m.predict(normal(5, 2), draws=3), "either draws with a generator, or nodes"),
        (lambda m: m.predict(normal(5, 2), draws=0, generator=generator()), "draws is 0"),
        (lambda m: m.predict(normal(5, 2), draws=2, nodes=2, generator=generator()), "either draws"),
        (lambda m: m.simulate(normal(5, 3), generator()), "the model needs"),
    ],
)
def test_bad_input_names_the_offender(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)
