"""Contract of every kernel: a file in eeqs/marginal/kernels needs one row here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from torch.func import functional_call, vmap

from eeqs.marginal import Kernel, QuadraticSoftmax, Softmax, kernels

D = 3


@dataclass(frozen=True)
class Row:
    make: Callable[[int], torch.nn.Module]  # from the number of classes V
    logits: Callable[[torch.nn.Module, np.ndarray], np.ndarray]  # independent formula


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numpy_of(parameter):
    return parameter.detach().numpy()


FAMILIES = {
    "softmax": Row(
        lambda v: Softmax(normal(v, D, seed=1), normal(v, seed=2)),
        lambda k, e: np.einsum("...d,vd->...v", e, numpy_of(k.weight)) + numpy_of(k.bias),
    ),
    "quadratic": Row(
        lambda v: QuadraticSoftmax(normal(v, D, seed=1), normal(v, D, seed=3), normal(v, seed=2)),
        lambda k, e: (
            np.einsum("...d,vd->...v", e, numpy_of(k.weight))
            + np.einsum("...d,vd->...v", e**2, numpy_of(k.square_weight))
            + numpy_of(k.bias)
        ),
    ),
}
WITHOUT_BIAS = {
    "softmax": lambda v: Softmax(normal(v, D, seed=1)),
    "quadratic": lambda v: QuadraticSoftmax(normal(v, D, seed=1), normal(v, D, seed=3)),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def row(family):
    return FAMILIES[family]


def test_every_file_has_a_row():
    files = {path.stem for path in Path(kernels.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == set(FAMILIES) == set(WITHOUT_BIAS)


def test_protocol(row):
    kernel = row.make(5)
    assert isinstance(kernel, Kernel)
    assert (kernel.dim, kernel.n_classes) == (D, 5)


@pytest.mark.parametrize("classes", [2, 6, 64, 65, 200])
@pytest.mark.parametrize("lead", [(), (7,), (4, 7), (2, 4, 7)])
def test_log_probabilities_match_the_formula_in_numpy(row, classes, lead):
    kernel = row.make(classes)
    e = normal(*lead, D, seed=4)
    expected = log_softmax(row.logits(kernel, e.numpy()), axis=-1)
    np.testing.assert_allclose(kernel(e).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [6, 200])
def test_dtype_is_kept(row, dtype, classes):
    kernel = row.make(classes).to(dtype)
    log_p = kernel(normal(4, 7, D, seed=4).to(dtype))
    assert log_p.dtype == dtype
    # Rounding of V terms of a sum that is one: a few units in the last place each.
    tolerance = 8 * torch.finfo(dtype).eps * max(1, classes**0.5)
    assert (log_p.double().exp().sum(-1) - 1).abs().max() < tolerance


def test_a_few_classes_come_with_observations_contiguous(row):
    e = normal(4, 50, D, seed=4)
    assert row.make(6)(e).stride(-2) == 1
    assert row.make(200)(e).stride(-1) == 1


@pytest.mark.parametrize("classes", [4, 70])
def test_first_and_second_derivatives(row, classes):
    kernel = row.make(classes)
    names = [name for name, _ in kernel.named_parameters()]
    values = tuple(value.detach().requires_grad_() for value in kernel.parameters())

    def forward(e, *parameters):
        return functional_call(kernel, dict(zip(names, parameters, strict=True)), (e,))[..., :3]

    arguments = (normal(2, D, seed=4).requires_grad_(), *values)
    assert torch.autograd.gradcheck(forward, arguments, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(forward, arguments, fast_mode=True)


def test_vmap_equals_a_loop(row):
    kernel = row.make(6)
    e = normal(3, 4, 7, D, seed=4)
    looped = torch.stack([kernel(e[r]) for r in range(3)])
    torch.testing.assert_close(vmap(kernel)(e), looped)


@settings(max_examples=25, deadline=None)
@given(shift=st.floats(-1e3, 1e3))
@pytest.mark.parametrize("name", FAMILIES)
def test_a_shift_of_all_logits_changes_nothing(name, shift):
    kernel = FAMILIES[name].make(5)
    e = normal(7, D, seed=4)
    shifted = functional_call(kernel, {"bias": kernel.bias + shift}, (e,))
    # Logits of size |shift| lose log2(|shift|) bits.
    torch.testing.assert_close(shifted, kernel(e), rtol=0, atol=1e-14 * (10 + abs(shift)))


def test_no_bias_means_zero_bias(family):
    plain, zero = WITHOUT_BIAS[family](5), FAMILIES[family].make(5)
    with torch.no_grad():
        zero.bias.zero_()
    e = normal(7, D, seed=4)
    assert "bias" not in dict(plain.named_parameters())
    torch.testing.assert_close(plain(e), zero(e), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Softmax(torch.zeros(3)), "pass \\(V, d\\)"),
        (lambda: Softmax(torch.zeros(3, 2), torch.zeros(2)), "pass \\(3,\\), one a class"),
        (lambda: QuadraticSoftmax(torch.zeros(3, 2), torch.zeros(3, 1)), "pass \\(V, d\\) for both"),
        (lambda: QuadraticSoftmax(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(2)), "one a class"),
    ],
)
def test_shapes_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
