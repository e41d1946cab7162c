"""Contract of the scores of a continuous response, whose rows stand in `test_score_families`."""

import numpy as np
import pytest
import torch
from test_score_families import RESPONSE_ROWS, equal_weights, model_with, simulator

import eeqs
from eeqs.marginal import Gaussian, LinearGaussian, Marginal, scores


def response_model():
    """A scale of noise before a frozen line, so that y given x is normal with a known variance."""
    kernel = LinearGaussian(torch.tensor([1.0, -0.5], dtype=torch.float64), 0.2, -1.0).requires_grad_(False)
    return Marginal(Gaussian(2, log_scale=-0.3), kernel)


each_response_case = pytest.mark.parametrize(
    ("name", "draws"), [(name, draws) for name, row in RESPONSE_ROWS.items() for draws in row.draws]
)


@pytest.mark.parametrize("name", RESPONSE_ROWS)
@pytest.mark.parametrize("K", [2, 3, 8])
def test_loss_of_responses_equals_a_naive_loop(name, K):
    generator = torch.Generator().manual_seed(0)
    simulated, y = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((K, 7), (7,)))
    loss = RESPONSE_ROWS[name].score.loss(simulated, simulated, y, equal_weights(K))
    expected = [RESPONSE_ROWS[name].reference(simulated[:, i].numpy(), float(y[i]), None) for i in range(7)]
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-13, atol=1e-13)


@each_response_case
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_claim_of_unbiasedness_for_responses(name, draws, shift):
    score, model = RESPONSE_ROWS[name].score, response_model()
    psi = model.psi(score, draws=draws)
    report = eeqs.check_unbiased(psi, model.theta + shift, simulator(model, draws), n=1_500, seed=1)
    assert report.passed is (score.unbiased and shift == 0), str(report)


@each_response_case
def test_gradient_of_the_training_loss_of_responses_is_minus_mean_psi(name, draws):
    score, model = RESPONSE_ROWS[name].score, response_model()
    data = simulator(model, draws)(50, torch.Generator().manual_seed(3))
    model.loss(score, data["x"], data["y"], data["z"], chunk=17).backward()
    psi = model.psi(score, draws=draws)
    values = psi(model.theta, {name: leaf.double() for name, leaf in data.items()})
    torch.testing.assert_close(model.perturbation.log_scale.grad, -values.mean(), rtol=1e-12, atol=1e-14)


def test_estimate_of_a_response_covers_the_truth():
    model = response_model()
    fit = eeqs.estimate(model.psi(scores.energy, draws=4), simulator(model, 4)(300, torch.Generator().manual_seed(4)))
    assert abs(float(fit.params.iloc[0] - model.theta[0])) < 4 * float(fit.bse.iloc[0])


def test_a_score_that_sums_over_classes_refuses_a_continuous_response():
    for score in (scores.cross_fitted, scores.two_sample, scores.quadratic):
        with pytest.raises(TypeError, match=f"{score.name} sums over all classes, and the response of LinearGaussian"):
            response_model().psi(score, draws=2)
    with pytest.raises(TypeError, match="energy needs a response on the real line"):
        model_with(Gaussian).psi(scores.energy, draws=2)
