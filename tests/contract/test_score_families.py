"""Contract of every score: a Score in eeqs/marginal/scores.py needs one row here."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

import eeqs
from eeqs.marginal import Draws, Gaussian, LatentLaw, Marginal, QuadraticSoftmax, Score, iid, scores
from eeqs.marginal.draws import as_draws


@dataclass(frozen=True)
class Row:
    score: Score
    reference: Callable[[np.ndarray, int, np.ndarray], float]  # (l (K, V), y, log_weight (K,)) to a loss
    draws: tuple[int | Draws | None, ...] = (2, 4)  # None among them for a score that integrates
    reads_frozen: bool = False


def mixture(log_p, y, log_weight):
    return -logsumexp(log_p[:, y] + log_weight)


def mean_log(log_p, y, log_weight):
    return -float(np.sum(np.exp(log_weight) * log_p[:, y]))


def brier_u_statistic(log_p, y, _log_weight):
    K, V = log_p.shape
    p, hit = np.exp(log_p), np.arange(V) == y
    pairs = [(hit - p[j]) @ p[k] for j in range(K) for k in range(K) if j != k]
    return -float(np.sum(pairs)) / (K * (K - 1))


def leave_one_out(log_p, y, _log_weight):
    K, V = log_p.shape
    p, hit = np.exp(log_p), np.arange(V) == y
    terms = [(hit - p[k]) @ (logsumexp(np.delete(log_p, k, axis=0), axis=0) - np.log(K - 1)) for k in range(K)]
    return -float(np.sum(terms)) / K


def energy_score(simulated, y, _log_weight):
    K = len(simulated)
    pairs = [abs(simulated[j] - simulated[k]) for j in range(K) for k in range(K) if j != k]
    return float(np.abs(simulated - y).mean()) - float(np.sum(pairs)) / (2 * K * (K - 1))


ROWS = {
    "exact": Row(scores.exact(12), mixture, draws=(None,)),
    "single_draw": Row(scores.single_draw, mean_log),
    "plug_in": Row(scores.plug_in, mixture),
    "quadratic": Row(scores.quadratic, brier_u_statistic, reads_frozen=True),
    "cross_fitted": Row(scores.cross_fitted, leave_one_out, draws=(2, 4, iid(6, groups=3)), reads_frozen=True),
    "two_sample": Row(scores.two_sample, leave_one_out, draws=(2, iid(4, groups=2)), reads_frozen=True),
}
# Scores of a continuous response, which read simulated ones in place of log-probabilities.
RESPONSE_ROWS = {"energy": Row(scores.energy, energy_score, draws=(2, iid(6, groups=3)))}
CASES = [(name, draws) for name, row in ROWS.items() for draws in row.draws]
each_score = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
each_case = pytest.mark.parametrize(("name", "draws"), CASES)


def coin(shape, generator, dtype, device):
    return torch.randint(0, 2, tuple(shape), generator=generator, device=device).to(dtype) * 2 - 1


def coin_quadrature(_nodes, dim):
    z = torch.tensor(list(product((-1.0, 1.0), repeat=dim)), dtype=torch.float64)
    return z, torch.full((len(z),), -dim * math.log(2), dtype=torch.float64)


class CoinNoise(Gaussian):
    """Noise of two values, so that every expectation is a finite sum."""

    latent_law = LatentLaw("fair coin", lambda u: (u - 0.5).sign(), coin, coin_quadrature)


def model_with(noise, log_scale=(-0.5, 0.2)):
    generator = torch.Generator().manual_seed(5)
    weight, square = (torch.randn(4, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    return Marginal(noise(2, log_scale=log_scale), QuadraticSoftmax(1.5 * weight, 0.3 * square).requires_grad_(False))


def simulator(model, draws):
    def simulate(n, generator):
        x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return model.sample(x, draws or 1, generator)

    return simulate


def some_log_p(K, n=7, V=5, *, seed=0, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    log_p = torch.log_softmax(spread * torch.randn(K, n, V, generator=generator, dtype=torch.float64), dim=-1)
    return log_p, torch.randint(0, V, (n,), generator=generator)


def equal_weights(K):
    return torch.full((K,), -math.log(K), dtype=torch.float64)


def test_every_score_has_a_row():
    rows = ROWS | RESPONSE_ROWS
    assert set(scores.__all__) - {"Score", "SurrogateLoss"} == set(rows)
    assert all(row.score.name == name for name, row in rows.items())


@each_score
@pytest.mark.parametrize("K", [2, 3, 5, 16])
@pytest.mark.parametrize("transposed", [False, True])
def test_loss_equals_a_naive_loop(row, K, transposed):
    log_p, y = some_log_p(K)
    given_p = log_p.mT.contiguous().mT if transposed else log_p
    loss = row.score.loss(given_p, given_p, y, equal_weights(K))
    expected = [row.reference(log_p[:, i].numpy(), int(y[i]), equal_weights(K).numpy()) for i in range(len(y))]
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-13, atol=1e-13)


@each_score
def test_gradient_does_not_depend_on_the_layout(row):
    log_p, y = some_log_p(4)

    def gradient(point):
        return torch.func.grad(lambda live: row.score.loss(live, point, y, equal_weights(4)).sum())(point)

    torch.testing.assert_close(gradient(log_p.mT.contiguous().mT), gradient(log_p), rtol=1e-13, atol=1e-13)


@each_score
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), K=st.integers(2, 6), data=st.data())
def test_order_of_draws_and_of_observations_does_not_matter(row, seed, K, data):
    log_p, y = some_log_p(K, seed=seed)
    draws = data.draw(st.permutations(range(K)))
    rows = data.draw(st.permutations(range(len(y))))
    loss = row.score.loss(log_p, log_p, y, equal_weights(K))
    moved = log_p[draws][:, rows]
    torch.testing.assert_close(
        row.score.loss(moved, moved, y[rows], equal_weights(K)), loss[rows], rtol=1e-12, atol=1e-12
    )


@each_score
def test_first_and_second_derivatives_in_both_copies(row):
    log_p, y = some_log_p(3, n=2, V=3)
    live, frozen = (copy.clone().requires_grad_() for copy in (log_p, log_p + 0.1))

    def loss(a, b):
        return row.score.loss(a, b, y, equal_weights(3)) + 0 * b.sum()

    assert torch.autograd.gradcheck(loss, (live, frozen), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, (live, frozen))


@each_score
@pytest.mark.parametrize("gap", [30.0, 45.0, 800.0, 1e4])
def test_extreme_log_probabilities_stay_finite(row, gap):
    """Draws that agree on nothing: one class near certainty in each, the others exp(-gap) and less."""
    generator = torch.Generator().manual_seed(1)
    best = torch.randint(0, 4, (5, 6, 1), generator=generator)
    log_p = torch.log_softmax(
        torch.full((5, 6, 4), -gap, dtype=torch.float64).scatter(-1, best, 0.0)
        + torch.rand(5, 6, 4, generator=generator, dtype=torch.float64),
        dim=-1,
    )
    y = torch.randint(0, 4, (6,), generator=generator)

    def gradient(point):
        return torch.func.grad(lambda live: row.score.loss(live, point, y, equal_weights(5)).sum())(point)

    expected = [row.reference(log_p[:, i].numpy(), int(y[i]), equal_weights(5).numpy()) for i in range(6)]
    loss = row.score.loss(log_p, log_p, y, equal_weights(5))
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-13, atol=1e-13)
    assert torch.isfinite(gradient(log_p)).all()
    assert torch.isfinite(torch.func.jvp(gradient, (log_p,), (torch.ones_like(log_p),))[1]).all()


@each_score
def test_too_few_draws_are_refused(row):
    model, score = model_with(Gaussian), row.score
    if score.nodes is not None:
        with pytest.raises(ValueError, match="exact integrates by quadrature; leave out the draws"):
            model.psi(score, draws=4)
        return
    with pytest.raises(ValueError, match=f"{score.name} needs draws, {score.min_groups}"):
        model.psi(score)
    for groups in {score.min_groups - 1, (score.max_groups or score.min_groups) + 1} - {0}:
        if score.max_groups is None and groups > score.min_groups:
            continue
        with pytest.raises(ValueError, match=f"{score.name} needs {score.min_groups}.* of draws, got {groups}"):
            model.psi(score, draws=groups)
    assert model.psi(score, draws=score.min_groups).names == model.names


@each_case
def test_bread_equals_finite_differences_and_a_detached_one_does_not(name, draws):
    row, model = ROWS[name], model_with(Gaussian)
    data = simulator(model, draws)(60, torch.Generator().manual_seed(3))
    # Away from the truth every term of the total derivative is there.
    theta = model.theta + torch.tensor([0.3, -0.2], dtype=torch.float64)
    assert eeqs.check_jacobian(model.psi(row.score, draws=draws), theta, data).passed
    loss = row.score.loss
    detached = replace(row.score, loss=lambda live, frozen, y, w: loss(live, frozen.detach(), y, w))
    report = eeqs.check_jacobian(model.psi(detached, draws=draws), theta, data)
    assert report.passed is not row.reads_frozen


@each_case
@pytest.mark.parametrize("chunk", [None, 17])
def test_gradient_of_the_training_loss_is_minus_mean_psi(name, draws, chunk):
    score, model = ROWS[name].score, model_with(Gaussian)
    data = simulator(model, draws)(50, torch.Generator().manual_seed(3))
    z = None if draws is None else data["z"]
    model.loss(score, data["x"], data["y"], z, chunk=chunk).backward()
    psi = model.psi(score, draws=draws)(model.theta, {key: leaf.double() for key, leaf in data.items()})
    torch.testing.assert_close(model.perturbation.log_scale.grad, -psi.mean(0), rtol=1e-12, atol=1e-14)


def enumerate_outcomes(model, draws):
    """All (x, y, z_1, ..., z_K) of a model with coin noise and three prefixes, with their probabilities."""
    prefixes = torch.tensor([[0.3, -0.7], [-1.0, 0.4], [0.8, 1.2]], dtype=torch.float64)
    q = model.predict(prefixes, nodes=1)
    shape = as_draws(draws).shape(2) if draws else (0, 2)
    coins = list(product((-1.0, 1.0), repeat=math.prod(shape)))
    cells = list(product(range(len(prefixes)), range(q.shape[1]), coins))
    z = torch.tensor([z for _, _, z in cells], dtype=torch.float64).reshape(len(cells), *shape)
    s, y = (torch.tensor([cell[axis] for cell in cells]) for axis in (0, 1))
    probability = q[s, y] / (len(prefixes) * len(coins))
    return eeqs.FiniteSupport({"x": prefixes[s], "y": y, "z": z}, probability)


@each_case
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_claim_of_unbiasedness_by_enumeration(name, draws, shift):
    """At the truth the mean is zero to rounding if and only if the score claims it; elsewhere it never is."""
    model = model_with(CoinNoise)
    psi = model.psi(ROWS[name].score, draws=draws)
    report = eeqs.check_unbiased(psi, model.theta + shift, enumerate_outcomes(model, draws))
    assert report.passed is (ROWS[name].score.unbiased and shift == 0)


@each_case
def test_claim_of_unbiasedness_by_simulation(name, draws):
    score, model = ROWS[name].score, model_with(Gaussian)
    psi = model.psi(score, draws=draws)
    report = eeqs.check_unbiased(
        psi, model.theta, simulator(model, draws), n=2_000 if draws is None else 40_000, seed=1
    )
    assert report.passed is score.unbiased, str(report)
