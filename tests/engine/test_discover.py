"""Linear indices of a plain psi: found where they are, and nowhere else."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import eeqs
from eeqs.engine.derivative import jacobian_of_mean
from eeqs.engine.discover import discovered_jacobian

N = 60


@pytest.fixture
def leaves(generator):
    return {
        "y": torch.rand(N, generator=generator, dtype=torch.float64),
        "X": torch.randn(N, 3, generator=generator, dtype=torch.float64),
        "Z": torch.randn(N, 2, generator=generator, dtype=torch.float64),
    }


def _column(values, design):
    return values[:, None] * design


FOUND = {
    "matmul": (3, lambda t, d: _column(d["y"] - torch.sigmoid(d["X"] @ t), d["X"])),
    "mv": (3, lambda t, d: _column(d["y"] - torch.mv(d["X"], t).exp(), d["X"])),
    "torch.matmul": (3, lambda t, d: _column(d["y"] - torch.matmul(d["X"], t).sin(), d["X"])),
    "method": (3, lambda t, d: _column((d["y"] - d["X"].mv(t)) * d["X"].matmul(t), d["X"])),
    "instruments": (3, lambda t, d: _column(d["y"] - (d["X"] @ t), d["X"].square())),
    "not residual times design": (3, lambda t, d: torch.tanh(d["X"] * (d["X"] @ t)[:, None]) - d["X"]),
    "slices": (
        5,
        lambda t, d: torch.cat(
            [_column((d["y"] - d["X"] @ t[:3]) / (d["Z"] @ t[3:]).exp(), d["X"]), _column((d["Z"] @ t[3:]), d["Z"])], 1
        ),
    ),
    "slice of a slice": (
        5,
        lambda t, d: torch.cat([_column(d["X"] @ t[:4][:3], d["X"]), _column(d["Z"] @ t[3:], d["Z"])], 1),
    ),
    "a branch not taken": (
        3,
        lambda t, d: _column(torch.where(d["X"] @ t > 5, (d["X"] @ t - 50).exp(), d["y"] - d["X"] @ t), d["X"]),
    ),
}
DECLINED = {
    "theta elsewhere": (3, lambda t, d: _column(d["y"] - d["X"] @ t, d["X"]) - 0.1 * t),
    "function of theta": (3, lambda t, d: _column(d["y"] - d["X"] @ t.exp(), d["X"])),
    "one element": (3, lambda t, d: _column(d["y"] - d["X"] @ t - t[0], d["X"])),
    "broadcast": (3, lambda t, d: _column(d["y"] - (d["X"] * t).sum(1), d["X"])),
    "design of theta": (3, lambda t, d: _column((d["X"] * (d["X"] @ t)[:, None]) @ t, d["X"])),
    "no theta": (3, lambda t, d: d["X"]),  # noqa: ARG005
    "stepped slice": (3, lambda t, d: _column(d["Z"] @ t[::2], d["X"])),
    "rows that are not observations": (3, lambda t, d: _column(d["y"], d["X"]) * (d["X"][:4] @ t).sum()),
}


@pytest.mark.parametrize("name", FOUND)
def test_found_and_exact(leaves, name):
    p, psi = FOUND[name]
    theta = torch.linspace(-0.3, 0.4, p, dtype=torch.float64)
    found = discovered_jacobian(psi, theta, leaves, N)
    assert found is not None
    for point in (theta, 2 * theta + 0.1):
        torch.testing.assert_close(found(point, leaves), jacobian_of_mean(psi, point, leaves), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", DECLINED)
def test_declined(leaves, name):
    p, psi = DECLINED[name]
    assert discovered_jacobian(psi, torch.full((p,), 0.2, dtype=torch.float64), leaves, N) is None


@given(seed=st.integers(0, 2**16), n=st.integers(3, 40), p=st.integers(2, 6))
def test_equals_forward_mode(seed, n, p):
    generator = torch.Generator().manual_seed(seed)
    data = {
        "y": torch.randn(n, generator=generator, dtype=torch.float64),
        "X": torch.randn(n, p, generator=generator, dtype=torch.float64),
    }
    theta = torch.randn(p, generator=generator, dtype=torch.float64)

    def psi(t, d):
        return _column(torch.tanh(d["y"] - d["X"] @ t) * (d["X"] @ t).cos(), d["X"])

    found = discovered_jacobian(psi, theta, data, n)
    assert found is not None
    torch.testing.assert_close(found(theta, data), jacobian_of_mean(psi, theta, data), rtol=1e-11, atol=1e-12)


def test_poisoned_reverse_mode_falls_back(leaves):
    """The branch not taken has an infinite derivative times zero in reverse mode, and none in forward mode."""

    def psi(t, d):
        index = d["X"] @ t
        safe = torch.where(index.abs() > 1e9, index.abs().sqrt(), index)
        return _column(d["y"] - safe, d["X"])

    data = leaves | {"X": leaves["X"].clone()}
    data["X"][0] = 0.0
    theta = torch.full((3,), 0.2, dtype=torch.float64)
    found = discovered_jacobian(psi, theta, data, N)
    assert found is not None
    torch.testing.assert_close(found(theta, data), -data["X"].mT @ data["X"] / N, rtol=1e-12, atol=1e-13)
    assert eeqs.solve(psi, data, np.zeros(3)).converged


FOOLING = {
    # Flat at the start, and seen only away from it.
    "theta by an attribute": lambda t, d: _column(d["y"] - d["X"] @ t, d["X"]) - 0.3 * t.real**2,
    "rows that interact": lambda t, d: _column(d["y"] - d["X"] @ t - (d["X"] @ t).mean() ** 2, d["X"]),
    "theta through a transpose": lambda t, d: _column(d["y"] - d["X"] @ t - (d["X"] @ t.T.clone()) ** 2, d["X"]),
}


@pytest.mark.filterwarnings("ignore:The use of `x.T`")
@pytest.mark.parametrize("name", FOOLING)
def test_fooling_at_the_start_is_caught_away_from_it(leaves, name):
    psi, start = FOOLING[name], torch.zeros(3, dtype=torch.float64)
    assert discovered_jacobian(psi, start, leaves, N) is None
    theta = torch.full((3,), 0.2, dtype=torch.float64)
    bread = eeqs.bread(psi, theta, {key: leaves[key] for key in ("y", "X")})
    torch.testing.assert_close(bread, jacobian_of_mean(psi, theta, leaves), rtol=1e-12, atol=1e-13)


def test_attributes_that_only_describe_theta_do_no_harm(leaves):
    def psi(t, d):
        assert t.shape == (3,)
        assert t.ndim == len(t.shape)
        zero = torch.zeros(len(d["y"]), dtype=t.dtype, device=t.device)
        return _column(d["y"] - d["X"] @ t + zero, d["X"])

    assert discovered_jacobian(psi, torch.zeros(3, dtype=torch.float64), leaves, N) is not None


def test_another_branch_is_differentiated_as_it_is(leaves):
    """A branch of Python code that the start does not take uses theta in other ways, or not at all."""
    for other in (lambda t, d: d["X"] * t, lambda _, d: d["X"]):

        def psi(t, d, other=other):
            index = d["X"] @ t
            return _column(d["y"] - index, d["X"]) if float(index.detach().abs().max()) < 1e3 else other(t, d)

        found = discovered_jacobian(psi, torch.zeros(3, dtype=torch.float64), leaves, N)
        assert found is not None
        theta = torch.full((3,), 1e4, dtype=torch.float64)
        exact = jacobian_of_mean(other, theta, leaves)
        torch.testing.assert_close(found(theta, leaves), exact, rtol=1e-12, atol=1e-13)


_LINKS = st.sampled_from([torch.sigmoid, torch.tanh, torch.sin, torch.exp, torch.square])


@given(links=st.lists(_LINKS, min_size=1, max_size=3), seed=st.integers(0, 2**16), shared=st.booleans())
def test_generated_psis(links, seed, shared):
    """Sums and products of links of several indices, of slices of theta or of all of it."""
    generator = torch.Generator().manual_seed(seed)
    m = len(links)
    X = 0.5 * torch.randn(m, 30, 2, generator=generator, dtype=torch.float64)
    p = 2 if shared else 2 * m
    theta = torch.randn(p, generator=generator, dtype=torch.float64)
    weights = torch.randn(30, p, generator=generator, dtype=torch.float64)

    def psi(t, d):
        levels = [link(d[f"X{k}"] @ (t if shared else t[2 * k : 2 * k + 2])) for k, link in enumerate(links)]
        total, product = sum(levels), torch.stack(levels).prod(dim=0)
        return total[:, None] * d["w"] + product[:, None] * d["w"].cos()

    data = {f"X{k}": X[k] for k in range(m)} | {"w": weights}
    found = discovered_jacobian(psi, theta, data, 30)
    exact = jacobian_of_mean(psi, theta, data)
    assert found is not None or m > p
    if found is not None:
        torch.testing.assert_close(found(theta, data), exact, rtol=1e-11, atol=1e-12 * float(exact.abs().max()))
