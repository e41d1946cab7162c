"""Normal responses: the marginal in closed form, maximum likelihood, and bad arguments."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.func import functional_call

import eeqs
from eeqs.marginal.kernels import GaussianResponse, LinearGaussian
from eeqs.marginal.laws import gauss_hermite
from eeqs.marginal.network import Network

WEIGHT, BIAS, LOG_SCALE = torch.tensor([0.8, -0.5, 1.2], dtype=torch.float64), 0.3, -0.4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel():
    return LinearGaussian(WEIGHT, BIAS, LOG_SCALE).requires_grad_(False)


FACTORS = {
    "isotropic": 0.7 * torch.eye(3, dtype=torch.float64),
    "diagonal": torch.diag(torch.tensor([0.2, 0.9, 0.0], dtype=torch.float64)),
    "low rank": normal(3, 2, seed=5),
    "none": torch.zeros(3, 1, dtype=torch.float64),
}
each_factor = pytest.mark.parametrize("factor", FACTORS.values(), ids=FACTORS)


@each_factor
def test_marginal_equals_the_average_of_the_density_over_the_noise(factor):
    x, y = normal(6, 3, seed=1), normal(6, seed=2)
    z, log_weight = gauss_hermite(40, factor.shape[1])
    log_density = kernel().log_density(x + (z @ factor.mT)[:, None], y)
    expected = (log_density + log_weight[:, None]).logsumexp(dim=0)
    torch.testing.assert_close(kernel().marginal_log_density(x, y, factor @ factor.mT), expected, rtol=1e-7, atol=1e-7)


@each_factor
def test_marginal_equals_the_joint_normal_law_of_noise_and_error(factor):
    # y is a coordinate of a normal vector whose others, the embedding, are integrated out.
    rows = torch.cat([torch.eye(3, dtype=torch.float64), WEIGHT[None]])
    joint = (rows @ factor @ factor.mT @ rows.mT).numpy()
    joint[3, 3] += math.exp(2 * LOG_SCALE)
    x, y = normal(3, seed=1), normal(6, seed=2)
    expected = stats.multivariate_normal((rows @ x).numpy()[3:] + BIAS, joint[3:, 3:]).logpdf(y.numpy())
    np.testing.assert_allclose(kernel().marginal_log_density(x, y, factor @ factor.mT), expected, rtol=1e-12)


def test_marginal_without_noise_is_the_density():
    x, y = normal(6, 3, seed=1), normal(2, 6, seed=2)
    without = kernel().marginal_log_density(x, y, torch.zeros(3, 3, dtype=torch.float64))
    torch.testing.assert_close(without, kernel().log_density(x, y))


@given(st.integers(0, 10**6))
def test_marginal_takes_a_covariance_for_each_observation(seed):
    x, y, factor = normal(4, 3, seed=seed), normal(4, seed=seed + 1), normal(4, 3, 3, seed=seed + 2)
    together = kernel().marginal_log_density(x, y, factor @ factor.mT)
    alone = [kernel().marginal_log_density(x[i], y[i], factor[i] @ factor[i].mT) for i in range(4)]
    torch.testing.assert_close(together, torch.stack(alone))


class Marginally(nn.Module):
    """Negative marginal log-density under known noise, as the forward of a module."""

    def __init__(self, covariance):
        super().__init__()
        self.kernel, self.covariance = kernel(), covariance

    def forward(self, x, y):
        return -self.kernel.marginal_log_density(x, y, self.covariance)


def test_maximum_likelihood_under_known_noise_is_least_squares():
    x = normal(300, 3, seed=1)
    covariance = 0.25 * torch.eye(3, dtype=torch.float64)
    y = kernel().response(x + 0.5 * normal(300, 3, seed=2), normal(300, seed=3))
    module = Marginally(covariance)

    def loss(theta, data):
        values = {"mean.weight": theta[:3], "mean.bias": theta[3], "log_scale": theta[4]}
        return functional_call(module, {f"kernel.{k}": v for k, v in values.items()}, (data["x"], data["y"]))

    start = torch.tensor([*WEIGHT.tolist(), BIAS, LOG_SCALE], dtype=torch.float64)
    result = eeqs.estimate(eeqs.from_loss(loss), {"x": x, "y": y}, start)
    least_squares = sm.OLS(y.numpy(), sm.add_constant(x.numpy())).fit()
    np.testing.assert_allclose(result.params[:4], least_squares.params[[1, 2, 3, 0]], rtol=1e-7)
    # What the noise does not explain of the residual variance is left to the scale of the kernel.
    w = result.params[:3].to_numpy()
    left = np.mean(least_squares.resid**2) - 0.25 * w @ w
    np.testing.assert_allclose(result.params.iloc[4], 0.5 * np.log(left), rtol=1e-7)


def test_parameters_are_named():
    assert [name for name, _ in kernel().named_parameters()] == ["log_scale", "mean.weight", "mean.bias"]


def test_a_response_without_noise_of_its_own_can_be_simulated():
    x, u = normal(6, 3, seed=1), normal(6, seed=2)
    response = GaussianResponse(3, Network.random((3, 4, 1), torch.Generator().manual_seed(0)), -math.inf)
    torch.testing.assert_close(response.response(x, u), response.location(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LinearGaussian(torch.zeros(2, 3)), ValueError, r"weight has shape \(2, 3\)"),
        (lambda: LinearGaussian(torch.tensor(1.0)), ValueError, r"weight has shape \(\)"),
        (lambda: LinearGaussian(torch.zeros(2), torch.zeros(2)), ValueError, r"bias \(2,\)"),
        (lambda: LinearGaussian(torch.zeros(2), 0.0, torch.zeros(2)), ValueError, r"log_scale has shape \(2,\)"),
        (lambda: LinearGaussian(torch.zeros(0)), ValueError, "dim is 0"),
        (lambda: GaussianResponse(2, torch.tanh), TypeError, "mean is a builtin_function_or_method"),
    ],
)
def test_arguments_are_checked(make, error, message):
    with pytest.raises(error, match=message):
        make()
