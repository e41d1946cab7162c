import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eeqs.marginal import gauss_hermite, iid


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_quadrature_is_a_probability_law_of_the_right_shape(dim):
    z, log_weight = gauss_hermite(5, dim)
    assert z.shape == (5**dim, dim)
    assert log_weight.shape == (5**dim,)
    assert abs(float(log_weight.exp().sum()) - 1) < 1e-14


@given(nodes=st.integers(1, 12), data=st.data())
def test_quadrature_is_exact_for_polynomials_up_to_its_degree(nodes, data):
    powers = data.draw(st.tuples(*[st.integers(0, 2 * nodes - 1)] * 2))
    z, log_weight = gauss_hermite(nodes, 2)
    moment = float((log_weight.exp() * z[:, 0] ** powers[0] * z[:, 1] ** powers[1]).sum())
    # E z^p = (p - 1)!! for even p, else 0; odd terms cancel, so rounding is relative to the absolute moment.
    exact = math.prod(0.0 if p % 2 else math.prod(range(1, p, 2)) for p in powers)
    size = float((log_weight.exp() * (z[:, 0] ** powers[0] * z[:, 1] ** powers[1]).abs()).sum())
    assert abs(moment - exact) <= 1e-11 * max(size, 1)


def test_one_degree_more_than_exact_is_not_exact():
    z, log_weight = gauss_hermite(3, 1)
    assert abs(float((log_weight.exp() * z[:, 0] ** 6).sum()) - 15) > 1


def test_quadrature_integrates_a_smooth_function():
    z, log_weight = gauss_hermite(40, 1)
    value = float((log_weight.exp() * torch.sigmoid(1 + 2 * z[:, 0])).sum())
    fine = np.linspace(-12, 12, 200_001)
    density = np.exp(-(fine**2) / 2) / np.sqrt(2 * np.pi)
    assert abs(value - np.trapezoid(density / (1 + np.exp(-1 - 2 * fine)), fine)) < 1e-7


@pytest.mark.parametrize(
    ("nodes", "dim", "message"),
    [(0, 1, "nodes is 0"), (101, 1, "nodes is 101"), (8, 4, "8\\*\\*4 nodes.*use cross_fitted"), (8, -1, "-1 latent")],
)
def test_quadrature_out_of_range(nodes, dim, message):
    with pytest.raises(ValueError, match=message):
        gauss_hermite(nodes, dim)


def test_iid_draws_are_standard_normal_and_reproducible():
    z = iid(3).sample(20_000, 2, generator(1))
    assert z.shape == (20_000, 3, 2)
    assert z.dtype == torch.float64
    flat = z.flatten()
    m = len(flat)
    assert abs(float(flat.mean())) < 4 / m**0.5
    assert abs(float(flat.var()) - 1) < 4 * (2 / m) ** 0.5
    # Draws of one observation are independent of each other.
    assert abs(float((z[:, 0] * z[:, 1]).mean())) < 4 / 40_000**0.5
    assert torch.equal(z, iid(3).sample(20_000, 2, generator(1)))
    assert not torch.equal(z, iid(3).sample(20_000, 2, generator(2)))


def test_iid_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    iid(2).sample(5, 1, generator())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_iid_dtype():
    assert iid(2).sample(5, 1, generator(), dtype=torch.float32).dtype == torch.float32


def test_iid_bad_input():
    with pytest.raises(TypeError, match="generator is a NoneType"):
        iid(2).sample(5, 1, None)
    with pytest.raises(ValueError, match="0 draws"):
        iid(0)
    with pytest.raises(ValueError, match="n = 0"):
        iid(2).sample(0, 1, generator())
