"""No NaN and no infinity: scores and the fused loss at logits up to +-1e4, up to 256 draws, 2 to 50,257 classes."""

import math

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from eeqs.marginal import Score, scores
from eeqs.marginal.fused import arithmetic, cross_fitted_loss

OF_CLASSES = [
    score
    for score in (*vars(scores).values(), scores.exact(4))
    if isinstance(score, Score) and not score.simulates  # a score of simulated responses sees no probabilities
]
each_score = pytest.mark.parametrize("score", OF_CLASSES, ids=lambda score: score.name)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])

N = 3
# Around these gaps between logits a softmax becomes subnormal and then zero, in float32 and in float64.
GAPS = (0.0, 1.0, 15.0, 66.0, 87.5, 103.5, 668.0, 708.5, 745.0, 2e3, 1e4)


def normal(shape, gap, generator):
    return gap * torch.randn(shape, generator=generator, dtype=torch.float64)


def equal(shape, gap, generator):
    return gap * torch.ones(shape, dtype=torch.float64) + 0 * torch.rand(1, generator=generator)


def two_valued(shape, gap, generator):
    return gap * (torch.rand(shape, generator=generator, dtype=torch.float64) < 0.5)


def certain(shape, gap, generator):
    """Every draw sure of one class, and not of the same."""
    best = torch.randint(0, shape[-1], (*shape[:-1], 1), generator=generator)
    return torch.zeros(shape, dtype=torch.float64).scatter(-1, best, gap)


def one_against_all(shape, gap, generator):
    """The first draw sure of a class that all others exclude."""
    logits = torch.rand(shape, generator=generator, dtype=torch.float64)
    logits[..., 0] = -gap
    logits[0, ..., 0] = gap
    return logits


def excluded(shape, gap, generator):
    """A class, here often the response, that all draws exclude."""
    logits = torch.rand(shape, generator=generator, dtype=torch.float64)
    logits[..., 0] -= gap
    return logits


PATTERNS = (normal, equal, two_valued, certain, one_against_all, excluded)

cases = given(
    pattern=st.sampled_from(PATTERNS),
    gap=st.sampled_from(GAPS),
    K=st.sampled_from([2, 3, 4, 7, 16, 33, 256]),
    V=st.sampled_from([2, 3, 11, 64, 65, 50_257]),
    lift=st.sampled_from([-1e4, 0.0, 1e4]),
    seed=st.integers(0, 10**6),
)


def some_case(score, dtype, pattern, gap, K, V, lift, seed):
    """Logits (K, N, V) within +-1e4 and responses (N,), the first observation's the class patterns exclude."""
    K = min(K, score.max_groups or K)
    assume(K * V <= 2**17)
    generator = torch.Generator().manual_seed(seed)
    logits = (pattern((K, N, V), gap, generator) + lift).clamp(-1e4, 1e4).to(dtype)
    y = torch.randint(0, V, (N,), generator=generator)
    y[0] = 0
    return logits, y


def equal_weights(K, dtype):
    return torch.full((K,), -math.log(K), dtype=dtype)


def surrogate(score, frozen, y):
    """Total surrogate loss as a function of the live logits."""
    log_frozen = torch.log_softmax(frozen, dim=-1)
    weights = equal_weights(len(frozen), frozen.dtype)
    return lambda live: score.loss(torch.log_softmax(live, dim=-1), log_frozen, y, weights).sum()


@each_score
@each_dtype
@settings(max_examples=30, deadline=None)
@cases
def test_scores_and_their_gradients_are_finite(score, dtype, pattern, gap, K, V, lift, seed):
    logits, y = some_case(score, dtype, pattern, gap, K, V, lift, seed)
    gradient, value = torch.func.grad_and_value(surrogate(score, logits, y))(logits)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@each_score
@each_dtype
@settings(max_examples=15, deadline=None)
@cases
def test_derivatives_of_psi_are_finite(score, dtype, pattern, gap, K, V, lift, seed):
    """The bread differentiates the gradient in the live logits through both copies of them."""
    assume(K * V <= 2**13)
    logits, y = some_case(score, dtype, pattern, gap, K, V, lift, seed)

    def psi(x):
        return torch.func.grad(surrogate(score, x, y))(x)

    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=dtype)
    assert torch.isfinite(torch.func.jvp(psi, (logits,), (direction,))[1]).all()


def fused(logits, y, groups=None):
    logits = logits.clone().requires_grad_()
    losses = cross_fitted_loss(logits, y, groups=groups, reduction="none")
    return losses.detach(), torch.autograd.grad(losses.sum(), logits)[0]


def in_log_space(logits, y):
    """Losses and gradient of the score, in float64."""
    live = logits.double().requires_grad_()
    log_p = torch.log_softmax(live, dim=-1)
    losses = scores.cross_fitted.loss(log_p, log_p.detach(), y, equal_weights(len(logits), torch.float64))
    return losses.detach(), torch.autograd.grad(losses.sum(), live)[0]


def disagreement(logits, y):
    """Largest differences of losses and gradients from those in float64, over what rounding explains.

    Logits that differ by g leave a few rounding errors of eps * g / 2 in a log-ratio, K terms added one by one leave up
    to eps * K, and a softmax over V classes up to eps * V / 8 in its normaliser.
    """
    eps = torch.finfo(logits.dtype).eps
    unit = eps * float(16 + 4 * (logits.max() - logits.min()) + len(logits))
    (value, gradient), (exact, slope) = fused(logits, y), in_log_space(logits, y)
    of_value = float(((value - exact).abs() / (1 + exact.abs())).max())
    return of_value / (unit + eps * logits.shape[-1] / 8), float((gradient - slope).abs().max()) / unit


@each_dtype
@settings(max_examples=60, deadline=None)
@cases
def test_fused_loss_agrees_with_log_space(dtype, pattern, gap, K, V, lift, seed):
    logits, y = some_case(scores.cross_fitted, dtype, pattern, gap, K, V, lift, seed)
    assert max(disagreement(logits, y)) < 1  # a NaN fails


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(2, 4).flatmap(
        lambda V: st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=V, max_size=V), min_size=2, max_size=5)
    ),
    y=st.integers(0, 1),
)
@example(rows=[[0.0, 1e4], [1e4, 0.0]], y=0)
@example(rows=[[0.0, 88.0], [0.0, 88.0], [88.0, 0.0]], y=0)
def test_fused_loss_of_any_small_table(rows, y):
    logits = torch.tensor(rows, dtype=torch.float32)[:, None]
    assert max(disagreement(logits, torch.tensor([y]))) < 1


@pytest.mark.parametrize(
    ("K", "V", "groups", "pattern"),
    [
        (256, 50_257, None, one_against_all),
        (256, 50_257, 2, normal),
        (256, 2, None, normal),
        (2, 50_257, None, one_against_all),
    ],
)
def test_fused_loss_at_the_largest_sizes(K, V, groups, pattern):
    """One observation of 256 draws and the vocabulary of GPT-2 is 51 MB of logits."""
    logits = pattern((K, 1, V), 100.0, torch.Generator().manual_seed(0)).clamp(-1e4, 1e4).float()
    value, gradient = fused(logits, torch.tensor([0]), groups)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    # A softmax does not see a constant added to its logits.
    assert float(gradient.sum(dim=-1).abs().max()) < 1e-5


def test_log_space_is_needed(monkeypatch):
    """Where the probabilities of all draws but one underflow, those of a softmax say nothing of their ratios."""
    logits = one_against_all((4, N, 5), 200.0, torch.Generator().manual_seed(0)).float()
    logits[1, ..., 0] = -199.0
    y = torch.tensor([0, 1, 2])
    assert max(disagreement(logits, y)) < 1
    monkeypatch.setattr(arithmetic, "_in_log_space", lambda *given: (torch.zeros(len(given[1])), None))
    assert not max(disagreement(logits, y)) < 1
    _, gradient = fused(logits, y)
    assert not float((gradient - in_log_space(logits, y)[1]).abs().max()) < 1e-2
