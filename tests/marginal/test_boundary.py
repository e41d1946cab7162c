"""A noise scale that may be zero: score, test and interval, against closed forms and by simulation.

The simulations have fixed seeds and bounds of four standard errors: a correct procedure fails one with probability 6e-5.
"""

import numpy as np
import pytest
import torch
from scipy import stats

import eeqs
from eeqs.marginal import Affine, Gaussian, Marginal, QuadraticSoftmax, Softmax, antithetic, cross_fitted, exact, plug_in
from eeqs.marginal.boundary import scale_interval, scale_test
from eeqs.marginal.boundary.chi_bar import chi_bar_tail, chi_bar_weights, cone_statistic
from eeqs.marginal.boundary.interval import acceptance
from eeqs.marginal.boundary.null_score import projected_scores
from eeqs.marginal.kernels import LinearGaussian


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def line(scale, *, free=False):
    """One dimension before four classes; ``free`` makes their biases nuisances."""
    bias = torch.zeros(4, dtype=torch.float64) if free else None
    kernel = QuadraticSoftmax(2 * normal(4, 1, seed=1), 0.5 * normal(4, 1, seed=2), bias).requires_grad_(False)
    if free:
        kernel.bias.requires_grad_(True)
    return Marginal(Gaussian(1, scale=scale), kernel)


def sample(model, n, seed):
    draw = generator(seed)
    x = torch.randn(n, model.perturbation.dim, generator=draw, dtype=torch.float64)
    return {"x": x, "y": model.simulate(x, draw)}


def test_the_score_at_zero_is_half_the_hessian_of_a_softmax_over_p():
    weight = normal(4, 3, seed=3)
    for scale, m in ((0.0, 1), ([0.0] * 3, 3)):
        model = Marginal(Gaussian(3, scale=scale), Softmax(weight).requires_grad_(False))
        data = sample(model, 50, 1)
        x, y, w = data["x"].numpy(), data["y"].numpy(), weight.numpy()
        p = np.exp(x @ w.T)
        p /= p.sum(axis=1, keepdims=True)
        mean = p @ w
        # d2 p_y / d e_j^2 / p_y = (w_yj - mean_j)^2 - Var_p(w_j)
        by_coordinate = ((w[y] - mean) ** 2 - (p @ w**2 - mean**2)) / 2
        expected = by_coordinate if m == 3 else by_coordinate.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(projected_scores(model, data).numpy(), expected, atol=1e-12)


def test_the_score_at_zero_is_the_limit_of_the_exact_score_in_the_variance():
    data = sample(line(0.0), 200, 1)
    close = line(1e-4).psi(exact(6))(torch.tensor([1e-4], dtype=torch.float64), data) / 2e-4
    torch.testing.assert_close(projected_scores(line(0.3), data), close, atol=1e-5, rtol=0)


def test_the_score_at_zero_of_a_gaussian_response_is_that_of_its_variance():
    kernel = LinearGaussian(torch.tensor([2.0]), log_scale=0.5).double().requires_grad_(False)
    model = Marginal(Gaussian(1, scale=0.0), kernel)
    data = sample(model, 50, 1)
    variance = np.exp(1.0)
    residual = (data["y"] - 2 * data["x"][:, 0]).numpy()
    expected = 4 * (residual**2 / variance - 1) / (2 * variance)
    np.testing.assert_allclose(projected_scores(model, data)[:, 0].numpy(), expected, atol=1e-12)


def test_nuisances_are_projected_out():
    model = line(0.0, free=True)
    data = sample(model, 400, 2)
    kernel = line(0.0, free=True)
    from_engine = eeqs.solve(Marginal(eeqs.marginal.Identity(1), kernel.kernel).psi(exact(1)), data, minimum_norm=True)
    bias = from_engine.theta
    assert bias.shape == (4,)
    projected = projected_scores(model, data)[:, 0]
    # Moving the classes' biases, the projected mean does not change to first order.
    moved = []
    for step in (-1e-4, 1e-4):
        shifted = line(0.0, free=True)
        with torch.no_grad():
            shifted.kernel.bias.copy_(bias + step * normal(4, seed=7))
        fixed = shifted.kernel.requires_grad_(False)
        score = projected_scores(Marginal(Gaussian(1, scale=0.0), fixed), data)[:, 0]
        moved.append(float(score.mean()))
    raw_slope = (moved[1] - moved[0]) / 2e-4
    assert abs(raw_slope) > 0.01  # the score itself does depend on them
    assert float(projected.var()) < float(score.var())


def test_size_and_power_of_the_test():
    """300 replicates with nuisances: size 5 % within four standard errors, and half the power at least."""
    rejected = {}
    for scale in (0.0, 0.8):
        found = [scale_test(line(scale, free=True), sample(line(scale, free=True), 400, 1000 + r)) for r in range(300)]
        rejected[scale] = np.mean([test.pvalue < 0.05 for test in found])
    assert abs(rejected[0.0] - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 300)
    assert rejected[0.8] > 0.5


@pytest.mark.parametrize("scale", [0.0, 0.1, 0.6])
def test_the_interval_covers(scale):
    """Whether the truth is accepted, in 300 replicates, which is whether the interval covers it."""
    model, covered = line(scale), 0
    interval_at = scale_interval(model, sample(model, 300, 0), exact(10)).test
    assert interval_at(scale).low < interval_at(scale).high
    for r in range(300):
        data = sample(model, 400, 5000 + r)
        covered += accepts(model, data, scale)
    assert abs(covered / 300 - 0.95) < 4 * np.sqrt(0.05 * 0.95 / 300)


def accepts(model, data, scale):
    from eeqs.marginal.boundary.interval import _tester

    return _tester(model, data, exact(10), None, 0.05)(scale).accepted
