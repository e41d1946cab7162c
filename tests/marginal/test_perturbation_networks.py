"""Families with networks against numpy loops, autograd Jacobians and integrals of their density."""

import numpy as np
import pytest
import torch
from perturbing import assert_mean, draws, generic, noise, normal, rng
from scipy import stats

from eeqs.marginal import Contextual, Flow, Gaussian, Pushforward


def running(prefix):
    """Embedding and mean of the embeddings so far, by a loop."""
    means = np.stack([prefix[..., : t + 1, :].mean(axis=-2) for t in range(prefix.shape[-2])], axis=-2)
    return np.concatenate([prefix, means], axis=-1)


def two_layers(network, x):
    (first, second), (a, b) = network.weights, network.biases
    first, second, a, b = (value.detach().numpy() for value in (first, second, a, b))
    return np.tanh(x @ first.T + a) @ second.T + b


@pytest.mark.parametrize("sequence", [False, True])
def test_contextual_by_hand(sequence):
    family = generic(Contextual(2, (4,), generator=rng(), sequence=sequence))
    prefix, z = normal(3, 5, 2), normal(3, 5, 2, seed=1)
    context = running(prefix.numpy()) if sequence else prefix.numpy()
    log_scale, shift = np.split(two_layers(family.network, context), 2, axis=-1)
    expected = prefix.numpy() + shift + np.exp(log_scale) * z.numpy()
    np.testing.assert_allclose(family(prefix, z).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("make", [Contextual, Flow])
def test_networks_start_as_isotropic_noise(make):
    prefix, z = normal(4, 3), normal(4, 3, seed=1)
    family = make(3, generator=rng(), log_scale=-0.7)
    torch.testing.assert_close(family(prefix, z), Gaussian(3, -0.7)(prefix, z), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("sequence", [False, True])
def test_pushforward_by_hand_and_its_start(sequence):
    family = Pushforward(2, (4,), generator=rng(), latent_dim=3, sequence=sequence)
    prefix, z = normal(3, 5, 2), normal(3, 5, 3, seed=1)
    context = running(prefix.numpy()) if sequence else prefix.numpy()
    expected = prefix.numpy() + two_layers(family.network, np.concatenate([context, z.numpy()], axis=-1))
    np.testing.assert_allclose(family(prefix, z).detach().numpy(), expected, rtol=1e-12)
    size = (family(prefix, z) - prefix).detach().square().mean().sqrt()
    assert 0.01 < size < 0.2


def test_activation_is_the_callers():
    prefix, z = normal(4, 2), normal(4, 2)
    gelu, tanh = (Pushforward(2, (4,), generator=rng(), activation=a) for a in (torch.nn.functional.gelu, torch.tanh))
    assert not torch.allclose(gelu(prefix, z), tanh(prefix, z))


@pytest.mark.parametrize("make", [Contextual, Pushforward, Flow])
def test_networks_read_no_global_random_state_and_refuse_a_vector_as_a_sequence(make):
    before = torch.get_rng_state()
    first, again = make(3, generator=rng(5)), make(3, generator=rng(5))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"needs \(\.\.\., T, d\)"):
        make(3, generator=rng(), sequence=True)(normal(3), normal(3))


@pytest.mark.parametrize(("dim", "layers"), [(1, 1), (1, 3), (2, 2), (3, 4), (4, 3)])
@pytest.mark.parametrize("sequence", [False, True])
def test_flow_inverse_and_density_by_change_of_variables(dim, layers, sequence):
    family = generic(Flow(dim, layers, (4,), generator=rng(), sequence=sequence))
    prefix, z = normal(6, dim), normal(6, dim, seed=1)
    value = family(prefix, z).detach()
    found, log_det = (part.detach() for part in family.inverse(value, prefix))
    log_density = family.log_density(value, prefix).detach()
    torch.testing.assert_close(found, z, rtol=1e-10, atol=1e-10)
    jacobian = torch.func.jacrev(family, argnums=1)(prefix, z).detach()
    for t in range(6):
        # Position t reads its own latent only, so the Jacobian is block diagonal.
        expected = -np.linalg.slogdet(jacobian[t, :, t].numpy())[1]
        assert float(log_det[t]) == pytest.approx(expected, rel=1e-10, abs=1e-12)
        of_latent = stats.norm.logpdf(z[t].numpy()).sum()
        assert float(log_density[t]) == pytest.approx(of_latent + expected, rel=1e-10)


@pytest.mark.parametrize(("dim", "points"), [(1, 30_001), (2, 801)])
def test_flow_density_integrates_to_one_and_is_that_of_its_draws(dim, points):
    family = generic(Flow(dim, 4, (4,), generator=rng(), log_scale=-0.5))
    prefix = normal(dim)
    line = torch.linspace(-15, 15, points, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(*[line] * dim, indexing="ij"), dim=-1)
    density = family.log_density(grid, prefix).detach().exp()
    cell = (30 / (points - 1)) ** dim
    assert float(density.sum()) * cell == pytest.approx(1, abs=1e-6)
    drawn = family(prefix, draws(family)).detach()
    for function in (torch.sin, torch.tanh, torch.square):
        expected = (density[..., None] * function(grid)).reshape(-1, dim).sum(dim=0) * cell
        assert_mean(function(drawn).numpy(), expected.numpy())


def test_flow_is_not_gaussian_once_it_leaves_its_start():
    family = generic(Flow(2, 6, (8,), generator=rng()), seed=11)
    found = noise(family, normal(2))
    assert min(stats.normaltest(found[:, j]).pvalue for j in range(2)) < 1e-6
