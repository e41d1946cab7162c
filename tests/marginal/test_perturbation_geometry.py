"""Families that keep to a set: the hull of a table, and the sphere through the embedding."""

import math

import numpy as np
import pytest
import torch
from perturbing import N, assert_law, draws, normal
from scipy import special, stats

from eeqs.marginal import LOG_EXPONENTIAL, Hull, Rotation
from eeqs.marginal.perturbations import hull

TABLE = normal(40, 3, seed=2)


def test_hull_finds_the_nearest_rows():
    prefix = normal(7, 5, 3, seed=9)
    distance = ((prefix.numpy()[..., None, :] - TABLE.numpy()) ** 2).sum(axis=-1)
    expected = np.argsort(distance, axis=-1)[..., :6]
    np.testing.assert_array_equal(Hull(TABLE, 6).nearest(prefix).numpy(), expected)


def test_hull_searches_in_blocks(monkeypatch):
    prefix, z = normal(7, 3, seed=9), normal(2, 7, 6)
    whole, largest = Hull(TABLE, 6)(prefix, z), []
    monkeypatch.setattr(hull, "_BLOCK", 100)
    topk = torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda x, *a, **k: largest.append(x.numel()) or topk(x, *a, **k))
    torch.testing.assert_close(Hull(TABLE, 6)(prefix, z), whole, rtol=1e-12, atol=1e-12)
    assert len(largest) == 4
    assert max(largest) <= 100


def test_hull_by_hand():
    family = Hull(TABLE, 3, log_weight=[-0.4, 0.3], log_scale=-0.2, log_temperature=0.5)
    prefix, z = normal(3, seed=9), normal(3, seed=1)
    distance = ((prefix.numpy() - TABLE.numpy()) ** 2).sum(axis=-1)
    near = np.argsort(distance)[:3]
    weight = special.softmax(np.array([0, -0.4, 0.3]) - distance[near] / math.exp(0.5) + math.exp(-0.2) * z.numpy())
    np.testing.assert_allclose(family.weights(prefix, z).detach().numpy(), weight, rtol=1e-12)
    np.testing.assert_allclose(family(prefix, z).detach().numpy(), weight @ TABLE.numpy()[near], rtol=1e-12)


@pytest.mark.parametrize("law", [Hull(TABLE, 2).latent_law, LOG_EXPONENTIAL], ids=["normal", "log_exponential"])
@pytest.mark.parametrize("prefix", [TABLE[4], 100 * normal(3)])
def test_hull_stays_inside_the_hull(law, prefix):
    family = Hull(TABLE, 5, log_scale=1.0, log_temperature=2.0, law=law)
    z = draws(family, 500)
    weight, rows = family.weights(prefix, z).detach(), TABLE[family.nearest(prefix)]
    assert (weight >= 0).all()
    torch.testing.assert_close(weight.sum(dim=-1), torch.ones(500, dtype=torch.float64), rtol=1e-14, atol=0)
    torch.testing.assert_close(family(prefix, z).detach(), weight @ rows, rtol=1e-12, atol=1e-12)


def test_hull_weights_are_logistic_normal_or_dirichlet():
    flat = {"log_temperature": 50.0}  # distances count for nothing
    family = Hull(TABLE, 4, log_weight=[0.5, 0.0, -0.5], log_scale=math.log(0.7), **flat)
    weight = family.weights(TABLE[0], draws(family)).detach().numpy()
    for j, a in enumerate((0.5, 0.0, -0.5), start=1):
        assert_law(np.log(weight[:, j] / weight[:, 0]), stats.norm(a, 0.7 * 2**0.5))
    family = Hull(TABLE, 4, law=LOG_EXPONENTIAL, **flat)
    weight = family.weights(TABLE[0], draws(family)).detach().numpy()
    for j in range(4):
        assert_law(weight[:, j], stats.beta(1, 3))


def test_hull_of_single_precision_table():
    family = Hull(TABLE.float(), 3).to(torch.bfloat16)
    out = family(TABLE[:4].bfloat16(), normal(4, 3).bfloat16())
    assert out.dtype == torch.bfloat16
    mixed = Hull(TABLE.float(), 3)
    assert mixed.table.dtype == torch.float32
    assert mixed(TABLE[:4], normal(4, 3)).dtype == torch.float64


def test_rotation_keeps_the_length_and_zero():
    family, prefix = Rotation(4, 0.5), normal(200, 4) * torch.logspace(-6, 6, 200, dtype=torch.float64)[:, None]
    out = family(prefix, normal(200, 4, seed=1)).detach()
    torch.testing.assert_close(out.norm(dim=-1), prefix.norm(dim=-1), rtol=1e-13, atol=0)
    assert torch.equal(family(torch.zeros(4).double(), normal(4)), torch.zeros(4).double())


def test_rotation_angle_is_chi_and_its_direction_uniform():
    prefix, scale = 3 * normal(4), 0.2
    out = Rotation(4, math.log(scale))(prefix, normal(N, 4, seed=1)).detach()
    cosine = (out @ prefix / prefix.square().sum()).clamp(-1, 1)
    assert_law(cosine.arccos().numpy() / scale, stats.chi(3))
    tangent = out - cosine[:, None] * prefix
    basis = torch.linalg.svd(prefix[None])[2][1:]
    inside = (tangent @ basis.mT).numpy()
    inside /= np.linalg.norm(inside, axis=1, keepdims=True)
    for j in range(3):
        assert_law(inside[:, j], stats.uniform(-1, 2))  # a coordinate of a uniform point on the sphere of R^3


def test_rotation_of_small_scale_is_nearly_von_mises_fisher():
    prefix, scale = normal(3), 0.1
    out = Rotation(3, math.log(scale))(prefix, normal(N, 3, seed=1)).detach()
    cosine = (out @ prefix / prefix.square().sum()).numpy()
    kappa = scale**-2
    concentration = 1 / math.tanh(kappa) - 1 / kappa
    assert abs(cosine.mean() - concentration) < 4 * cosine.std() / N**0.5 + scale**4
    reference = stats.vonmises_fisher([0, 0, 1], kappa).rvs(N, random_state=np.random.default_rng(1))[:, 2]
    assert abs(np.log(1 - cosine).mean() - np.log(1 - reference).mean()) < 4 * (2 / N) ** 0.5 * 1.3 + scale**2


@pytest.mark.parametrize("angle", [1e-8, 0.05, 0.0999, 0.1, 0.1001, 1.0, 3.0])
def test_rotation_series_meets_the_functions(angle):
    """In the plane g is (cos, sin) of the angle, with two derivatives, on both sides of the switch to the series."""
    prefix, z = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    family, at = Rotation(2), torch.tensor(angle, dtype=torch.float64)

    def rotated(x):
        return torch.func.functional_call(family, {"log_scale": x.log()}, (prefix, z))

    slope = torch.func.jacfwd(rotated)
    cosine, sine = math.cos(angle), math.sin(angle)
    np.testing.assert_allclose(rotated(at).detach(), [cosine, sine], rtol=1e-14)
    np.testing.assert_allclose(slope(at).detach(), [-sine, cosine], rtol=1e-12)
    np.testing.assert_allclose(torch.func.jacfwd(slope)(at).detach(), [-cosine, -sine], rtol=1e-7, atol=1e-7)
