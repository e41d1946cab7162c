"""Derivatives against closed forms, loops and finite differences."""

import pytest
import torch

from eeqs.engine import derivative
from eeqs.engine.derivative import (
    central_difference,
    directional,
    jacobian_of_mean,
    surrogate_gradient,
    surrogate_jacobian,
)

THETA = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)


def _curve(theta):
    return torch.stack([theta[0] * theta[1], theta[2].exp(), theta.square().sum(), theta[0].sin()])


def _curve_jacobian(theta):
    a, b, c = theta.tolist()
    rows = [[b, a, 0], [0, 0, theta[2].exp().item()], [2 * a, 2 * b, 2 * c], [theta[0].cos().item(), 0, 0]]
    return torch.tensor(rows, dtype=torch.float64)


def test_directional_gives_value_and_transposed_jacobian():
    value, slope = directional(_curve, THETA)
    assert torch.equal(value, _curve(THETA))
    torch.testing.assert_close(slope, _curve_jacobian(THETA).mT, rtol=1e-14, atol=1e-14)


def _psi(theta, data):
    index = data["x"] @ theta
    return (data["y"] - index.exp())[:, None] * data["x"]


def _poisson(generator, n=50):
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return {"x": x, "y": torch.rand(n, generator=generator, dtype=torch.float64)}


@pytest.mark.parametrize("budget", [2**23, 1], ids=["whole", "one tangent at a time"])
def test_jacobian_of_mean_is_the_closed_form(generator, monkeypatch, budget):
    monkeypatch.setattr(derivative, "_TANGENT_BUDGET", budget)
    data = _poisson(generator)
    x = data["x"]
    expected = -x.mT @ ((x @ THETA).exp()[:, None] * x) / len(x)
    torch.testing.assert_close(jacobian_of_mean(_psi, THETA, data), expected, rtol=1e-13, atol=1e-14)


def test_jacobian_of_mean_orientation_is_equation_by_parameter():
    ones = torch.ones(4, dtype=torch.float64)
    jacobian = jacobian_of_mean(lambda t, d: torch.stack([d * t[0] * 2, d * t[0] * t[1]], 1), THETA[:2], ones)
    torch.testing.assert_close(jacobian, torch.tensor([[2, 0], [-0.7, 0.3]], dtype=torch.float64))


def test_jacobian_maps_over_replicates(generator):
    data = {name: torch.stack([leaf, leaf.flip(0)]) for name, leaf in _poisson(generator).items()}
    thetas = torch.stack([THETA, -THETA])
    mapped = torch.func.vmap(lambda t, d: jacobian_of_mean(_psi, t, d))(thetas, data)
    for r in range(2):
        one = jacobian_of_mean(_psi, thetas[r], {name: leaf[r] for name, leaf in data.items()})
        torch.testing.assert_close(mapped[r], one, rtol=1e-13, atol=1e-14)


def test_central_difference_has_second_order_error():
    """Halving the step divides the error by four."""
    errors = [
        (central_difference(_curve, THETA, torch.full((3,), h)) - _curve_jacobian(THETA)).abs().max()
        for h in (1e-2, 5e-3)
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.01)


def _inner(theta, data):
    """Probabilities (K, V, n) of two categories under three draws."""
    index = theta[0] + theta[1] * data["x"] + theta[2] * data["z"].mT
    one = torch.sigmoid(index)
    return torch.stack([1 - one, one], dim=1)


def _surrogate(live, frozen, data):
    """Cross-product of residuals and probabilities of different draws."""
    hit = torch.stack([1 - data["y"], data["y"]])
    residual = hit - frozen
    total = residual.sum(0) * live.sum(0) - (residual * live).sum(0)
    return -total.sum(0) / (live.shape[0] * (live.shape[0] - 1))


def _draws(generator, n=40):
    return {
        "x": torch.randn(n, generator=generator, dtype=torch.float64),
        "z": torch.randn(n, 3, generator=generator, dtype=torch.float64),
        "y": (torch.rand(n, generator=generator) < 0.4).double(),
    }


def test_surrogate_gradient_is_the_loop_over_observations(generator):
    data = _draws(generator)
    psi = surrogate_gradient(_inner, _surrogate, THETA, data)
    assert psi.shape == (40, 3)
    for i in range(40):
        row = {name: leaf[i : i + 1] for name, leaf in data.items()}
        live = THETA.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(_surrogate(_inner(live, row), _inner(THETA, row), row).sum(), live)
        torch.testing.assert_close(psi[i], -gradient, rtol=1e-12, atol=1e-14)


def test_surrogate_jacobian_goes_through_both_copies(generator):
    data = _draws(generator)
    steps = torch.full((3,), 1e-4, dtype=torch.float64)
    expected = central_difference(lambda t: surrogate_gradient(_inner, _surrogate, t, data).mean(0), THETA, steps)
    both = surrogate_jacobian(_inner, _surrogate, THETA, data)
    # Central differences with steps of 1e-4 are off by about 1e-8 times the third derivative.
    torch.testing.assert_close(both, expected, rtol=1e-6, atol=1e-8)
    fixed = _inner(THETA, data)
    live_only = torch.func.jacfwd(torch.func.grad(lambda t: -_surrogate(_inner(t, data), fixed, data).mean()))(THETA)
    assert (live_only - expected).abs().max() > 1e-3
