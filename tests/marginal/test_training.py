import math

import pytest
import torch

from eeqs.marginal import Gaussian, Marginal, Softmax, cross_fitted, exact, iid, plug_in, single_draw, sobol, two_sample
from eeqs.marginal.layout import pool_groups


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@pytest.fixture
def model():
    return Marginal(Gaussian(2, [-0.3, -0.7]), Softmax(2 * normal(90, 2, seed=1)))


def gradients(model, *arguments, **options):
    model.zero_grad()
    loss = model.loss(*arguments, **options)
    loss.backward()
    return loss.detach(), [value.grad.clone() for value in model.parameters()]


@pytest.mark.parametrize("score", [single_draw, plug_in, cross_fitted, exact(3)])
@pytest.mark.parametrize("chunk", [1, 7, 20, 50])
def test_chunks_change_neither_value_nor_gradient(model, score, chunk):
    x = normal(20, 2)
    y = model.simulate(x, generator(1))
    z = None if score.nodes else model.draw(x, 4, generator(2))
    loss, gradient = gradients(model, score, x, y, z)
    chunked, chunked_gradient = gradients(model, score, x, y, z, chunk=chunk)
    torch.testing.assert_close(chunked, loss, rtol=1e-13, atol=0)
    for ours, theirs in zip(chunked_gradient, gradient, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def test_chunks_keep_no_log_probabilities_for_the_backward_pass(model):
    x = normal(60, 2)
    y, z = model.simulate(x, generator(1)), model.draw(x, 4, generator(2))

    def kept(chunk):
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.loss(cross_fitted, x, y, z, chunk=chunk)
        return max(sizes, default=0)

    K, n, V = 4, 60, 90
    assert kept(None) >= n * V
    assert kept(10) < K * n * V / 10


def test_stochastic_gradients_lower_the_negative_log_likelihood():
    truth = Marginal(Gaussian(2, -0.5), Softmax(2 * normal(5, 2, seed=1)))
    x = normal(2000, 2)
    y = truth.simulate(x, generator(1))
    model = Marginal(Gaussian(2, -0.5), Softmax(torch.zeros(5, 2, dtype=torch.float64)))
    model.perturbation.requires_grad_(False)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    draws, held_out = generator(2), exact(10)
    before = float(model.loss(held_out, x, y).detach())
    for start in range(0, 2000, 100):
        batch = slice(start, start + 100)
        optimiser.zero_grad()
        model.loss(cross_fitted, x[batch], y[batch], model.draw(x[batch], 4, draws)).backward()
        optimiser.step()
    assert float(model.loss(held_out, x, y).detach()) < before - 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk": 0}, "chunk is 0"),
        ({"y": torch.full((20,), 90)}, 'response "y" has 20 value.*outside the classes 0..89'),
        ({"y": torch.zeros(19)}, r"the model needs \(19, 2\)"),
        ({"z": None}, "cross_fitted needs draws"),
        ({"z": torch.zeros(20, 1, 2)}, "2 or more independent groups of draws, got 1"),
        ({"z": torch.zeros(20, 4, 3)}, r"the model needs \(20, 4, 2\)"),
        ({"score": exact(3)}, "leave out the draws"),
    ],
)
def test_bad_input(model, change, message):
    x = normal(20, 2)
    good = {"score": cross_fitted, "prefix": x, "y": torch.zeros(20), "z": model.draw(x, 4, generator())}
    with pytest.raises(ValueError, match=message):
        model.loss(**{**good, **change})


@pytest.mark.parametrize("score", [cross_fitted, two_sample])
@pytest.mark.parametrize("design", [iid(2), iid(8, groups=2), sobol(8)], ids=str)
def test_many_classes_train_by_the_closed_form_of_the_same_loss(model, score, design):
    x = normal(20, 2)
    y, z = model.simulate(x, generator(1)), model.draw(x, design, generator(2))
    loss, gradient = gradients(model, score, x, y, z)
    log_p = pool_groups(model.log_prob(x, z), design.size)
    weights = torch.full((design.groups,), -math.log(design.groups), dtype=torch.float64)
    expected = score.loss(log_p, log_p.detach(), y, weights).mean()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-14)
    for ours, theirs in zip(gradient, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)
