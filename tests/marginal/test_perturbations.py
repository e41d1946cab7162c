"""Families of additive noise, gates and fixed designs against formulas and laws; the contract is in tests/contract."""

import math

import numpy as np
import pytest
import torch
from perturbing import N, assert_law, assert_mean, draws, noise, normal, rng
from scipy import special, stats

from eeqs.marginal import (
    Affine,
    Contextual,
    Dropout,
    Flow,
    Gaussian,
    Hull,
    Identity,
    LogLinear,
    LowRank,
    NEFTune,
    PerToken,
    Pushforward,
    Rotation,
    UniformBall,
)
from eeqs.marginal.parameters import labels


def test_gaussian_adds_noise_of_the_stated_scale():
    found = noise(Gaussian(3, [math.log(0.5), math.log(2.0), 0.0]), normal(3))
    for j, scale in enumerate((0.5, 2.0, 1.0)):
        assert_law(found[:, j], stats.norm(0, scale))


def test_isotropic_is_diagonal_with_equal_scales():
    prefix, z = normal(4, 3), normal(4, 3, seed=1)
    assert torch.equal(Gaussian(3, -0.7)(prefix, z), Gaussian(3, [-0.7] * 3)(prefix, z))


def test_scale_and_log_scale_are_one_family():
    prefix, z = normal(4, 3), normal(4, 3, seed=1)
    by_scale, by_log = Gaussian(3, scale=[0.5, 2.0, 1.0]), Gaussian(3, np.log([0.5, 2.0, 1.0]))
    torch.testing.assert_close(by_scale(prefix, z), by_log(prefix, z), rtol=1e-14, atol=0)
    torch.testing.assert_close(by_scale.sigma(), by_log.sigma(), rtol=1e-14, atol=0)
    assert (labels(Gaussian(3, scale=0.1)), labels(Gaussian(3))) == (("scale",), ("log_scale",))


def test_zero_scale_is_a_point_like_any_other_and_minus_infinity_a_dead_end():
    prefix, z = normal(4, 2), normal(4, 2, seed=1)
    boundary, dead = Gaussian(2, scale=0.0), Gaussian(2, -math.inf)
    for family in (boundary, dead):
        family(prefix, z).sum().backward()
    torch.testing.assert_close(boundary.scale.grad, z.sum())
    assert dead.log_scale.grad == 0


def test_the_given_tensor_is_not_shared():
    scale = torch.zeros(2, dtype=torch.float64)
    family, factor = Gaussian(2, scale), normal(2, 2)
    low_rank = LowRank(factor)
    scale += 1
    factor += 1
    assert family.log_scale.tolist() == [0.0, 0.0]
    assert not torch.equal(low_rank.factor, factor)


def test_per_token_scale_belongs_to_the_position():
    family = PerToken(2, 3, np.log([0.5, 1.0, 2.0]))
    prefix, z = normal(5, 3, 2), normal(5, 3, 2, seed=1)
    expected = prefix.numpy() + np.array([0.5, 1.0, 2.0])[:, None] * z.numpy()
    np.testing.assert_allclose(family(prefix, z).detach().numpy(), expected, rtol=1e-14)
    short = family(prefix[:, :2], z[:, :2])
    np.testing.assert_allclose(short.detach().numpy(), expected[:, :2], rtol=1e-14)


def test_per_token_refuses_what_it_has_no_scale_for():
    with pytest.raises(ValueError, match="T at most 3"):
        PerToken(2, 3)(normal(4, 2), normal(4, 2))
    with pytest.raises(ValueError, match="prefix has shape \\(2,\\)"):
        PerToken(2, 3)(normal(2), normal(2))


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_low_rank_noise_has_its_covariance(rank):
    family = LowRank(normal(3, rank, seed=7))
    sigma = family.factor.detach().numpy() @ family.factor.detach().numpy().T
    np.testing.assert_allclose(family.covariance().detach().numpy(), sigma, rtol=1e-13, atol=1e-14)
    found = noise(family, normal(3))
    products = found[:, :, None] * found[:, None, :]
    assert_mean(products.reshape(N, 9), sigma.reshape(9))


def test_low_rank_factor_is_identified_up_to_rotation():
    factor, (rotation, _) = normal(3, 2, seed=7), torch.linalg.qr(normal(2, 2, seed=8))
    turned = LowRank(factor @ rotation)
    torch.testing.assert_close(turned.covariance(), LowRank(factor).covariance())
    z = normal(4, 2)
    torch.testing.assert_close(turned(normal(4, 3), z), LowRank(factor)(normal(4, 3), z @ rotation.mT))


def test_affine_by_hand():
    family = Affine(2, log_scale=[0.1, -0.2], shift=0.5, slope=[2.0, 3.0])
    found = family(torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0, -1.0]).double())
    assert found.tolist() == pytest.approx([2 + 0.5 + math.exp(0.1), 6 + 0.5 - math.exp(-0.2)], rel=1e-14)


def test_log_linear_scale_by_hand():
    family = LogLinear(2, bias=[0.1, -0.2], weight=[0.5, 0.7], depends_on=[[False, True], [True, False]])
    prefix = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    z = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    expected = [2 + math.exp(0.1 + 0.5 * 3), 3 - math.exp(-0.2 + 0.7 * 2)]
    assert family(prefix, z)[0].tolist() == pytest.approx(expected, rel=1e-14)


def test_log_linear_without_dependence_is_diagonal_gaussian():
    prefix, z = normal(4, 2), normal(4, 2, seed=1)
    family = LogLinear(2, bias=[0.1, -0.2], depends_on=torch.zeros(2, 2, dtype=torch.bool))
    assert len(family.weight) == 0
    torch.testing.assert_close(family(prefix, z), Gaussian(2, [0.1, -0.2])(prefix, z), rtol=1e-15, atol=0)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_uniform_ball(dim):
    found = noise(UniformBall(dim, 1.7), normal(dim)) / 1.7
    radius = np.linalg.norm(found, axis=1)
    assert_law(radius**dim, stats.uniform())
    assert_mean((found[:, :, None] * found[:, None, :]).reshape(N, -1), (np.eye(dim) / (dim + 2)).reshape(-1))
    assert_mean(found, 0.0)


def test_uniform_ball_at_a_latent_of_zero():
    assert torch.equal(UniformBall(2, 1.0)(normal(2), torch.zeros(4).double()), normal(2))


def test_neftune_is_uniform_in_its_cube():
    found = noise(NEFTune(4, alpha=5.0, length=9), normal(4))
    half = 5 / math.sqrt(9 * 4)
    assert np.abs(found).max() <= half
    for j in range(4):
        assert_law(found[:, j], stats.uniform(-half, 2 * half))


def test_hard_dropout_at_its_rate():
    family = Dropout(3, [0.1, 0.5, 0.8], temperature=0.0, inverted=True)
    assert list(family.parameters()) == []
    prefix = normal(3)
    out = family(prefix, draws(family)).numpy()
    for j, rate in enumerate((0.1, 0.5, 0.8)):
        assert set(np.unique(out[:, j])) == {0.0, np.unique(out[:, j])[np.abs(np.unique(out[:, j])).argmax()]}
        assert stats.binomtest(int((out[:, j] == 0).sum()), N, rate).pvalue > 1e-4
    assert_mean(out, prefix.numpy())


def test_relaxed_gates_are_binary_concrete():
    family = Dropout(2, 0.3, temperature=0.4)
    keep = family(torch.ones(2).double(), draws(family)).detach().numpy()
    assert_law(0.4 * special.logit(keep[:, 0]) + special.logit(0.3), stats.logistic())
    assert stats.binomtest(int((keep[:, 1] < 0.5).sum()), N, 0.3).pvalue > 1e-4


def test_token_masking_moves_the_whole_vector_to_the_mask():
    mask, prefix = normal(3, seed=4), normal(3)
    family = Dropout(3, 0.4, temperature=0.0, per_token=True, mask=mask)
    assert family.latent_dim == 1
    out = family(prefix, draws(family, 2000))
    masked = (out == mask).all(dim=-1)
    assert (masked | (out == prefix).all(dim=-1)).all()
    assert stats.binomtest(int(masked.sum()), 2000, 0.4).pvalue > 1e-4


def test_inverted_dropout_keeps_the_mean_with_a_mask_too():
    mask, prefix = normal(3, seed=4), normal(3)
    family = Dropout(3, 0.4, temperature=0.0, mask=mask, inverted=True)
    assert_mean(family(prefix, draws(family)).numpy(), prefix.numpy())


G = {"generator": rng()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Identity(0), "dim is 0"),
        (lambda: Gaussian(2, [0.0] * 3), "log_scale has shape \\(3,\\)"),
        (lambda: Gaussian(0), "dim is 0"),
        (lambda: Gaussian(2, 0.0, scale=1.0), "both given"),
        (lambda: Gaussian(2, scale=-0.1), "scale contains -0.1"),
        (lambda: Gaussian(2, math.nan), "log_scale contains nan"),
        (lambda: Gaussian(2, math.inf), "log_scale contains inf"),
        (lambda: Gaussian(2, scale=math.inf), "scale contains inf"),
        (lambda: PerToken(2, 0), "positions is 0"),
        (lambda: PerToken(2, 3, [0.0] * 2), "log_scale has shape \\(2,\\); pass one number or 3"),
        (lambda: LowRank(torch.zeros(3)), "factor has shape \\(3,\\)"),
        (lambda: LowRank(torch.full((2, 2), math.nan)), "finite"),
        (lambda: Affine(2, shift=[0.0] * 3), "shift has shape"),
        (lambda: Affine(2, slope=-math.inf), "slope contains -inf"),
        (lambda: LogLinear(0), "dim is 0"),
        (lambda: LogLinear(2, bias=[0.0] * 3), "bias has shape \\(3,\\); pass one number or 2"),
        (lambda: LogLinear(2, weight=[0.0] * 3), "weight has shape \\(3,\\); pass one number or 4"),
        (lambda: LogLinear(2, depends_on=[[True, False]]), "depends_on is torch.bool of shape \\(1, 2\\)"),
        (lambda: LogLinear(2, depends_on=torch.ones(2, 2)), "depends_on is torch.float32"),
        (lambda: Contextual(2, (0,), **G), "sizes is \\(2, 0, 4\\)"),
        (lambda: Contextual(2, log_scale=[0.0] * 3, **G), "log_scale has shape"),
        (lambda: Pushforward(2, latent_dim=0, **G), "latent_dim is 0"),
        (lambda: Flow(3, 1, **G), "layers is 1; 2 at least"),
        (lambda: Flow(1, 0, **G), "layers is 0; 1 at least"),
        (lambda: Hull(torch.zeros(3), 2), "table has shape \\(3,\\)"),
        (lambda: Hull(torch.zeros(3, 2), 4), "neighbours is 4; pass 2 to 3"),
        (lambda: Hull(torch.zeros(3, 2), 1), "neighbours is 1"),
        (
            lambda: Hull(torch.zeros(4, 2), 3, log_weight=[0.0] * 3),
            "log_weight has shape \\(3,\\); pass one number or 2",
        ),
        (lambda: Rotation(1), "dim is 1; this perturbation needs an embedding of dimension 2"),
        (lambda: UniformBall(2, -1.0), "radius is -1.0"),
        (lambda: NEFTune(2, -1.0, 5), "alpha is -1.0"),
        (lambda: NEFTune(2, 1.0, 0), "length 0"),
        (lambda: Dropout(2, 1.0), "rate is 1.0"),
        (lambda: Dropout(2, -0.1), "rate is -0.1"),
        (lambda: Dropout(2, [0.1] * 3), "rate has shape"),
        (lambda: Dropout(2, [0.1] * 2, per_token=True), "rate has shape \\(2,\\); pass one number or 1"),
        (lambda: Dropout(2, temperature=-1.0), "temperature -1.0"),
        (lambda: Dropout(2, mask=torch.zeros(3)), "mask has shape"),
    ],
)
def test_bad_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()
