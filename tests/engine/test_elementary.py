"""Losses whose second derivative in forward mode PyTorch gets wrong: the bread is right nevertheless."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import eeqs
from eeqs.engine.covariance import bread
from eeqs.engine.derivative import central_difference
from eeqs.engine.elementary import Elementary

X = torch.randn(40, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.float64)
THETA = torch.tensor([0.7, -0.4], dtype=torch.float64)


def matrix(theta: Tensor, x: Tensor) -> Tensor:
    """A positive definite matrix an observation."""
    a = x * theta[0] + theta[1] * EYE
    return a @ a.mT + EYE


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "layer_norm": lambda t, x: (functional.layer_norm(x * t[0] + t[1] * x**2, (3,), x[0, 0], x[0, 1]) ** 3).sum(
        (-1, -2)
    ),
    "module": lambda t, x: (torch.nn.LayerNorm(3, dtype=torch.float64)(x * t[0] + t[1] * x**2) ** 3).sum((-1, -2)),
    "solve": lambda t, x: torch.linalg.solve(matrix(t, x), x).square().sum((-1, -2)),
    "solve a vector": lambda t, x: torch.linalg.solve(matrix(t, x), x[:, 0]).square().sum(-1),
    "solve from the right": lambda t, x: torch.linalg.solve(matrix(t, x), x, left=False).square().sum((-1, -2)),
    "det": lambda t, x: torch.linalg.det(matrix(t, x)).sqrt(),
    "negative det": lambda t, x: -(-torch.det(-matrix(t, x))).sqrt(),
    "logdet": lambda t, x: torch.logdet(matrix(t, x)) ** 2,
    "slogdet": lambda t, x: torch.linalg.slogdet(matrix(t, x))[1] ** 2,
    "method": lambda t, x: matrix(t, x).logdet() ** 2 + matrix(t, x).det().log(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_bread_is_the_difference_quotient_of_psi(name: str) -> None:
    psi = eeqs.from_loss(lambda t, d: LOSSES[name](t, d["x"]))
    found = bread(psi, THETA, {"x": X})
    steps = torch.full_like(THETA, 1e-5)
    reference = central_difference(lambda t: psi(t, {"x": X}).mean(dim=0), THETA, steps)
    # A step of 1e-5 leaves an error of its square times the third derivative.
    torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, found.mT, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["layer_norm", "solve", "logdet"])
def test_without_the_context_torch_is_wrong(name: str) -> None:
    """What the context is for; when this fails, PyTorch was mended and the context can go."""

    def total(t: Tensor) -> Tensor:
        return LOSSES[name](t, X).mean()

    nested = torch.func.jacfwd(torch.func.jacfwd(total))(THETA)
    right = torch.func.jacfwd(torch.func.grad(total))(THETA)
    assert not torch.allclose(nested, right, rtol=1e-3)
    with Elementary():
        torch.testing.assert_close(torch.func.jacfwd(torch.func.jacfwd(total))(THETA), right, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_values_are_those_of_torch(name: str) -> None:
    expected = LOSSES[name](THETA, X)
    with Elementary():
        torch.testing.assert_close(LOSSES[name](THETA, X), expected, rtol=1e-10, atol=1e-12)


def test_the_logarithm_of_a_negative_determinant_is_not_a_number() -> None:
    with Elementary():
        assert torch.logdet(-EYE).isnan()
