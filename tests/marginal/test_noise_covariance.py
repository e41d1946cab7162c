"""Noise with an over-parameterised factor, reported through its covariance."""

import numpy as np
import pytest
import torch

import eeqs
from eeqs.marginal import Gaussian, LowRank, Marginal, QuadraticSoftmax, exact
from eeqs.marginal.noise_covariance import noise_covariance


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def kernel(dim):
    return QuadraticSoftmax(2 * normal(6, dim, seed=3), 0.5 * normal(6, dim, seed=2)).requires_grad_(False)


def with_factor(factor):
    factor = torch.as_tensor(factor, dtype=torch.float64)
    return Marginal(LowRank(factor), kernel(len(factor)))


def sample(model, n, seed):
    draw = generator(seed)
    x = 1.2 * torch.randn(n, model.perturbation.dim, generator=draw, dtype=torch.float64)
    return {"x": x, "y": model.simulate(x, draw)}


def rotated(model, seed):
    """The same law, with the factor turned."""
    factor = model.perturbation.factor.detach()
    return with_factor(factor @ torch.linalg.qr(normal(factor.shape[1], factor.shape[1], seed=seed))[0])


def test_standard_errors_of_sigma_are_those_of_monte_carlo():
    """Two columns for one dimension, 60 replicates: within four standard errors of a Monte Carlo sd, and mean."""
    truth = with_factor([[0.7, 0.4]])
    fits = [noise_covariance(truth, exact(6), sample(truth, 400, 100 + r)).entries for r in range(60)]
    estimates = np.array([fit.params.iloc[0] for fit in fits])
    errors = np.array([fit.bse.iloc[0] for fit in fits])
    spread = estimates.std(ddof=1)
    assert abs(estimates.mean() - 0.65) < 4 * spread / np.sqrt(60)
    assert abs(np.sqrt((errors**2).mean()) - spread) < 4 * spread / np.sqrt(2 * 59)
    covered = (np.abs(estimates - 0.65) < 1.96 * errors).mean()
    assert abs(covered - 0.95) < 4 * np.sqrt(0.05 * 0.95 / 60)


def test_sigma_does_not_depend_on_the_rotation_of_the_start():
    truth = with_factor([[0.9, 0.0], [0.3, 0.7]])
    data = sample(truth, 900, 1)
    here, there = (noise_covariance(model, exact(14), data) for model in (truth, rotated(truth, 5)))
    # Equal up to the error of the quadrature, which a rotation changes.
    assert (np.abs(here.entries.params - there.entries.params) < 0.1 * here.entries.bse).all()
    np.testing.assert_allclose(here.entries.bse, there.entries.bse, rtol=0.05)
    assert list(here.entries.params.index) == ["sigma[0,0]", "sigma[1,0]", "sigma[1,1]"]
    assert (np.abs(here.entries.params - [0.81, 0.27, 0.58]) < 4 * here.entries.bse).all()


def test_one_column_is_the_plain_delta_method():
    truth = with_factor([[0.8]])
    data = sample(truth, 500, 2)
    plain = eeqs.estimate(truth.psi(exact(10)), data).delta(lambda b: b[0] ** 2)
    found = noise_covariance(truth, exact(10), data).entries
    np.testing.assert_allclose(found.params, plain.params, rtol=1e-8)
    np.testing.assert_allclose(found.bse, plain.bse, rtol=1e-6)


def test_entries_of_the_factor_are_refused_by_name_and_rotation_invariants_are_not():
    truth = with_factor([[0.7, 0.4]])
    fit = noise_covariance(truth, exact(8), sample(truth, 500, 3))
    with pytest.raises(eeqs.NotEstimableError, match=r"factor\[0,0\], factor\[0,1\]"):
        fit.delta(lambda b: b["factor[0,0]"])
    length = fit.delta(lambda b: (b["factor[0,0]"] ** 2 + b["factor[0,1]"] ** 2).sqrt())
    np.testing.assert_allclose(length.params.iloc[0] ** 2, fit.entries.params.iloc[0])
    np.testing.assert_allclose(2 * length.params * length.bse, fit.entries.bse.to_numpy())


def test_a_free_kernel_is_estimated_beside_it():
    model = with_factor([[0.7, 0.4]])
    bias = QuadraticSoftmax(model.kernel.weight.detach(), model.kernel.square_weight.detach(), torch.zeros(6).double())
    bias.weight.requires_grad_(False)
    bias.square_weight.requires_grad_(False)
    bias.bias.requires_grad_(True)
    free = Marginal(model.perturbation, bias)
    found = noise_covariance(free, exact(6), sample(model, 600, 3))
    assert abs(found.entries.params.iloc[0] - 0.65) < 4 * found.entries.bse.iloc[0]
    with pytest.raises(eeqs.NotEstimableError):  # biases are identified up to a shift
        found.delta(lambda b: b["kernel.bias[0]"])
    assert found.delta(lambda b: b["kernel.bias[0]"] - b["kernel.bias[1]"]).bse.iloc[0] > 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_truth_of_lower_rank_is_refused(seed):
    """Two columns fitted where one is true: intervals of first order would not cover."""
    data = sample(with_factor([[0.8], [0.5]]), 500, seed)
    start = with_factor([[0.8, 0.2], [0.5, -0.3]])
    with pytest.raises((eeqs.NotEstimableError, eeqs.SolverError), match="rank"):
        noise_covariance(start, exact(8), data)


def test_noise_without_a_factor_is_refused():
    model = Marginal(Gaussian(1, log_scale=0.0), kernel(1))
    with pytest.raises(TypeError, match="no learnable factor"):
        noise_covariance(model, exact(8), sample(model, 60, 1))
