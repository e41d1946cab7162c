"""Contract of every kernel: a file in eeqs/marginal/kernels needs one row here."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, log_softmax
from torch import nn

from eeqs.marginal import LatentLaw, kernels
from eeqs.marginal.kernel_contract import check_kernel
from eeqs.marginal.kernels import MLP, GaussianResponse, LinearGaussian, Ordered, Poisson, QuadraticSoftmax, Softmax
from eeqs.marginal.layout import linear, log_normalise
from eeqs.marginal.network import Network

D = 3
RESPONSES = np.linspace(-3, 3, 7)


@dataclass(frozen=True)
class Row:
    make: Callable[[int], nn.Module]  # from the number of classes V, which a continuous kernel ignores
    reference: Callable[[nn.Module, np.ndarray], np.ndarray]  # log-probabilities, or log-density of RESPONSES
    classes: tuple[int, ...] = (2, 6, 64, 65)


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(outputs, activation=torch.tanh):
    return Network.random((D, 5, 4, outputs), torch.Generator().manual_seed(1), activation)


def values(module):
    return [value.detach().numpy() for value in module.parameters()]


def network_in_numpy(module, e):
    weights, biases = values(module.weights), values(module.biases)
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        e = np.tanh(np.einsum("...d,hd->...h", e, weight) + bias)
    return np.einsum("...h,vh->...v", e, weights[-1]) + biases[-1]


def ordered_in_numpy(kernel, e):
    weight, first, log_gaps = values(kernel)
    cuts = np.concatenate([[-np.inf], first + np.cumsum(np.concatenate([[0], np.exp(log_gaps)])), [np.inf]])
    return np.log(np.diff(expit(cuts - (e @ weight)[..., None]), axis=-1))


def poisson_in_scipy(kernel, e):
    weight, bias = values(kernel)
    law = stats.poisson(np.exp(e @ weight + bias)[..., None])
    last = kernel.n_classes - 1
    return np.concatenate([law.logpmf(np.arange(last)), law.logsf(last - 1)], axis=-1)


def linear_gaussian_in_scipy(kernel, e):
    log_scale, weight, bias = values(kernel)
    return stats.norm.logpdf(RESPONSES, (e @ weight + bias)[..., None], np.exp(log_scale))


def gaussian_response_in_scipy(kernel, e):
    scale = math.exp(kernel.log_scale.item())
    return stats.norm.logpdf(RESPONSES, network_in_numpy(kernel.mean, e), scale)


FAMILIES = {
    "softmax": Row(
        lambda v: Softmax(normal(v, D, seed=1), normal(v, seed=2)),
        lambda k, e: log_softmax(
            np.einsum("...d,vd->...v", e, k.weight.detach().numpy()) + k.bias.detach().numpy(), axis=-1
        ),
    ),
    "quadratic": Row(
        lambda v: QuadraticSoftmax(normal(v, D, seed=1), normal(v, D, seed=3), normal(v, seed=2)),
        lambda k, e: log_softmax(
            np.einsum("...d,vd->...v", e, k.weight.detach().numpy())
            + np.einsum("...d,vd->...v", e**2, k.square_weight.detach().numpy())
            + k.bias.detach().numpy(),
            axis=-1,
        ),
    ),
    "mlp": Row(lambda v: MLP(network(v)), lambda k, e: log_softmax(network_in_numpy(k.network, e), axis=-1)),
    "ordered": Row(
        lambda v: Ordered(normal(D, seed=1), torch.linspace(-2, 2.5, v - 1, dtype=torch.float64)), ordered_in_numpy
    ),
    "poisson": Row(lambda v: Poisson(normal(D, seed=1), 0.4, n_classes=v), poisson_in_scipy, classes=(2, 6, 65)),
    "gaussian_response": Row(
        lambda _: GaussianResponse(D, network(1), log_scale=-0.3), gaussian_response_in_scipy, classes=(0,)
    ),
    "linear_gaussian": Row(
        lambda _: LinearGaussian(normal(D, seed=1), 0.4, log_scale=0.2), linear_gaussian_in_scipy, classes=(0,)
    ),
}
CASES = [(name, classes) for name, row in FAMILIES.items() for classes in row.classes]
each_case = pytest.mark.parametrize(("name", "classes"), CASES)


def rows_and_files_differ(folder):
    return {path.stem for path in folder.glob("*.py")} - {"__init__"} ^ set(FAMILIES)


def test_every_file_has_a_row(tmp_path):
    folder = Path(kernels.__path__[0])
    assert not rows_and_files_differ(folder)
    for path in folder.glob("*.py"):
        (tmp_path / path.name).touch()
    (tmp_path / "new.py").touch()
    assert rows_and_files_differ(tmp_path) == {"new"}


@each_case
def test_contract(name, classes):
    check_kernel(FAMILIES[name].make(classes))


@each_case
@pytest.mark.parametrize("lead", [(), (4, 7)])
def test_the_law_is_the_formula_in_numpy(name, classes, lead):
    kernel, e = FAMILIES[name].make(classes), normal(*lead, D, seed=4)
    if kernel.n_classes is None:
        law = kernel.log_density(e[..., None, :], torch.from_numpy(RESPONSES))
    else:
        assert kernel.n_classes == classes
        law = kernel(e)
    # Differences of a distribution function lose digits in the reference for narrow classes.
    expected = FAMILIES[name].reference(kernel, e.numpy())
    np.testing.assert_allclose(law.detach().numpy(), expected, rtol=1e-10, atol=1e-11)


class Prototypes(nn.Module):
    """A kernel as a third party would write it: the nearer prototype v is to e, the likelier is class v."""

    def __init__(self, points):
        super().__init__()
        self.n_classes, self.dim = points.shape
        self.points = nn.Parameter(points)

    def forward(self, e):
        return log_normalise(linear(e, self.points) - self.points.square().sum(dim=-1) / 2)


def logistic_sample(shape, generator, dtype, device):
    return torch.rand(tuple(shape), generator=generator, dtype=dtype, device=device).logit()


class LogisticResponse(nn.Module):
    """A continuous kernel of a third party, with noise of another law."""

    n_classes = None
    noise_law = LatentLaw("logistic", torch.logit, logistic_sample, lambda _nodes, _dim: None)

    def __init__(self, weight):
        super().__init__()
        self.dim = len(weight)
        self.weight = nn.Parameter(weight)

    def log_density(self, e, y):
        residual = y - e @ self.weight
        return -residual - 2 * nn.functional.softplus(-residual, threshold=40.0)

    def response(self, e, u):
        return e @ self.weight + u


@pytest.mark.parametrize("kernel", [Prototypes(normal(5, D, seed=1)), LogisticResponse(normal(D, seed=1))])
def test_a_kernel_of_a_third_party_passes(kernel):
    check_kernel(kernel)


class SquareWithNoSecondForward(torch.autograd.Function):
    """Right in every order but forward over forward, where torch drops the outer tangent."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, _output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient

    @staticmethod
    def jvp(ctx, tangent):
        return 2 * ctx.saved_tensors[0] * tangent


def planted(forward, base=Prototypes, **attributes):
    """A kernel whose forward is ``forward(kernel, e, log_p)`` of what the sound one returns."""

    def wrapped(self, e):
        return forward(self, e, base.forward(self, e))

    return type("Planted", (base,), {"forward": wrapped, **attributes})(normal(5, D, seed=1))


def planted_response(**methods):
    return type("Planted", (LogisticResponse,), methods)(normal(D, seed=1))


def branching(_kernel, e, log_p):
    return log_p if e.sum() > 0 else log_p + 0


def sound(_kernel, _e, log_p):
    return log_p


VIOLATIONS = {
    "no classes": ("protocol", lambda: nn.Linear(D, 5)),
    "no density": ("protocol", type("Planted", (nn.Module,), {"n_classes": None, "dim": D})),
    "a repeated label": (
        "labels",
        lambda: planted(sound, parameter_labels=lambda _: {"points": ("a",) * 15}),
    ),
    "a label too few": ("labels", lambda: planted(sound, parameter_labels=lambda _: {"points": ("a",)})),
    "a class too few": ("shapes", lambda: planted(lambda _k, _e, log_p: log_p[..., 1:])),
    "rows that mix": (
        "shapes",
        lambda: planted(lambda _k, e, log_p: log_p + e.sum()),
    ),
    "always float64": ("dtypes", lambda: planted(lambda _k, _e, log_p: log_p.double())),
    "a detached part": ("derivatives", lambda: planted(lambda _k, e, log_p: log_p + (e - e.detach()).sum(-1, True))),
    "no forward over forward": (
        "derivatives",
        lambda: planted(lambda _k, e, log_p: log_p + SquareWithNoSecondForward.apply(e).sum(-1, keepdim=True)),
    ),
    "a branch on data": ("vmap", lambda: planted(branching)),
    "a logarithm of zero": ("extremes", lambda: planted(lambda _k, _e, log_p: log_p.exp().log())),
    "an infinite slope": (
        "extremes",
        lambda: planted(lambda _k, e, log_p: log_p + 0 * e.square().sum(-1, keepdim=True).sqrt()),
    ),
    "a state it does not read": ("state", lambda: planted(sound, load_state_dict=lambda *_: None)),
    "a random number": (
        "purity",
        lambda: planted(lambda _k, _e, log_p: (torch.rand(()), log_p)[1]),
    ),
    "classes contiguous": ("layout", lambda: planted(lambda _k, _e, log_p: log_p.contiguous())),
    "not normalised": ("normalisation", lambda: planted(lambda _k, _e, log_p: log_p + 1e-6)),
    "a fixed response": (
        "broadcasting",
        lambda: planted_response(response=lambda k, e, u: e @ k.weight + u.expand(e.shape[:-1])),
    ),
    "another scale": ("density", lambda: planted_response(response=lambda k, e, u: e @ k.weight + 1.001 * u)),
    "a decreasing response": ("density", lambda: planted_response(response=lambda k, e, u: e @ k.weight - u)),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_violation_is_caught_and_its_clause_named(violation):
    clause, make = VIOLATIONS[violation]
    with pytest.raises(AssertionError, match=f'breaks the clause "{clause}"') as caught:
        check_kernel(make())
    assert caught.value.__cause__ is not None


def test_the_kernel_is_left_as_it_is():
    kernel = Softmax(normal(4, D, seed=1).float()).requires_grad_(False)
    before = kernel.weight.clone()
    check_kernel(kernel)
    assert torch.equal(kernel.weight, before)
    assert kernel.weight.dtype == torch.float32
    assert not kernel.weight.requires_grad
