"""A noise scale that may be zero: score, test and interval, against closed forms and by simulation.

The simulations have fixed seeds and bounds of four standard errors: a correct procedure fails with probability 6e-5.
"""

import numpy as np
import pytest
import torch
from scipy import stats

import eeqs
from eeqs.marginal import (
    Gaussian,
    Identity,
    Marginal,
    QuadraticSoftmax,
    Softmax,
    antithetic,
    cross_fitted,
    exact,
    plug_in,
)
from eeqs.marginal.boundary import scale_interval, scale_test
from eeqs.marginal.boundary.chi_bar import chi_bar_tail, chi_bar_weights, cone_statistic
from eeqs.marginal.boundary.interval import acceptance, scale_tester
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
    """Against numpy: derivatives by central differences, and the generalised inverse of a shift-invariant bread."""
    data = sample(line(0.0), 400, 2)
    model = line(0.0, free=True)
    alone = Marginal(Identity(1), model.kernel)
    bias = eeqs.solve(alone.psi(exact(1)), data, minimum_norm=True).theta

    def scores(shift):
        kernel = line(0.0, free=True).kernel
        with torch.no_grad():
            kernel.bias.copy_(bias + shift)
        s = projected_scores(Marginal(Gaussian(1, scale=0.0), kernel.requires_grad_(False)), data)
        u = torch.eye(4).double()[data["y"]] - kernel(data["x"]).exp()
        return torch.cat([s, u], dim=1).numpy()

    steps = 1e-5 * torch.eye(4, dtype=torch.float64)
    bread = np.stack([(scores(h) - scores(-h)).mean(axis=0) / 2e-5 for h in steps], axis=1)
    at_root = scores(0.0 * bias)
    expected = at_root[:, 0] - at_root[:, 1:] @ (bread[0] @ np.linalg.pinv(bread[1:], rcond=1e-6))
    np.testing.assert_allclose(projected_scores(model, data)[:, 0].numpy(), expected, atol=1e-7)


def test_size_and_power_of_the_test_with_nuisances():
    rejected = {}
    for scale in (0.0, 0.8):
        found = [scale_test(line(scale, free=True), sample(line(scale, free=True), 300, 1000 + r)) for r in range(50)]
        rejected[scale] = np.mean([test.pvalue < 0.05 for test in found])
    assert abs(rejected[0.0] - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 50)
    assert rejected[0.8] > 0.5


def test_size_of_the_test():
    """Two thousand replicates of one large sample; zero is covered by the interval in the same ones."""
    scores = projected_scores(line(0.0), sample(line(0.0), 2000 * 300, 11)).numpy().reshape(2000, 300)
    statistic = scores.sum(axis=1) / np.linalg.norm(scores, axis=1)
    rejected = (statistic > acceptance(0.0, 0.05)[1]).mean()
    assert abs(rejected - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("scale", [0.1, 0.6])
def test_the_interval_covers(scale):
    """The interval covers if the truth is accepted."""
    model = line(scale)
    covered = [
        scale_tester(model, sample(model, 400, 5000 + r), exact(10), None, 0.05)(scale).accepted for r in range(100)
    ]
    assert abs(np.mean(covered) - 0.95) < 4 * np.sqrt(0.05 * 0.95 / 100)


def test_the_normal_interval_for_the_scale_fails_at_zero():
    """About half of the fits have no root above zero, and of the others many intervals miss the truth.

    A Wald interval holds zero if sigma / se(sigma) = 2 v / se(v) < 1.96, and v / se(v) is half-normal given a root.
    """
    singles = [sample(line(0.0), 400, 7000 + r) for r in range(200)]
    batch = {name: torch.stack([single[name].double() for single in singles]) for name in ("x", "y")}
    psi = line(0.4).psi(exact(8))
    solution = eeqs.solve(psi, batch, torch.full((200, 1), 0.4, dtype=torch.float64))
    bread, meat = (part(psi, solution.theta, batch) for part in (eeqs.bread, eeqs.meat))
    error = eeqs.sandwich(bread, meat, 400)[:, 0, 0].sqrt()
    estimate = solution.theta[:, 0].abs()
    root = solution.converged & (estimate > 0.01)
    number = int(root.sum())
    assert abs(number / 200 - 0.5) < 4 * np.sqrt(0.25 / 200) + 0.1  # what is left over is skewness at this n
    held = float((estimate / error < stats.norm.isf(0.025))[root].double().mean())
    assert held < 0.95 - 4 * np.sqrt(0.05 * 0.95 / number)


def test_ends_of_the_interval_are_where_the_test_turns():
    data = sample(line(0.7), 1500, 3)
    found = scale_interval(line(0.1), data, exact(12))
    assert 0 < found.lower < 0.7 < found.upper < 2
    for end, outwards in ((found.lower, -1e-3), (found.upper, 1e-3)):
        assert not found.test(end + outwards).accepted
        assert found.test(end - outwards).accepted
    wald = eeqs.estimate(line(0.5).psi(exact(12)), data)  # far from zero the two agree
    np.testing.assert_allclose([found.lower, found.upper], wald.conf_int().iloc[0], atol=0.1)
    wider = scale_interval(line(0.1), data, exact(12), alpha=0.01)
    assert wider.lower < found.lower < found.upper < wider.upper
    assert "95 % interval" in str(found)


def test_zero_belongs_to_the_interval_if_and_only_if_the_test_accepts_it():
    for seed in range(6):
        data = sample(line(0.35), 800, 30 + seed)
        found = scale_interval(line(0.1), data, exact(10))
        assert (found.lower == 0) == (scale_test(line(0.1), data).pvalue >= 0.05)


def test_a_simulated_score_with_antithetic_draws_gives_an_interval():
    model, draws = line(0.7), antithetic(16, groups=4)
    data = model.sample(normal(1500, 1, seed=1), draws, generator(2))
    found = scale_interval(model, data, cross_fitted, draws=draws)
    assert found.lower < 0.7 < found.upper


@pytest.mark.parametrize("distance", [0.0, 1e-3, 0.4, 1.2, 1.9, 2.5, 40.0])
def test_the_acceptance_has_its_level_and_orders_by_the_likelihood_ratio(distance):
    """Against the definition of Feldman & Cousins for x ~ N(distance, 1) and a mean that is not negative."""
    low, high = acceptance(distance, 0.05)
    assert stats.norm.cdf(high) - stats.norm.cdf(low) == pytest.approx(0.95, abs=1e-9)

    def log_ratio(r):
        x = distance + r
        return -(r**2) + (x - max(x, 0)) ** 2

    if np.isfinite(low):
        assert log_ratio(low) == pytest.approx(log_ratio(high), rel=1e-6)


def test_chi_bar_weights_and_tail():
    rng = np.random.default_rng(3)
    for m in (2, 3, 4):
        root = rng.normal(size=(m, m)) + np.eye(m)
        omega = root @ root.T
        draws = rng.normal(size=(4000, m)) @ np.linalg.cholesky(omega).T
        statistics = np.array([cone_statistic(score, omega) for score in draws])
        assert chi_bar_weights(omega).sum() == pytest.approx(1)
        for level in (0.5, 2.0):
            tail = chi_bar_tail(level, omega)
            assert abs((statistics > level).mean() - tail) < 4 * np.sqrt(tail * (1 - tail) / 4000)
    np.testing.assert_allclose(chi_bar_weights(np.eye(3)), [1 / 8, 3 / 8, 3 / 8, 1 / 8])
    assert cone_statistic(np.array([-1.0, 2.0]), np.eye(2)) == pytest.approx(4)
    assert chi_bar_tail(0.0, np.eye(2)) == 1
    with pytest.raises(ValueError, match="9 scales"):
        chi_bar_weights(np.eye(9))


def test_several_scales_are_tested_jointly():
    kernel = QuadraticSoftmax(2 * normal(5, 2, seed=3), 0.5 * normal(5, 2, seed=2)).requires_grad_(False)
    noisy = Marginal(Gaussian(2, scale=[0.0, 0.9]), kernel)
    found = scale_test(noisy, sample(noisy, 1500, 4))
    assert found.restrictions == 2
    assert found.pvalue < 1e-3
    assert "chi-bar-square(2)" in str(found)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Marginal(Gaussian(1, log_scale=0.0), line(0.0).kernel), {}, 'on "scale" alone'),
        (Marginal(Gaussian(1, scale=[0.1]), line(0.0).kernel), {"score": plug_in, "draws": 4}, "plug_in is biased"),
        (line(0.1), {"alpha": 0.0}, "alpha is 0.0"),
    ],
)
def test_what_has_no_such_interval_is_refused(model, options, message):
    data = {**sample(line(0.1), 60, 1), "z": normal(60, 4, 1)}
    with pytest.raises(ValueError, match=message):
        scale_interval(model, data, **{"score": exact(6), **options})


def test_several_scales_have_no_interval():
    model = Marginal(Gaussian(2, scale=[0.1, 0.2]), Softmax(normal(3, 2)).requires_grad_(False))
    with pytest.raises(ValueError, match="several scales"):
        scale_interval(model, sample(model, 60, 1), exact(6))
