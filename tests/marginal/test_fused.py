"""The fused loss is the score of eeqs.marginal.scores and its gradient, in little memory and linear time."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from eeqs.marginal import Gaussian, Marginal, Softmax, scores
from eeqs.marginal.fused import arithmetic, cross_fitted_loss, loss
from eeqs.marginal.layout import pool_groups


def some_logits(K, n, V, *, seed=0, spread=3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(K, n, V, generator=generator, dtype=dtype)
    return logits.requires_grad_(), torch.randint(0, V, (n,), generator=generator)


def by_autograd(logits, y, groups):
    """Losses (n,) of the score, with the frozen copy detached."""
    score = scores.two_sample if groups == 2 else scores.cross_fitted
    log_p = pool_groups(torch.log_softmax(logits, dim=-1), len(logits) // groups)
    return score.loss(log_p, log_p.detach(), y, torch.full((groups,), -math.log(groups), dtype=log_p.dtype))


def by_loops(logits, y, groups):
    """Loss and gradient of one observation (K, V), by the formulas written out over groups, draws and classes."""
    K, V = logits.shape
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = p.reshape(groups, -1, V).mean(axis=1)
    residual = (np.arange(V) == y) - mean
    others = [np.delete(mean, g, axis=0).mean(axis=0) for g in range(groups)]
    value = -sum(residual[g] @ np.log(others[g]) for g in range(groups)) / groups
    gradient = np.zeros((K, V))
    for k in range(K):
        for g in set(range(groups)) - {k * groups // K}:
            # d log others[g](u) / d logit_k(v), for a draw k outside group g.
            p_in_mean = p[k] / (K // groups) / (groups - 1)
            slope = (np.diag(p_in_mean) - np.outer(p_in_mean, p[k])) / others[g][:, None]
            gradient[k] -= residual[g] @ slope / groups
    return value, gradient


def value_and_gradient(function, logits):
    value = function(logits)
    return value.detach(), torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize(("K", "groups"), [(2, 2), (3, 3), (8, 8), (8, 2), (9, 3), (12, 6)])
def test_value_and_gradient_are_those_of_the_formulas(K, groups):
    logits, y = some_logits(K, 5, 7)
    value, gradient = value_and_gradient(lambda x: cross_fitted_loss(x, y, groups=groups), logits)
    each = [by_loops(logits[:, i].detach().numpy(), int(y[i]), groups) for i in range(5)]
    np.testing.assert_allclose(value, np.mean([one for one, _ in each]), rtol=1e-13)
    np.testing.assert_allclose(gradient, np.stack([one for _, one in each], axis=1) / 5, rtol=0, atol=1e-15)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    groups=st.integers(2, 33),
    size=st.integers(1, 3),
    V=st.integers(2, 20),
    spread=st.sampled_from([0.0, 1.0, 10.0, 300.0, 1e4]),
    chunk=st.sampled_from([None, 1, 3, 50]),
)
def test_value_and_gradient_are_those_of_autograd(seed, groups, size, V, spread, chunk):
    logits, y = some_logits(groups * size, 4, V, seed=seed, spread=spread)
    weight = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    fused = cross_fitted_loss(logits, y, groups=groups, reduction="none", chunk=chunk)
    expected = by_autograd(logits, y, groups)
    torch.testing.assert_close(fused, expected, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(losses @ weight, logits)[0] for losses in (fused, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("wanted", [True, False])
def test_reductions(reduction, wanted):
    logits, y = some_logits(4, 10, 6)
    each = by_autograd(logits, y, 4)
    expected = {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction]
    value = cross_fitted_loss(logits.requires_grad_(wanted), y, reduction=reduction, chunk=4)
    assert value.requires_grad is wanted
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=1e-13, check_layout=True)
    if wanted:
        ours, theirs = (torch.autograd.grad(3 * one.square().sum(), logits)[0] for one in (value, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-15)


def test_layout_and_integer_type_do_not_matter():
    logits, y = some_logits(4, 10, 6)
    turned = logits.mT.contiguous().mT
    for one, classes in ((turned, y), (logits, y.to(torch.int32))):
        value, gradient = value_and_gradient(lambda x, classes=classes: cross_fitted_loss(x, classes), one)
        expected, slope = value_and_gradient(lambda x: cross_fitted_loss(x, y), logits)
        assert torch.equal(value, expected)
        assert torch.equal(gradient, slope)


def test_bfloat16_is_computed_in_float32():
    logits, y = some_logits(4, 30, 50, dtype=torch.float32)
    rounded = logits.detach().bfloat16().requires_grad_()
    value, gradient = value_and_gradient(lambda x: cross_fitted_loss(x, y, chunk=8), rounded)
    expected, slope = value_and_gradient(lambda x: cross_fitted_loss(x, y), rounded.detach().float().requires_grad_())
    assert (value.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    # Half a unit in the last of eight binary digits, twice: once when stored, once when scaled.
    torch.testing.assert_close(gradient.float(), slope, rtol=2**-8, atol=1e-30)


def test_same_gradient_as_the_loss_of_a_model():
    """Log-probabilities are logits too; the gradient goes on to the parameters of the model."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(70, 2, generator=generator, dtype=torch.float64)
    model = Marginal(Gaussian(2, [-0.3, -0.7]), Softmax(weight))
    x = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    y, z = model.simulate(x, generator), model.draw(x, 4, generator)
    one, other = model.loss(scores.cross_fitted, x, y, z), cross_fitted_loss(model(x, z), y)
    torch.testing.assert_close(other, one, rtol=1e-12, atol=0)
    for ours, theirs in zip(
        *(torch.autograd.grad(value, list(model.parameters())) for value in (other, one)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_gradient_by_torch_func():
    logits, y = some_logits(4, 10, 6)
    expected = value_and_gradient(lambda x: cross_fitted_loss(x, y), logits)[1]
    assert torch.equal(torch.func.grad(lambda x: cross_fitted_loss(x, y))(logits.detach()), expected)


def test_second_use_and_second_derivatives_are_refused():
    logits, y = some_logits(4, 3, 6)
    value = cross_fitted_loss(logits, y)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="first backward pass through cross_fitted_loss took its gradient"):
        value.backward()
    (gradient,) = torch.autograd.grad(cross_fitted_loss(logits, y), logits, create_graph=True)
    with pytest.raises(RuntimeError, match=r"differentiable once; for second derivatives use .*\.cross_fitted"):
        (gradient.square().sum() + logits.sum()).backward()

    def slope(x):
        return torch.func.grad(lambda point: cross_fitted_loss(point, y))(x).sum()

    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.func.grad(slope)(logits.detach())


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda f, x: torch.func.vmap(f)(x[None]), "does not have vmap support"),
        (lambda f, x: torch.func.vmap(torch.func.grad(f))(x[None]), "does not have vmap support"),
        (lambda f, x: torch.func.jvp(f, (x,), (x,)), "forward mode AD"),
    ],
)
def test_other_transforms_are_refused(transform, message):
    logits, y = some_logits(4, 3, 6)
    with pytest.raises((RuntimeError, NotImplementedError), match=message):
        transform(lambda x: cross_fitted_loss(x, y), logits.detach())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": torch.zeros(4, 3)}, ValueError, r"logits have shape \(4, 3\); pass \(K, N, V\)"),
        ({"logits": torch.zeros(4, 0, 3)}, ValueError, "none of them zero"),
        ({"logits": torch.zeros(4, 3, 6, dtype=torch.float16)}, TypeError, "float16; pass bfloat16, float32"),
        ({"logits": torch.zeros(1, 3, 6)}, ValueError, "1 draws in 1 groups; pass draws of two independent groups"),
        ({"groups": 3}, ValueError, "4 draws in 3 groups"),
        ({"groups": 1}, ValueError, "4 draws in 1 groups"),
        ({"groups": 0}, ValueError, "4 draws in 0 groups"),
        ({"y": torch.zeros(2, dtype=torch.long)}, ValueError, r"y has shape \(2,\); logits \(4, 3, 6\) need \(3,\)"),
        ({"y": torch.zeros(3)}, TypeError, "y is torch.float32; pass classes as integers"),
        ({"y": torch.tensor([0, 6, 1])}, ValueError, r"y has 1 value\(s\) outside 0..5, the first 6"),
        ({"y": torch.tensor([0, -100, 1])}, ValueError, "the first -100"),
        ({"reduction": "average"}, ValueError, 'reduction is "average"'),
        ({"chunk": 0}, ValueError, "chunk is 0"),
    ],
)
def test_errors_name_the_offender(change, error, message):
    arguments = {"logits": torch.zeros(4, 3, 6), "y": torch.zeros(3, dtype=torch.long)} | change
    with pytest.raises(error, match=message):
        cross_fitted_loss(arguments.pop("logits"), arguments.pop("y"), **arguments)


class Written(TorchDispatchMode):
    """Counts the numbers written by operations, a measure of work that no other process disturbs."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not func.is_view:
            self.numbers += out.numel()
        return out


@pytest.mark.parametrize("size", [1, 2])
def test_work_is_linear_in_draws(size):
    def per_draw(K):
        logits, y = some_logits(K * size, 8, 40)
        with Written() as written:
            cross_fitted_loss(logits, y, groups=K)
        return written.numbers / logits.numel()

    assert per_draw(256) < 1.1 * per_draw(8)
    assert per_draw(31) < 1.6 * per_draw(32)  # an odd number of groups at every level of the tree


def peak_above(run):
    """Bytes allocated at most at one time, above those before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert kept is not None
    return max(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]))


@pytest.mark.parametrize(("dtype", "copies"), [(torch.float32, 2.5), (torch.bfloat16, 3.5)])
def test_memory_above_the_gradient_is_a_few_chunks(dtype, copies):
    K, n, V, chunk = 8, 60, 500, 6
    logits, y = some_logits(K, n, V, dtype=torch.float32)
    logits = logits.detach().to(dtype).requires_grad_()

    def run():
        return torch.autograd.grad(cross_fitted_loss(logits, y, chunk=chunk), logits)

    run()
    assert peak_above(run) < logits.nbytes + copies * K * chunk * V * 4


def test_chunks_are_chosen_for_the_cache():
    for K, V in ((8, 8192), (2, 2), (256, 50_257)):
        rows = loss.automatic_chunk(torch.empty(K, 1, V))
        assert rows == max(1, 2**21 * torch.get_num_threads() // (4 * K * V))


def test_sums_are_not_differences(monkeypatch):
    """Leaving out by subtraction would lose what others say of a class that one draw is sure of; the tree does not."""
    logits = torch.zeros(4, 1, 3, dtype=torch.float32)
    logits[0, 0] = torch.tensor([40.0, 0.0, 0.0])
    logits[1:, 0, 0] = torch.tensor([-14.0, -15.0, -16.0])
    y = torch.tensor([1])
    exact = value_and_gradient(lambda x: by_autograd(x, y, 4).sum(), logits.double().requires_grad_())[1]

    def error():
        gradient = value_and_gradient(lambda x: cross_fitted_loss(x, y), logits.requires_grad_())[1]
        return float((gradient - exact).abs().max())

    assert error() < 1e-6
    monkeypatch.setattr(
        arithmetic,
        "_leave_one_out",
        lambda parts, out, floor: torch.sub(parts.sum(dim=0), parts, out=out).add_(floor),
    )
    assert not error() < 1e-3
