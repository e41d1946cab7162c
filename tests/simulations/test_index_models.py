"""Responses to a linear index: estimating functions, population excess risk and information, by independent routes."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm
from torch import Tensor

from eeqs.marginal import Score, cross_fitted, exact, plug_in, quadratic
from simulations.designs.index_models import PerturbedLogit, Squares

SCALE = 4.0
N = 40_000


def _model(score: Score, draws: int = 4) -> PerturbedLogit:
    return PerturbedLogit(score, SCALE, 0 if score.nodes else draws)


def _tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _q(index: float, scale: float) -> float:
    """Marginal probability of class 1 by adaptive integration."""
    if scale == 0:
        return float(expit(index))
    return quad(lambda z: norm.pdf(z) * expit(index + scale * z), -10, 10, epsabs=1e-12, limit=200)[0]


@pytest.mark.parametrize("index", [-6.0, -1.0, 0.0, 2.5])
@pytest.mark.parametrize(("scale", "tolerance"), [(0.0, 1e-12), (1.0, 1e-9), (SCALE, 2e-4)])
def test_marginal_probability(index: float, scale: float, tolerance: float) -> None:
    model = PerturbedLogit(exact(40), scale)
    found = model.log_q(_tensor(index)).exp()[0]
    assert found.sum() == pytest.approx(1)
    assert float(found[1]) == pytest.approx(_q(index, scale), abs=tolerance)


def _reference_risk(signal: float, cross: float, fitted: float) -> float:
    """Excess log-loss of logistic regression, by the trapezoidal rule over the two indices."""
    root = np.linalg.cholesky([[signal, cross], [cross, fitted]])
    point = np.linspace(-8, 8, 801)
    true, estimate = np.einsum("ij,jab->iab", root, np.stack(np.meshgrid(point, point)))
    loss = np.logaddexp(0, estimate) - np.logaddexp(0, true) - expit(true) * (estimate - true)
    return float(norm.pdf(point) @ loss @ norm.pdf(point) * 0.02**2)


def test_excess_log_loss() -> None:
    cases = [(4.0, 3.2, 2.9), (4.0, 4.0, 4.3), (1.0, 0.2, 0.5)]
    model = PerturbedLogit(exact(1))
    for signal, cross, fitted in cases:
        found = float(model.excess_risk(signal, _tensor(cross), _tensor(fitted))[0])
        assert found == pytest.approx(_reference_risk(signal, cross, fitted), rel=1e-6)
    assert float(model.excess_risk(4.0, _tensor(4.0), _tensor(4.0))[0]) == pytest.approx(0, abs=1e-15)


def test_excess_risk_of_the_perturbed_logit_by_simulation() -> None:
    model, signal, cross, fitted = _model(exact(40)), 25.0, 18.0, 16.0
    rng = np.random.default_rng(0)
    pairs = rng.multivariate_normal([0, 0], [[signal, cross], [cross, fitted]], size=20_000)
    true, estimate = (model.log_q(torch.from_numpy(part)).numpy() for part in pairs.T.copy())
    values = np.sum(np.exp(true) * (true - estimate), axis=1)
    found = float(model.excess_risk(signal, _tensor(cross), _tensor(fitted))[0])
    assert abs(values.mean() - found) < 4 * values.std() / 20_000**0.5


def test_excess_squared_loss() -> None:
    assert float(Squares(0.3).excess_risk(4.0, _tensor(3.0), _tensor(2.5))[0]) == pytest.approx(2.5 - 6 + 4)


def test_residual_of_logistic_regression() -> None:
    model = PerturbedLogit(exact(1), trials=3)
    index = torch.linspace(-2, 3, 7, dtype=torch.float64)
    data = model.sample(index, 2, torch.Generator().manual_seed(0))
    assert data["y"].shape == (2, 3, 7)
    expected = data["y"].sum(dim=1) - 3 * torch.sigmoid(index)
    torch.testing.assert_close(model.residual(index.expand(2, 7), data), expected)


def test_exact_residual_is_the_derivative_of_the_log_probability() -> None:
    model = _model(exact(40))
    index = torch.linspace(-5, 5, 11, dtype=torch.float64)
    data = {"y": torch.ones(1, 1, 11, dtype=torch.long)}
    step = 1e-5
    finite = (model.log_q(index + step) - model.log_q(index - step))[:, 1] / (2 * step)
    torch.testing.assert_close(model.residual(index[None], data)[0], finite, rtol=1e-6, atol=1e-9)


def _t_at_truth(model: PerturbedLogit) -> float:
    """Standardised mean of psi along the true index, at the truth."""
    generator = torch.Generator().manual_seed(1)
    index = 5 * torch.randn(N, generator=generator, dtype=torch.float64)
    psi = model.residual(index[None], model.sample(index, 1, generator))[0] * index
    return float(psi.mean() / (psi.std() / N**0.5))


@pytest.mark.parametrize("score", [exact(40), cross_fitted, quadratic], ids=lambda score: score.name)
def test_unbiased_scores_have_mean_zero_at_the_truth(score: Score) -> None:
    assert abs(_t_at_truth(_model(score))) < 4  # one false alarm in 16,000


def test_plug_in_does_not() -> None:
    assert abs(_t_at_truth(_model(plug_in))) > 8


def test_information_is_the_variance_of_the_exact_residual() -> None:
    model = PerturbedLogit(exact(40), SCALE, trials=3)
    generator = torch.Generator().manual_seed(2)
    index = 5 * torch.randn(N, generator=generator, dtype=torch.float64)
    squares = model.residual(index[None], model.sample(index, 1, generator))[0] ** 2
    information, noise_variance, risk = model.linearised(25.0)
    assert abs(float(squares.mean()) - information) < 4 * float(squares.std()) / N**0.5 + 0.005 * information
    assert noise_variance == pytest.approx(1 / information)
    assert risk == pytest.approx(information / 6)


@pytest.mark.parametrize("score", [cross_fitted, quadratic], ids=lambda score: score.name)
def test_noise_of_a_score_with_draws_is_its_godambe_variance(score: Score) -> None:
    model, trials, half = PerturbedLogit(score, SCALE, 4, trials=2), 2, 1e-4
    generator = torch.Generator().manual_seed(3)
    index = 2**0.5 * torch.randn(N, generator=generator, dtype=torch.float64)
    data = model.sample(index, 1, generator)
    squares = model.residual(index[None], data)[0] ** 2
    moved = [model.residual(index[None] + step, data)[0] for step in (half, -half)]
    slopes = (moved[1] - moved[0]) / (2 * half)
    information, noise_variance, _ = model.linearised(2.0)
    variability = noise_variance * information**2
    for found, expected in ((squares, variability), (slopes, information)):
        assert abs(float(found.mean()) - expected) < 4 * float(found.std()) / N**0.5 + 0.005 * expected
    exact_noise = PerturbedLogit(exact(40), SCALE, trials=trials).linearised(2.0).noise_variance
    assert noise_variance > 1.1 * exact_noise  # four draws are not the integral


@pytest.mark.parametrize("score", [exact(9), cross_fitted], ids=lambda score: score.name)
def test_the_residual_is_the_sum_over_the_responses(score: Score) -> None:
    model = PerturbedLogit(score, SCALE, 0 if score.nodes else 4, trials=5)
    index = torch.linspace(-5, 5, 30, dtype=torch.float64)
    data = model.sample(index, 2, torch.Generator().manual_seed(5))
    parts = [
        model.residual(index.expand(2, -1), {name: part[..., t : t + 1, :] for name, part in data.items()})
        for t in range(5)
    ]
    torch.testing.assert_close(model.residual(index.expand(2, -1), data), sum(parts))


@pytest.mark.parametrize("model", [Squares(0.3), PerturbedLogit(exact(1)), _model(exact(40))])
def test_excess_risk_of_a_small_error_is_the_linearised_one(model: Squares | PerturbedLogit) -> None:
    # An error that is independent of the true index: u = v + error, c = v.
    found = float(model.excess_risk(4.0, _tensor(4.0), _tensor(4.0 + 1e-5))[0])
    assert found == pytest.approx(1e-5 * model.linearised(4.0).risk, rel=0.02)


def test_responses_do_not_depend_on_the_draws() -> None:
    index = torch.linspace(-5, 5, 50, dtype=torch.float64)
    plain, drawn = (_model(score).sample(index, 2, torch.Generator().manual_seed(4)) for score in (exact(9), quadratic))
    assert torch.equal(plain["y"], drawn["y"])
    assert drawn["z"].shape == (4, 2, 1, 50)


def test_bad_models_are_refused() -> None:
    for build, message in (
        (lambda: PerturbedLogit(exact(9), -1.0), "scale is -1"),
        (lambda: PerturbedLogit(exact(9), 1.0, draws=4), "4 draws for exact"),
        (lambda: PerturbedLogit(quadratic, 1.0), "0 draws for quadratic"),
        (lambda: PerturbedLogit(exact(9), 1.0, trials=0), "trials is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
