import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from eeqs.marginal.laws import (
    LOG_EXPONENTIAL,
    LOGISTIC,
    RADEMACHER,
    STANDARD_NORMAL,
    UNIFORM,
)

CPU = torch.device("cpu")
# scipy's name for each law, and whether it is symmetric; the log of a unit exponential is its left Gumbel law.
CONTINUOUS = {
    "normal": (STANDARD_NORMAL, stats.norm(), True),
    "uniform": (UNIFORM, stats.uniform(-1, 2), True),
    "logistic": (LOGISTIC, stats.logistic(), True),
    "log_exponential": (LOG_EXPONENTIAL, stats.gumbel_l(), False),
}
LAWS = [STANDARD_NORMAL, UNIFORM, LOGISTIC, LOG_EXPONENTIAL, RADEMACHER]
each_continuous = pytest.mark.parametrize(("law", "reference", "symmetric"), CONTINUOUS.values(), ids=CONTINUOUS)
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def moment(law, power):
    """Exact moment, from closed forms that share nothing with the quadrature."""
    if law is LOG_EXPONENTIAL:
        # Cumulants -gamma and (-1)^n (n - 1)! zeta(n), turned into moments by the recursion of Bell polynomials.
        cumulant = [0.0, -np.euler_gamma] + [
            (-1) ** n * math.factorial(n - 1) * special.zeta(n) for n in range(2, power + 1)
        ]
        found = [1.0]
        for n in range(1, power + 1):
            found.append(sum(math.comb(n - 1, k - 1) * cumulant[k] * found[n - k] for k in range(1, n + 1)))
        return found[power]
    if power % 2:
        return 0.0
    return {
        STANDARD_NORMAL: lambda: float(math.prod(range(1, power, 2))),
        UNIFORM: lambda: 1 / (power + 1),
        LOGISTIC: lambda: math.pi**power * abs(special.bernoulli(power)[-1]) * (2**power - 2) if power else 1.0,
        RADEMACHER: lambda: 1.0,
    }[law]()


@each_continuous
def test_quantile_function_in_both_tails(law, reference, symmetric):
    lower = 10.0 ** -np.arange(1, 300, 7)
    np.testing.assert_allclose(law.quantile(torch.from_numpy(lower)).numpy(), reference.ppf(lower), rtol=1e-12)
    upper = 1 - 2.0 ** -np.arange(1, 54)
    # Near its zero a quantile function is as exact as u is: 1e-16 absolutely.
    np.testing.assert_allclose(
        law.quantile(torch.from_numpy(upper)).numpy(), reference.ppf(upper), rtol=1e-12, atol=1e-15
    )
    if symmetric:
        u = torch.from_numpy(upper)
        torch.testing.assert_close(law.quantile(1 - u), -law.quantile(u), rtol=1e-14, atol=1e-15)


@each_law
@given(u=st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_quantile_is_finite_and_increasing_inside_the_unit_interval(law, u):
    edges = [u, float(np.nextafter(u, 1))]
    for dtype in (torch.float64, torch.float32):
        values = torch.tensor(edges, dtype=dtype)
        z = law.quantile(values[(values > 0) & (values < 1)])
        assert z.dtype == dtype
        assert z.isfinite().all()
        assert (z.diff() >= -4 * torch.finfo(dtype).eps * z[:1].abs()).all()


@each_continuous
def test_sample_has_the_law(law, reference, symmetric):  # noqa: ARG001
    # p < 1e-4 is a false alarm once in ten thousand seeds; the seed is fixed.
    z = law.sample((20_000, 2), rng(1), torch.float64, CPU)
    assert stats.kstest(z.flatten().numpy(), reference.cdf).pvalue > 1e-4
    assert stats.pearsonr(z[:, 0], z[:, 1]).pvalue > 1e-4
    assert stats.kstest(1.05 * z.flatten().numpy() + 0.05, reference.cdf).pvalue < 1e-4


def test_coin_is_fair():
    z = RADEMACHER.sample((10_000,), rng(), torch.float64, CPU)
    assert set(z.tolist()) == {-1.0, 1.0}
    assert stats.binomtest(int((z > 0).sum()), len(z)).pvalue > 1e-4


def test_softmax_of_log_exponentials_is_uniform_on_the_simplex():
    w = torch.softmax(LOG_EXPONENTIAL.sample((20_000, 4), rng(2), torch.float64, CPU), dim=-1)
    assert stats.kstest(w[:, 0].numpy(), stats.beta(1, 3).cdf).pvalue > 1e-4
    assert stats.kstest((w[:, 0] + w[:, 1]).numpy(), stats.beta(2, 2).cdf).pvalue > 1e-4


@each_law
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_sample_is_reproducible_and_leaves_the_global_generator_alone(law, dtype):
    before = torch.get_rng_state()
    z = law.sample((50, 3), rng(4), dtype, CPU)
    assert z.dtype == dtype
    assert z.isfinite().all()
    assert torch.equal(z, law.sample((50, 3), rng(4), dtype, CPU))
    assert torch.equal(torch.get_rng_state(), before)


@each_law
@pytest.mark.parametrize("nodes", [1, 2, 7, 30, 100])
def test_weights_are_a_probability_law(law, nodes):
    z, log_weight = law.quadrature(nodes, 1)
    assert len(z) == len(log_weight) == (2 if law is RADEMACHER else nodes)
    assert abs(float(log_weight.exp().sum()) - 1) < 1e-13


@pytest.mark.parametrize("law", [STANDARD_NORMAL, UNIFORM, RADEMACHER], ids=lambda law: law.name)
@pytest.mark.parametrize("nodes", [2, 7, 30])
def test_classical_rules_are_exact_up_to_their_degree_and_no_further(law, nodes):
    z, log_weight = law.quadrature(nodes, 1)
    for power in range(2 * nodes):
        term = log_weight.exp() * z[:, 0] ** power
        # Odd moments cancel, so that rounding is relative to the absolute moment.
        assert abs(float(term.sum()) - moment(law, power)) <= 1e-11 * float(term.abs().sum())
    if law is not RADEMACHER and nodes < 30:
        beyond = float((log_weight.exp() * z[:, 0] ** (2 * nodes)).sum())
        assert abs(beyond / moment(law, 2 * nodes) - 1) > 1e-4


@pytest.mark.parametrize("law", [LOGISTIC, LOG_EXPONENTIAL], ids=lambda law: law.name)
@pytest.mark.parametrize(("nodes", "error"), [(20, 3e-4), (40, 3e-5)])
def test_second_moment_by_levels_is_as_accurate_as_stated(law, nodes, error):
    z, log_weight = law.quadrature(nodes, 1)
    found = float((log_weight.exp() * z[:, 0] ** 2).sum())
    assert abs(found / moment(law, 2) - 1) < error


@each_continuous
@pytest.mark.parametrize("slope", [0.5, 1.0, 4.0])
@pytest.mark.parametrize(("nodes", "error"), [(20, 1e-5), (40, 4e-9)])
def test_quadrature_of_a_gate_is_as_accurate_as_stated(law, reference, symmetric, slope, nodes, error):  # noqa: ARG001
    z, log_weight = law.quadrature(nodes, 1)
    value = float((log_weight.exp() * torch.sigmoid(1 + slope * z[:, 0])).sum())
    lower, upper = max(reference.support()[0], -90), min(reference.support()[1], 90)
    expected = integrate.quad(
        lambda x: special.expit(1 + slope * x) * np.exp(reference.logpdf(x)),
        lower,
        upper,
        points=(-5, 0, 5) if np.isinf(reference.support()[1]) else None,
        epsabs=1e-13,
        limit=500,
    )[0]
    # Hermite nodes spread as the root of their number: a steep gate needs more of them.
    assert abs(value - expected) < (2e-3 if law is STANDARD_NORMAL else error)


@each_law
def test_product_rule(law):
    z, log_weight = law.quadrature(2, 3)
    points = law.quadrature(2, 1)[0][:, 0].tolist()
    assert sorted(map(tuple, z.tolist())) == sorted(itertools.product(points, repeat=3))
    assert abs(float(log_weight.exp().sum()) - 1) < 1e-14
    empty = law.quadrature(5, 0)
    assert empty[0].shape == (1, 0)
    assert empty[1].tolist() == [0.0]


@each_law
@pytest.mark.parametrize("dim", [-1, 4])
def test_dimension_out_of_range(law, dim):
    with pytest.raises(ValueError, match=f"in {dim} latent dimensions"):
        law.quadrature(5, dim)


@pytest.mark.parametrize("law", LAWS[:-1], ids=lambda law: law.name)
@pytest.mark.parametrize("nodes", [0, 101])
def test_number_of_nodes_out_of_range(law, nodes):
    with pytest.raises(ValueError, match=f"nodes is {nodes}"):
        law.quadrature(nodes, 1)
