import math

import pytest
import torch

from eeqs.marginal import Contextual, Gaussian, Identity


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gaussian_adds_noise_of_the_stated_scale():
    prefix = normal(1, 3)
    z = normal(20_000, 3, seed=1)
    noise = Gaussian(3, [math.log(0.5), math.log(2.0), 0.0])(prefix, z) - prefix
    expected = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    error = expected / (2 * 20_000) ** 0.5
    assert ((noise.std(0) - expected).abs() < 4 * error).all()


def test_isotropic_is_diagonal_with_equal_scales():
    prefix, z = normal(4, 3), normal(4, 3, seed=1)
    assert torch.equal(Gaussian(3, -0.7)(prefix, z), Gaussian(3, [-0.7] * 3)(prefix, z))


def test_contextual_scale_by_hand():
    family = Contextual(2, bias=[0.1, -0.2], weight=[0.5, 0.7], depends_on=[[False, True], [True, False]])
    prefix = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    z = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    expected = [2 + math.exp(0.1 + 0.5 * 3), 3 - math.exp(-0.2 + 0.7 * 2)]
    assert family(prefix, z)[0].tolist() == pytest.approx(expected, rel=1e-14)


def test_contextual_without_dependence_is_diagonal_gaussian():
    prefix, z = normal(4, 2), normal(4, 2, seed=1)
    family = Contextual(2, bias=[0.1, -0.2], depends_on=torch.zeros(2, 2, dtype=torch.bool))
    assert len(family.weight) == 0
    torch.testing.assert_close(family(prefix, z), Gaussian(2, [0.1, -0.2])(prefix, z), rtol=1e-15, atol=0)


def test_minus_infinity_is_a_boundary_with_zero_gradient():
    family = Gaussian(2, -math.inf)
    family(normal(4, 2), normal(4, 2, seed=1)).sum().backward()
    assert family.log_scale.grad == 0


def test_the_given_tensor_is_not_shared():
    scale = torch.zeros(2, dtype=torch.float64)
    family = Gaussian(2, scale)
    scale += 1
    assert family.log_scale.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Identity(0), "dim is 0"),
        (lambda: Gaussian(2, [0.0] * 3), "log_scale has shape \\(3,\\)"),
        (lambda: Gaussian(0), "dim = 0"),
        (lambda: Contextual(0), "dim is 0"),
        (lambda: Contextual(2, bias=[0.0] * 3), "bias has shape \\(3,\\); pass one number or 2"),
        (lambda: Contextual(2, weight=[0.0] * 3), "weight has shape \\(3,\\); pass one number or 4"),
        (lambda: Contextual(2, depends_on=[[True, False]]), "depends_on is torch.bool of shape \\(1, 2\\)"),
        (lambda: Contextual(2, depends_on=torch.ones(2, 2)), "depends_on is torch.float32"),
    ],
)
def test_bad_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()
