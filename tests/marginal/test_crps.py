"""Energy score: the naive double loop, unbiasedness against closed forms, ties, and engression."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.func import functional_call, jvp, vmap

import eeqs
from eeqs.marginal.crps import energy_loss
from eeqs.marginal.kernels import GaussianResponse, LinearGaussian

WEIGHT, BIAS, LOG_SCALE, NOISE = (0.8, -0.5), 0.3, -0.4, 0.6


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(simulated, y, size=1):
    K = len(simulated)
    across = [abs(a - b) for (j, a), (k, b) in combinations(enumerate(simulated), 2) if j // size != k // size]
    return np.mean([abs(y - a) for a in simulated]) - sum(across) / (K * (K - size))


@given(seed=st.integers(0, 10**6), groups=st.integers(2, 5), size=st.integers(1, 4), decimals=st.integers(0, 8))
def test_loss_equals_the_double_loop(seed, groups, size, decimals):
    simulated = normal(groups * size, 5, seed=seed).round(decimals=decimals)  # few decimals make ties
    y = normal(5, seed=seed + 1).round(decimals=decimals)
    expected = [naive(simulated[:, i].tolist(), y[i].item(), size) for i in range(5)]
    np.testing.assert_allclose(energy_loss(simulated, y, size), expected, rtol=1e-12, atol=1e-13)


@given(seed=st.integers(0, 10**6), size=st.sampled_from([1, 2, 3]), decimals=st.sampled_from([0, 8]))
def test_gradient_counts_signs_with_zero_at_ties(seed, size, decimals):
    K, simulated = 6, normal(6, 4, seed=seed).round(decimals=decimals)
    y = normal(4, seed=seed + 1).round(decimals=decimals)
    gradient = torch.func.grad(lambda s: energy_loss(s, y, size).sum())(simulated)
    other = torch.arange(K)[:, None] // size != torch.arange(K) // size
    signs = (simulated[:, None] - simulated).sign() * other[..., None]
    expected = (simulated - y).sign() / K - signs.sum(dim=1) / (K * (K - size))
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-13)


def test_works_under_vmap_and_in_forward_mode():
    simulated, y, tangent = normal(3, 4, 5), normal(3, 5, seed=1), normal(3, 4, 5, seed=2)
    looped = torch.stack([energy_loss(s, t) for s, t in zip(simulated, y, strict=True)])
    torch.testing.assert_close(vmap(energy_loss)(simulated, y), looped)
    slope = jvp(lambda s: vmap(energy_loss)(s, y).sum(), (simulated,), (tangent,))[1]
    gradient = torch.func.grad(lambda s: vmap(energy_loss)(s, y).sum())(simulated)
    torch.testing.assert_close(slope, (gradient * tangent).sum())


def crps_of_a_normal(y, mean, scale):
    """Gneiting & Raftery (2007), equation 21."""
    t = (y - mean) / scale
    root = math.sqrt(math.pi)
    cdf, density = torch.special.ndtr(t), (-t.square() / 2).exp() / math.sqrt(2 * math.pi)
    return scale * (t * (2 * cdf - 1) + 2 * density - 1 / root)


def closed_form(theta, x, y):
    """CRPS of the marginal of a linear normal response under isotropic noise, at (w, b, log s, log sigma)."""
    w, b, variances = theta[:2], theta[2], (2 * theta[3:]).exp()
    return crps_of_a_normal(y, x @ w + b, (variances[0] + variances[1] * w @ w).sqrt())


def simulated_responses(theta, x, z, u):
    values = {"mean.weight": theta[:2], "mean.bias": theta[2], "log_scale": theta[3]}
    return functional_call(_Responses(), {f"kernel.{name}": v for name, v in values.items()}, (x, theta[4], z, u))


class _Responses(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = LinearGaussian(torch.tensor(WEIGHT, dtype=torch.float64), BIAS, LOG_SCALE)

    def forward(self, x, log_noise, z, u):
        return self.kernel.response(x + log_noise.exp() * z, u)


def shared_draws(simulated, y):
    """Planted error: pairs of a response with itself are counted, as in the energy of an empirical law."""
    gaps = (simulated[:, None] - simulated).abs().mean(dim=(0, 1))
    return (simulated - y).abs().mean(dim=0) - gaps / 2


POINTS = {
    "truth": (*WEIGHT, BIAS, LOG_SCALE, math.log(NOISE)),
    "elsewhere": (0.1, 0.4, -0.5, 0.3, -2.0),
    "far": (-2.0, 1.5, 2.0, -1.0, 1.0),
}


def errors_in_standard_errors(loss, point, K, seed, rows=60_000, design=None):
    """Largest |t| of value and gradient against the closed form, each observation with K draws of its own."""
    theta, x = torch.tensor(POINTS[point], dtype=torch.float64), normal(rows, 2, seed=seed)
    y = 0.5 * x.sum(dim=-1) + normal(rows, seed=seed + 1)  # any law of y: the identity does not need the truth
    z, u = normal(K, rows, 2, seed=seed + 2), normal(K, rows, seed=seed + 3)
    if design is not None:
        z, u = design(z), design(u)
    simulate = lambda t: simulated_responses(t, x, z, u)  # noqa: E731
    found = [loss(simulate(theta), y) - closed_form(theta, x, y)]
    for direction in torch.eye(5, dtype=torch.float64):
        mine = jvp(lambda t: loss(simulate(t), y), (theta,), (direction,))[1]
        found.append(mine - jvp(lambda t: closed_form(t, x, y), (theta,), (direction,))[1])
    gaps = torch.stack(found)
    return float((gaps.mean(dim=1) / (gaps.std(dim=1) / rows**0.5)).abs().max())


def mirrored(draws):
    half = draws[::2]
    return torch.stack([half, -half], dim=1).flatten(0, 1)


# Six comparisons a case and 12 cases: |t| < 4.5 keeps the chance of any false alarm at other seeds below 1 in 2000.
LEVEL = 4.5


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("K", [2, 3, 8])
def test_value_and_gradient_are_unbiased_at_every_parameter(point, K):
    assert errors_in_standard_errors(energy_loss, point, K, seed=10 * K) < LEVEL


@pytest.mark.parametrize("point", POINTS)
def test_groups_of_mirrored_draws_are_unbiased_too(point):
    paired = errors_in_standard_errors(lambda s, y: energy_loss(s, y, 2), point, 4, seed=7, design=mirrored)
    assert paired < LEVEL


def test_pairs_within_a_group_of_mirrored_draws_are_caught():
    assert errors_in_standard_errors(energy_loss, "truth", 4, seed=7, design=mirrored) > 2 * LEVEL


@pytest.mark.parametrize("K", [2, 8])
def test_a_response_paired_with_itself_is_caught(K):
    assert errors_in_standard_errors(shared_draws, "truth", K, seed=3) > 2 * LEVEL


def test_closed_form_agrees_with_integration():
    grid = torch.linspace(-12, 12, 48_001, dtype=torch.float64)
    law = torch.from_numpy(stats.norm.cdf(grid.numpy(), 0.3, 0.8))
    expected = torch.trapezoid((law - (grid >= 1.1).double()).square(), grid)
    got = crps_of_a_normal(*(torch.tensor(v, dtype=torch.float64) for v in (1.1, 0.3, 0.8)))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=0)


class _Curve(nn.Module):
    def forward(self, e):
        return e[..., 0] + 0.5 * e[..., 0].square()


class _Engression(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = GaussianResponse(1, _Curve())

    def forward(self, x, z, u, log_noise):
        return self.kernel.response(x + log_noise.exp() * z, u)


def test_engression_tells_noise_before_the_curve_from_noise_after_it():
    module, truth = _Engression(), torch.tensor([math.log(0.7), math.log(0.4)], dtype=torch.float64)

    def simulate(theta, x, z, u):
        return functional_call(module, {"kernel.log_scale": theta[1]}, (x, z, u, theta[0]))

    def loss(theta, data):
        return energy_loss(simulate(theta, data["x"], data["z"].mT[..., None], data["u"].mT), data["y"])

    def draw(n, generator):
        x, z, u = (torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (1, 5, 5))
        y = simulate(truth, x, z[:, :1], u[:, 0])
        return {"x": x, "z": z[:, 1:], "u": u[:, 1:], "y": y}

    psi, swapped = eeqs.from_loss(loss), truth + torch.tensor([-0.4, 0.6], dtype=torch.float64)
    assert eeqs.check_unbiased(psi, truth, draw, n=30_000).passed
    # Less noise before the curve and more after it, for about the same variance of y, is told from the truth.
    wrong = psi(swapped, draw(30_000, torch.Generator().manual_seed(1)))
    assert (wrong.mean(dim=0) / (wrong.std(dim=0) / len(wrong) ** 0.5)).abs().max() > 10


@pytest.mark.parametrize(
    ("shape", "y_shape", "size", "message"),
    [
        ((1, 5), (5,), 1, "1 simulated responses in groups of 1"),
        ((4, 5), (5,), 3, "4 simulated responses in groups of 3"),
        ((4, 5), (5,), 4, "two whole groups"),
        ((4, 5), (5,), 0, "groups of 0"),
        ((4, 5), (4,), 1, r"simulated has shape \(4, 5\); pass \(K, n\) for y of shape \(4,\)"),
        ((), (), 1, "0 simulated responses"),
    ],
)
def test_bad_shapes_are_refused(shape, y_shape, size, message):
    with pytest.raises(ValueError, match=message):
        energy_loss(torch.zeros(shape), torch.zeros(y_shape), size)
