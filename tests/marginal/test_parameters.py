import pytest
import torch

from eeqs.marginal import Gaussian, Identity, LogLinear, Marginal, QuadraticSoftmax, Softmax
from eeqs.marginal.parameters import flatten, labels, learnable, unflatten

W = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("perturbation", "kernel", "expected"),
    [
        (Gaussian(2), Softmax(W).requires_grad_(False), ("log_scale",)),
        (Gaussian(2, [0.0, 0.0]), Softmax(W).requires_grad_(False), ("log_scale[0]", "log_scale[1]")),
        (
            LogLinear(2, depends_on=[[False, True], [True, False]]),
            QuadraticSoftmax(W, W).requires_grad_(False),
            ("bias[0]", "bias[1]", "weight[0,1]", "weight[1,0]"),
        ),
        (
            Identity(2),
            Softmax(W[:2, :2]),
            ("kernel.weight[0,0]", "kernel.weight[0,1]", "kernel.weight[1,0]", "kernel.weight[1,1]"),
        ),
        (Gaussian(2).requires_grad_(False), Softmax(W, W[:, 0]), None),
    ],
)
def test_names_say_which_entry(perturbation, kernel, expected):
    model = Marginal(perturbation, kernel)
    if expected is None:
        expected = tuple(f"kernel.weight[{v},{k}]" for v in range(3) for k in range(2))
        expected += tuple(f"kernel.bias[{v}]" for v in range(3))
    assert labels(model) == model.names == expected
    assert len(flatten(model)) == len(expected)


def test_a_perturbation_and_a_kernel_with_equal_parameter_names_do_not_clash():
    model = Marginal(LogLinear(2), Softmax(W, W[:, 0]))
    assert len(set(model.names)) == len(model.names) == 2 + 4 + 6 + 3


def test_theta_and_parameters_round_trip():
    model = Marginal(LogLinear(2, bias=[0.1, 0.2], weight=[1.0, 2.0, 3.0, 4.0]), Softmax(W))
    theta = torch.arange(len(model.names), dtype=torch.float64)
    pieces = unflatten(model, theta)
    assert list(pieces) == list(learnable(model))
    assert torch.equal(torch.cat([piece.flatten() for piece in pieces.values()]), theta)
    before = model.theta
    moved = model.with_theta(theta)
    assert torch.equal(moved.theta, theta)
    assert torch.equal(model.theta, before)


def test_a_frozen_part_is_not_in_theta():
    model = Marginal(Gaussian(2), Softmax(W))
    model.kernel.requires_grad_(False)
    assert model.names == ("log_scale",)
    assert not model.with_theta(torch.ones(1)).kernel.weight.requires_grad


@pytest.mark.parametrize("theta", [torch.zeros(2), torch.zeros(1, 1), torch.tensor(0.0)])
def test_a_wrong_length_is_refused(theta):
    model = Marginal(Gaussian(2), Softmax(W).requires_grad_(False))
    with pytest.raises(ValueError, match="the model has 1 learnable parameters"):
        model.with_theta(theta)
