"""Kernels on classes: tails to the last digits, independent fits, estimates of noise, and bad arguments."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import statsmodels.api as sm
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.miscmodels.ordinal_model import OrderedModel
from torch.func import functional_call, grad, jacfwd, jacrev

import eeqs
from eeqs.marginal import Gaussian, Identity, Marginal, cross_fitted, exact
from eeqs.marginal.kernels import MLP, Ordered, Poisson, QuadraticSoftmax, Softmax
from eeqs.marginal.network import Network
from eeqs.marginal.poisson_tail import log_poisson_tail


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


# Softmax


@given(shift=st.floats(-1e3, 1e3))
@pytest.mark.parametrize(
    "kernel",
    [Softmax(normal(5, 3, seed=1), normal(5)), QuadraticSoftmax(normal(5, 3, seed=1), normal(5, 3), normal(5))],
    ids=["softmax", "quadratic"],
)
def test_a_shift_of_all_logits_changes_nothing(kernel, shift):
    e = normal(7, 3, seed=4)
    shifted = functional_call(kernel, {"bias": kernel.bias + shift}, (e,))
    # Logits of size |shift| lose log2(|shift|) bits.
    torch.testing.assert_close(shifted, kernel(e), rtol=0, atol=1e-14 * (10 + abs(shift)))


@pytest.mark.parametrize("make", [Softmax, lambda w, *b: QuadraticSoftmax(w, w / 2, *b)])
def test_no_bias_means_zero_bias(make):
    weight, e = normal(5, 3, seed=1), normal(7, 3, seed=4)
    plain, zero = make(weight), make(weight, torch.zeros(5, dtype=torch.float64))
    assert "bias" not in dict(plain.named_parameters())
    torch.testing.assert_close(plain(e), zero(e), rtol=0, atol=0)


# Networks


def test_random_networks_have_the_stated_law_and_depend_on_the_generator_only():
    network = Network.random((400, 300, 2), generator(1))
    first = network.weights[0]
    # Standard errors of a mean and a variance of 120 000 entries, times 4: a false alarm in 8000.
    assert abs(first.mean().item()) < 4 / math.sqrt(400 * first.numel())
    assert abs(400 * first.var().item() - 1) < 4 * math.sqrt(2 / first.numel())
    assert all(bool((bias == 0).all()) for bias in network.biases)
    assert torch.equal(first, Network.random((400, 300, 2), generator(1)).weights[0])
    assert not torch.equal(first, Network.random((400, 300, 2), generator(2)).weights[0])


def test_a_network_without_hidden_layers_is_a_softmax():
    weight, bias, e = normal(5, 3, seed=1), normal(5, seed=2), normal(7, 3, seed=4)
    torch.testing.assert_close(MLP(Network([weight], [bias]))(e), Softmax(weight, bias)(e))


def test_parameters_of_a_network_are_named():
    model = Marginal(Gaussian(2, 0.0), MLP(Network.random((2, 1, 2), generator())))
    assert model.names == (
        "log_scale",
        "kernel.network.weights.0[0,0]",
        "kernel.network.weights.0[0,1]",
        "kernel.network.weights.1[0,0]",
        "kernel.network.weights.1[1,0]",
        "kernel.network.biases.0[0]",
        "kernel.network.biases.1[0]",
        "kernel.network.biases.1[1]",
    )


# Ordered classes


def test_thresholds_are_kept():
    thresholds = number([-1.5, -1.4, 0.3, 2.0])
    kernel = Ordered(normal(3), thresholds)
    torch.testing.assert_close(kernel.thresholds, thresholds)
    assert [name for name, _ in kernel.named_parameters()] == ["weight", "first", "log_gaps"]


@given(index=st.floats(-700, 700), first=st.floats(-5, 5), log_gap=st.floats(-20, 5))
def test_log_probabilities_and_slopes_keep_their_digits_in_both_tails(index, first, log_gap):
    kernel = Ordered(number([1.0]), number([0.0, 1.0]))

    def middle(t):
        values = {"weight": number([1.0]), "first": t[1], "log_gaps": t[2:]}
        return functional_call(kernel, values, (t[:1],))[1]

    def reference(i, f, g):
        cdf = [1 / (1 + mpmath.exp(i - cut)) for cut in (f, f + mpmath.exp(g))]
        return mpmath.log(cdf[1] - cdf[0])

    point = (index, first, log_gap)
    with mpmath.workdps(700):
        value = float(reference(*map(mpmath.mpf, point)))
        slopes = [
            float(mpmath.diff(reference, tuple(map(mpmath.mpf, point)), order, h=mpmath.mpf(10) ** -50))
            for order in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
        ]
    t = number(point)
    np.testing.assert_allclose(middle(t), value, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(grad(middle)(t), slopes, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("log_gap", [-1e3, -100.0, -40.0, -39.9, 10.0])
def test_narrow_and_wide_classes_stay_finite(log_gap):
    kernel = Ordered(number([1.0]), number([0.0, 1.0])).requires_grad_(False)

    def middle(g):
        return functional_call(kernel, {"log_gaps": g[None]}, (number([0.5]),))[1]

    exact_value = log_gap + float(mpmath.log(mpmath.diff(lambda c: 1 / (1 + mpmath.exp(0.5 - c)), 0)))
    if log_gap < 0:
        np.testing.assert_allclose(middle(number(log_gap)), exact_value, rtol=1e-13)
        np.testing.assert_allclose(grad(middle)(number(log_gap)), 1.0, rtol=1e-13)
    assert math.isfinite(jacfwd(grad(middle))(number(log_gap)).item())


def test_ordered_fit_equals_that_of_statsmodels():
    truth = Marginal(Identity(2), Ordered(number([0.8, -0.5]), number([-1.0, 0.2, 1.5])))
    data = truth.sample(normal(400, 2, seed=1), 1, generator(2))
    ours = eeqs.estimate(truth.psi(exact(1)), data)
    model = OrderedModel(data["y"].numpy(), data["x"].numpy(), distr="logit")
    theirs = model.fit(method="newton", disp=False, tol=1e-10)
    # Their parameters are the same: slopes, first threshold, log-gaps.
    np.testing.assert_allclose(ours.params, theirs.params, rtol=1e-6, atol=1e-7)
    at = ours.params.to_numpy() + 0.1
    log_p = truth.log_prob(data["x"], torch.zeros(400, 1, 0, dtype=torch.float64), torch.from_numpy(at))[0]
    np.testing.assert_allclose(log_p[torch.arange(400), data["y"]].sum(), model.loglike(at), rtol=1e-12)


# Counts

LOG10_RATES = (-300, -100, -30, -10, -5, -3, -1, -0.3, 0.0, 0.3, 0.69, 0.7, 0.71, 1.0, 1.5, 1.79, 1.8, 1.9, 2.2, 2.6)


def tail_in_mpmath(rate, count):
    """Log of the tail, and its first two derivatives in log-rate."""
    series = mpmath.hyp1f1(1, count + 1, rate)
    mass = mpmath.exp(count * mpmath.log(rate) - rate) / mpmath.factorial(count)
    slope = count / series
    return mpmath.log(mass * series), slope, slope * (count - rate - slope)


@pytest.mark.parametrize("count", [1, 2, 5, 63])
def test_tail_and_two_derivatives_in_every_mode_keep_their_digits(count):
    points = [10.0**power for power in LOG10_RATES]

    def tail(t):
        return log_poisson_tail(t, count)

    with mpmath.workdps(420):
        log_rates = [float(mpmath.log(rate)) for rate in points]
        expected = np.array(
            [[float(x) for x in tail_in_mpmath(mpmath.exp(mpmath.mpf(t)), count)] for t in log_rates], dtype=float
        ).T
    t = number(log_rates)
    every = torch.vmap
    np.testing.assert_allclose(tail(t), expected[0], rtol=1e-13)
    # A rate of 400 is known from its logarithm to 400 roundings, and so is exp(-rate).
    for first in (grad(tail), jacfwd(tail)):
        np.testing.assert_allclose(every(first)(t), expected[1], rtol=1e-12, atol=1e-305)
    for outer, inner in itertools.product((jacfwd, jacrev), repeat=2):
        np.testing.assert_allclose(every(outer(inner(tail)))(t), expected[2], rtol=1e-12, atol=1e-305)


@given(rate=st.floats(1e-2, 1e6), count=st.integers(1, 40))
def test_tail_agrees_with_scipy(rate, count):
    expected = stats.poisson.logsf(count - 1, rate)
    if expected > -600:  # scipy goes through the tail itself, which underflows
        np.testing.assert_allclose(log_poisson_tail(number(rate).log(), count), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("log_rate", [-1e4, -690.0, 0.0, 13.8, 40.0, 1e4])
def test_every_rate_is_finite_in_low_precision(dtype, log_rate):
    kernel = Poisson(torch.ones(1), n_classes=6).to(dtype)
    e = torch.tensor([[log_rate], [log_rate]], dtype=dtype, requires_grad=True)
    log_p = kernel(e)
    assert log_p.dtype == dtype
    log_p.sum().backward()
    assert log_p.isfinite().all()
    assert e.grad.isfinite().all()
    assert torch.allclose(log_p.float().logsumexp(-1), torch.zeros(2), atol=0.05)


def test_poisson_fit_equals_that_of_statsmodels():
    truth = Marginal(Identity(2), Poisson(number([0.5, -0.3]), 0.4, n_classes=60))
    data = truth.sample(normal(300, 2, seed=1), 1, generator(2))
    assert int(data["y"].max()) < 50  # so that no count is in the last class
    ours = eeqs.estimate(truth.psi(exact(1)), data)
    theirs = sm.GLM(data["y"].numpy(), sm.add_constant(data["x"].numpy()), sm.families.Poisson()).fit(cov_type="HC0")
    order = [1, 2, 0]
    np.testing.assert_allclose(ours.params, theirs.params[order], rtol=1e-7)
    np.testing.assert_allclose(ours.bse, theirs.bse[order], rtol=0.01)


def test_two_classes_are_the_complementary_log_log_model():
    log_p = Poisson(number([1.0]), n_classes=2)(normal(9, 1))
    np.testing.assert_allclose(log_p[:, 0].exp().detach(), 1 - stats.gumbel_l.cdf(normal(9, 1)[:, 0]), rtol=1e-12)


# With noise


def ordered_with_noise():
    """Slopes are known, so that the spread of the latent, logistic plus normal, identifies the noise."""
    kernel = Ordered(number([1.5, -1.0]), number([-2.0, 0.0, 1.0, 3.0]))
    kernel.weight.requires_grad_(False)
    return Marginal(Gaussian(2, log_scale=math.log(1.2)), kernel)


def poisson_with_noise():
    """Every parameter is free: the noise is the overdispersion."""
    return Marginal(Gaussian(2, log_scale=math.log(0.7)), Poisson(number([0.8, -0.5]), 0.5, n_classes=8))


def mlp_with_noise():
    network = Network.random((2, 8, 6), generator(3))
    kernel = MLP(Network([6 * weight for weight in network.weights], list(network.biases)))
    return Marginal(Gaussian(2, log_scale=[math.log(0.6), math.log(0.3)]), kernel.requires_grad_(False))


@pytest.mark.parametrize(
    ("make", "n"), [(ordered_with_noise, 6000), (poisson_with_noise, 3000), (mlp_with_noise, 4000)]
)
def test_cross_fitted_recovers_the_parameters(make, n):
    model = make()
    data = model.sample(1.2 * normal(n, 2, seed=1), 8, generator(2))
    result = eeqs.estimate(model.psi(cross_fitted, draws=8), data)
    assert result.solution.converged
    # At most five parameters: a false alarm in 3000 at another seed.
    miss = (result.params - model.theta.numpy()) / result.bse
    assert np.abs(miss).max() < 4
    assert result.bse.max() < 0.5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Softmax(torch.zeros(3)), ValueError, r"pass \(V, d\)"),
        (lambda: Softmax(torch.zeros(3, 2), torch.zeros(2)), ValueError, r"pass \(3,\), one a class"),
        (lambda: QuadraticSoftmax(torch.zeros(3, 2), torch.zeros(3, 1)), ValueError, r"pass \(V, d\) for both"),
        (lambda: QuadraticSoftmax(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(2)), ValueError, "one a class"),
        (lambda: Ordered(torch.zeros(2, 2), torch.zeros(1)), ValueError, r"weight has shape \(2, 2\)"),
        (lambda: Ordered(torch.zeros(2), torch.zeros(0)), ValueError, "one threshold at least"),
        (lambda: Ordered(torch.zeros(2), torch.tensor([0.0, 2.0, 2.0])), ValueError, r"\[0.0, 2.0, 2.0\] do not incr"),
        (lambda: Ordered(torch.zeros(2), torch.tensor([0.0, math.nan])), ValueError, "do not increase"),
        (lambda: Poisson(torch.zeros(2, 2), n_classes=3), ValueError, r"weight has shape \(2, 2\)"),
        (lambda: Poisson(torch.zeros(2), torch.zeros(2), n_classes=3), ValueError, r"bias \(2,\)"),
        (lambda: Poisson(torch.zeros(2), n_classes=1), ValueError, "n_classes is 1"),
        (lambda: MLP(torch.nn.Linear(2, 3)), TypeError, "network is a Linear"),
        (lambda: MLP(Network.random((2, 1), generator())), ValueError, "network has 1 output"),
        (lambda: Network.random((2,), generator()), ValueError, r"sizes is \(2,\)"),
        (lambda: Network.random((2, 0, 3), generator()), ValueError, r"sizes is \(2, 0, 3\)"),
        (lambda: Network([], []), ValueError, "0 weights and 0 biases"),
        (lambda: Network([torch.zeros(3, 2)], []), ValueError, "1 weights and 0 biases"),
        (
            lambda: Network([torch.zeros(3, 2), torch.zeros(2, 4)], [torch.zeros(3), torch.zeros(2)]),
            ValueError,
            "layer 1",
        ),
        (lambda: Network([torch.zeros(3, 2)], [torch.zeros(2)]), ValueError, r"layer 0 .* bias \(2,\)"),
        (lambda: Network([torch.zeros(3)], [torch.zeros(3)]), ValueError, r"layer 0 has weight \(3,\)"),
    ],
)
def test_arguments_are_checked(make, error, message):
    with pytest.raises(error, match=message):
        make()
