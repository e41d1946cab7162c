"""The two memory layouts hold the same numbers, and every helper treats them alike."""

import pytest
import torch

from eeqs.marginal.layout import indicator, linear, log_normalise, observations_last, split_draws, take_response


@pytest.fixture(params=["classes last", "observations last"])
def log_p(request):
    values = torch.log_softmax(torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    return values if request.param == "classes last" else observations_last(values)


Y = torch.tensor([3, 0, 1, 1, 2])


def test_observations_last_changes_strides_only():
    x = torch.arange(10.0).reshape(5, 2)
    moved = observations_last(x)
    assert torch.equal(moved, x)
    assert (x.stride(), moved.stride()) == ((2, 1), (1, 5))


def test_split_and_take(log_p):
    assert all(torch.equal(draw, log_p[k]) for k, draw in enumerate(split_draws(log_p)))
    assert split_draws(log_p)[0].stride() == log_p.stride()[1:]
    expected = torch.stack([log_p[:, i, Y[i]] for i in range(5)], dim=1)
    assert torch.equal(take_response(log_p, Y), expected)


def test_indicator(log_p):
    hit = indicator(Y, log_p[0])
    assert torch.equal(hit, torch.nn.functional.one_hot(Y, 4).float())
    assert hit.stride() == log_p[0].stride()


@pytest.mark.parametrize("function", [lambda x: take_response(x, Y), lambda x: torch.stack(split_draws(x))])
def test_vmap_over_replicates(log_p, function):
    batch = torch.stack([log_p, 2 * log_p])
    torch.testing.assert_close(torch.func.vmap(function)(batch), torch.stack([function(log_p), function(2 * log_p)]))


@pytest.mark.parametrize("classes", [3, 100])
def test_linear_and_normalise_match_torch(classes):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(classes, 2, generator=generator, dtype=torch.float64)
    e = torch.randn(3, 5, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(linear(e, weight), e @ weight.T, rtol=1e-13, atol=1e-13)
    logits = 300 * linear(e, weight)
    torch.testing.assert_close(log_normalise(logits), torch.log_softmax(logits, -1), rtol=1e-13, atol=1e-13)
