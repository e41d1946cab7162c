"""Contract of every design of draws: a factory in eeqs/marginal/draws.py needs one row here."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import eeqs
from eeqs.marginal import (
    LOG_EXPONENTIAL,
    STANDARD_NORMAL,
    UNIFORM,
    Draws,
    Gaussian,
    Marginal,
    QuadraticSoftmax,
    antithetic,
    cross_fitted,
    draws,
    iid,
    plug_in,
    shifted_grid,
    single_draw,
    sobol,
    two_sample,
)


@dataclass(frozen=True)
class Row:
    make: Callable[..., Draws]
    dim: int = 2
    balanced: bool = True  # whether an average over a group varies less than one over independent draws


ROWS = {
    "iid": Row(iid, balanced=False),
    "antithetic": Row(antithetic),
    "sobol": Row(sobol),
    "shifted_grid": Row(shifted_grid, dim=1),
}
each = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
N = 4000
# About 40 tests below reject with probability 6e-5 each: one run in 400 would fail by chance, and the seeds are fixed.
Z = 4.0


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_design_has_a_row():
    assert set(draws.__all__) - {"Draws", "Scheme", "as_draws"} == set(ROWS)


@each
def test_shape_and_number(row):
    design = row.make(8, groups=2)
    assert (len(design), design.groups, design.size) == (8, 2, 4)
    assert design.sample(5, row.dim, generator()).shape == (5, 2, 4, row.dim)


@each
@pytest.mark.parametrize("law", [STANDARD_NORMAL, UNIFORM, LOG_EXPONENTIAL], ids=lambda law: law.name)
def test_every_draw_has_the_law(row, law):
    z = row.make(8, groups=2).sample(N, row.dim, generator(1), law=law)
    expected, weight = law.quadrature(60, 1)
    mean = float((weight.exp() * expected[:, 0]).sum())
    sd = math.sqrt(float((weight.exp() * (expected[:, 0] - mean) ** 2).sum()))
    assert ((z.mean(0) - mean).abs() < Z * sd / N**0.5).all()
    # Rows are independent, so the distribution of one draw of one group can be tested against the law's quantiles.
    u = torch.rand(200_000, generator=generator(2), dtype=torch.float64).clamp(1e-15, 1 - 1e-15)
    sample = law.quantile(u).numpy()
    assert stats.ks_2samp(z[:, 1, 3, -1].numpy(), sample).pvalue > 1e-4


@each
def test_groups_are_independent(row):
    z = row.make(8, groups=2).sample(N, row.dim, generator(3))
    for transform in (lambda x: x, torch.abs, torch.exp):
        value = transform(z).mean(2)  # the group averages a score multiplies
        a, b = ((side - side.mean(0)) / side.std(0) for side in value.unbind(1))
        assert ((a * b).mean(0).abs() < Z / N**0.5).all()


@each
def test_averages_over_a_group_are_balanced_if_claimed(row):
    z = row.make(16, groups=2).sample(N, row.dim, generator(4))
    variance = torch.exp(0.5 * z).mean(2).var(0).mean()
    independent = torch.exp(0.5 * iid(16, groups=2).sample(N, row.dim, generator(5))).mean(2).var(0).mean()
    assert bool(variance < 0.5 * independent) is row.balanced


@each
def test_reproducible_and_without_global_state(row):
    before = torch.random.get_rng_state()
    design = row.make(8, groups=2)
    first, again, other = (design.sample(7, row.dim, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype(row, dtype):
    z = row.make(8, groups=2).sample(50, row.dim, generator(), dtype=dtype)
    assert z.dtype == dtype
    assert torch.isfinite(z).all()


@given(K=st.sampled_from([2, 4, 6, 8, 12]), seed=st.integers(0, 10**6))
def test_antithetic_pairs_are_mirrored(K, seed):
    z = antithetic(K).sample(5, 3, generator(seed))
    torch.testing.assert_close(z[:, :, 0], -z[:, :, 1], rtol=1e-12, atol=0)


def test_a_net_puts_one_point_into_every_cell():
    design = sobol(32, groups=2)
    u = torch.special.ndtr(design.sample(20, 1, generator()))
    cells = (u * 16).long().sort(dim=2).values[..., 0]
    assert torch.equal(cells, torch.arange(16).expand(20, 2, 16))


def test_no_latent():
    assert sobol(8).sample(3, 0, generator()).shape == (3, 2, 4, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: iid(7, groups=2), "7 draws do not fill 2 groups"),
        (lambda: iid(0), "0 draws"),
        (lambda: antithetic(6, groups=2), "3 a group; pairs need an even number"),
        (lambda: sobol(12), "6 a group; a Sobol net needs a power of two"),
        (lambda: shifted_grid(8).sample(5, 2, generator()), "cannot fill 2 latent dimensions; use sobol"),
        (lambda: sobol(4).sample(5, 10**5, generator()), "Sobol nets have up to"),
        (lambda: iid(4).sample(0, 2, generator()), "n = 0"),
        (lambda: Draws(0, 1, iid(1).scheme, "none"), "0 groups of 1"),
    ],
)
def test_bad_designs_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_no_generator():
    with pytest.raises(TypeError, match="generator is a NoneType"):
        sobol(4).sample(5, 1, None)


def model():
    column = lambda *values: torch.tensor(values, dtype=torch.float64)[:, None]  # noqa: E731
    kernel = QuadraticSoftmax(column(0.0, 2.0, -2.0), column(0.0, 1.5, 0.5)).requires_grad_(requires_grad=False)
    return Marginal(Gaussian(1, log_scale=-0.4), kernel)


def test_scores_refuse_designs_without_the_independence_they_need():
    with pytest.raises(ValueError, match="cross_fitted needs 2 or more independent groups of draws, got 1"):
        model().psi(cross_fitted, draws=sobol(8, groups=1))
    with pytest.raises(ValueError, match=r"two_sample needs 2 independent groups of draws, got 8"):
        model().psi(two_sample, draws=8)
    for score in (plug_in, single_draw):
        assert model().psi(score, draws=sobol(8, groups=1)).names == ("log_scale",)


@pytest.mark.parametrize("share", [lambda z: z, lambda z: -z], ids=["copied", "mirrored"])
def test_groups_that_share_draws_are_refused(share):
    m, x = model(), torch.rand(200, 1, generator=generator(), dtype=torch.float64)
    data = m.sample(x, iid(8, groups=2), generator(1))
    data["z"][:, 1] = share(data["z"][:, 0])
    with pytest.raises(eeqs.DataError, match=r'draws 0 and 4 of "z" are equal or mirrored.* groups 0 and 1'):
        eeqs.estimate(m.psi(two_sample, draws=iid(8, groups=2)), data)
    # Antithetic draws unrolled into independent ones have the right shape for them, and are found out.
    data = m.sample(x, antithetic(8), generator(1))
    data["z"] = data["z"].flatten(1, 2)
    with pytest.raises(eeqs.DataError, match=r"draws 0 and 1 .*must be independent"):
        eeqs.estimate(m.psi(cross_fitted, draws=8), data)


@pytest.mark.parametrize("design", [antithetic(8), sobol(8), sobol(16, groups=4), shifted_grid(8)], ids=str)
def test_a_group_enters_by_the_log_of_its_mean_probability(design):
    m, x = model(), torch.rand(20, 1, generator=generator(), dtype=torch.float64)
    data = m.sample(x, design, generator(1))
    log_p = m.log_prob(x, data["z"])
    means = log_p.unflatten(0, (design.groups, design.size)).exp().mean(1).log()
    weights = torch.full((design.groups,), -math.log(design.groups), dtype=torch.float64)
    expected = cross_fitted.loss(means, means, data["y"], weights).mean()
    torch.testing.assert_close(m.loss(cross_fitted, x, data["y"], data["z"]), expected, rtol=1e-12, atol=1e-14)
    exact = m.loss(plug_in, x, data["y"], data["z"].reshape(20, len(design), 1))
    torch.testing.assert_close(m.loss(plug_in, x, data["y"], data["z"]), exact, rtol=1e-12, atol=1e-14)
    raw = m.loss(single_draw, x, data["y"], data["z"].reshape(20, len(design), 1))
    torch.testing.assert_close(m.loss(single_draw, x, data["y"], data["z"]), raw, rtol=1e-12, atol=1e-14)
