"""The estimating-function contract and the ways to make one."""

import numpy as np
import pytest
import torch

import eeqs
from eeqs.engine.derivative import jacobian_of_mean
from eeqs.engine.psi import as_psi

THETA = torch.tensor([0.4, -0.2], dtype=torch.float64)


@pytest.fixture
def leaves(generator):
    n = 60
    x = torch.stack([torch.ones(n), torch.randn(n, generator=generator)], dim=1).double()
    y = torch.rand(n, generator=generator, dtype=torch.float64)
    return {"x": x, "y": y, "w": torch.randint(0, 4, (n,), generator=generator).double()}


def _least_squares(theta, data):
    return (data["y"] - data["x"] @ theta)[:, None] * data["x"]


def _mean(theta, data):
    return data["y"] - theta


def test_plain_callable_is_wrapped_and_an_estimating_function_passes_through():
    wrapped = as_psi(_mean)
    assert wrapped.psi is _mean
    assert wrapped.names == ()
    assert as_psi(wrapped) is wrapped
    with pytest.raises(eeqs.PsiError, match="psi is a str; pass a callable"):
        as_psi("y - theta")


def test_call_prepares_the_data():
    psi = eeqs.moments.least_squares("y", ["x"])
    data = {"y": torch.tensor([1.0, 3.0]).double(), "x": torch.tensor([0.0, 2.0]).double()}
    assert psi(torch.tensor([0.5, 1.0]).double(), data).tolist() == [[0.5, 0.0], [0.5, 1.0]]


BAD_PSI = {
    "numpy vector": (lambda t, d: d["y"].numpy() - t.numpy(), "psi returned a ndarray; write it in torch"),
    "numpy matrix": (lambda t, d: (d["y"].numpy() - t.numpy())[:, None], "psi returned a ndarray"),
    "None": (lambda t, d: None, "psi returned a NoneType"),  # noqa: ARG005
    "list": (lambda t, d: [d["y"] - t], "psi returned a list"),
    "scalar": (
        lambda t, d: (d["y"] - t).sum(),
        r"shape \(\) for 60 observations and 1 parameters; it must return \(60",
    ),
    "transposed": (lambda t, d: (d["y"] - t)[None, :], r"shape \(1, 60\)"),
    "too few rows": (lambda t, d: d["y"][1:] - t, r"shape \(59, 1\)"),
    "too many columns": (lambda t, d: (d["y"] - t)[:, None].expand(60, 2), r"shape \(60, 2\)"),
    "not finite": (
        lambda t, d: torch.log(d["y"] - d["y"][3] + 0 * t).abs(),
        r'infinite for \d+ observation\(s\) in the equation of "theta\[0\]", first at row \d+, at theta = \[0.1\]',
    ),
}


@pytest.mark.parametrize(("psi", "message"), BAD_PSI.values(), ids=BAD_PSI.keys())
def test_psi_of_the_wrong_form_is_explained(leaves, psi, message):
    with pytest.raises(eeqs.PsiError, match=message):
        eeqs.solve(psi, leaves, [0.1])


def test_non_finite_psi_names_equation_and_row(leaves):
    leaves["y"][17] = -1.0
    psi = eeqs.EstimatingFunction(lambda t, d: torch.stack([d["y"], d["y"].log()], 1) - t, names=("level", "log level"))
    with pytest.raises(eeqs.PsiError, match=r'1 observation\(s\) in the equation of "log level", first at row 17'):
        eeqs.solve(psi, leaves, [0.5, 0.5])


@pytest.mark.parametrize(
    ("theta0", "message"),
    [
        (None, "theta0 is missing and psi has no start"),
        ([np.nan], "theta has NaN or infinite entries"),
        ([np.inf], "theta has NaN or infinite entries"),
        (0.5, r"theta has shape \(\)"),
        ([[[0.5]]], r"theta has shape \(1, 1, 1\)"),
        ([[0.5], [0.5]], r'"x" has leading shape|batched data is \(R, n'),
    ],
)
def test_bad_start_is_explained(leaves, theta0, message):
    with pytest.raises((eeqs.PsiError, eeqs.DataError), match=message):
        eeqs.solve(_mean, leaves, theta0)


def test_start_of_the_wrong_length_names_the_parameters(leaves):
    psi = eeqs.EstimatingFunction(_mean, names=("mu",))
    with pytest.raises(eeqs.PsiError, match=r"theta has length 2, but psi has 1 parameters: \['mu'\]"):
        eeqs.solve(psi, leaves, [0.0, 0.0])


def test_fewer_observations_than_parameters():
    with pytest.raises(eeqs.DataError, match="1 observations cannot determine 2 parameters"):
        eeqs.solve(eeqs.moments.least_squares("y", ["x"]), {"y": [1.0], "x": [2.0]})


def test_replicates_must_match(leaves):
    data = {"y": leaves["y"].reshape(2, 30)}
    with pytest.raises(eeqs.PsiError, match="theta has 3 rows but the data has 2 replicates"):
        eeqs.solve(_mean, data, torch.zeros(3, 1))


def test_from_loss_is_the_analytic_gradient(leaves):
    psi = eeqs.from_loss(lambda t, d: 0.5 * (d["y"] - d["x"] @ t).square(), names=("a", "b"))
    torch.testing.assert_close(psi(THETA, leaves), _least_squares(THETA, leaves), rtol=1e-13, atol=1e-14)
    expected = -leaves["x"].mT @ leaves["x"] / 60
    torch.testing.assert_close(eeqs.bread(psi, THETA, leaves), expected, rtol=1e-13, atol=1e-14)
    assert psi.names == ("a", "b")


@pytest.mark.parametrize(
    "residual",
    [
        lambda index, d: d["y"] - index.exp(),
        lambda index, d: d["y"] - torch.sigmoid(index),
        lambda index, d: torch.tanh(d["y"] - index),
        lambda index, d: (d["y"] - torch.special.ndtr(index)) * torch.exp(-index.square() / 2),
    ],
    ids=["poisson", "logit", "robust", "probit"],
)
def test_from_linear_index_has_the_bread_of_automatic_differentiation(leaves, residual):
    psi = eeqs.from_linear_index(residual, lambda d: d["x"])
    expected = residual(leaves["x"] @ THETA, leaves)[:, None] * leaves["x"]
    torch.testing.assert_close(psi(THETA, leaves), expected, rtol=0, atol=0)
    torch.testing.assert_close(
        eeqs.bread(psi, THETA, leaves), jacobian_of_mean(psi.psi, THETA, leaves), rtol=1e-12, atol=1e-14
    )


def _inner(theta, data):
    """Probabilities (K, n) of a success under the draws (n, K)."""
    return torch.sigmoid(theta[0] + theta[1].exp() * data["z"].mT)


def _quadratic(live, frozen, data):
    """Two-category quadratic surrogate: residual and probability never share a draw."""
    residual = data["y"] - frozen
    crossed = residual.sum(0) * live.sum(0) - (residual * live).sum(0)
    return -2 * crossed / (live.shape[0] * (live.shape[0] - 1))


@pytest.fixture
def draws(generator):
    z = torch.randn(80, 4, generator=generator, dtype=torch.float64)
    return {"z": z, "y": (torch.rand(80, generator=generator) < 0.6).double()}


def test_from_surrogate_has_the_bread_of_finite_differences(draws):
    psi = eeqs.from_surrogate(_inner, _quadratic, names=("level", "log scale"))
    assert eeqs.check_jacobian(psi, THETA, draws).passed


def test_detached_surrogate_has_the_same_psi_and_fails_the_bread_check(draws):
    """The stop-gradient trap: detach() hides the frozen copy from the derivative of psi."""
    psi = eeqs.from_surrogate(_inner, _quadratic)

    def loss(theta, data):
        live = _inner(theta, data)
        return _quadratic(live, live.detach(), data)

    trapped = eeqs.from_loss(loss)
    torch.testing.assert_close(trapped(THETA, draws), psi(THETA, draws), rtol=1e-12, atol=1e-14)
    report = eeqs.check_jacobian(trapped, THETA, draws)
    assert not report.passed
    assert report.worst > 0.01


def test_from_surrogate_in_a_batch_is_the_loop(draws):
    psi = eeqs.from_surrogate(_inner, _quadratic)
    batch = {name: torch.stack([leaf, leaf.roll(5, 0).flip(-1)]) for name, leaf in draws.items()}
    thetas = torch.stack([THETA, THETA + 0.1])
    together, meats = eeqs.bread(psi, thetas, batch), eeqs.meat(psi, thetas, batch)
    for r in range(2):
        one = {name: leaf[r] for name, leaf in batch.items()}
        torch.testing.assert_close(together[r], eeqs.bread(psi, thetas[r], one), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(meats[r], eeqs.meat(psi, thetas[r], one), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("psi", [_least_squares, eeqs.EstimatingFunction(_least_squares, ("a", "b"), ("y", "x"))])
def test_weight_multiplies_rows(leaves, psi):
    weighted = eeqs.weight(psi, "w")
    expected = leaves["w"][:, None] * _least_squares(THETA, leaves)
    torch.testing.assert_close(weighted(THETA, leaves), expected, rtol=0, atol=0)
    assert eeqs.weight(_mean, "w")(torch.zeros(1), leaves).shape == (60,)


@pytest.mark.parametrize("weights", [[1.0, -1.0, 1.0], [0.0, 0.0, 0.0]])
def test_bad_weights_are_named(weights):
    data = {"y": [1.0, 2.0, 3.0], "w": weights}
    with pytest.raises(eeqs.DataError, match='weights "w" must be non-negative, with at least one above zero'):
        eeqs.solve(eeqs.weight(eeqs.moments.mean("y"), "w"), data)


def test_weights_must_be_a_column():
    with pytest.raises(eeqs.DataError, match='unknown column "weight"'):
        eeqs.solve(eeqs.weight(eeqs.moments.mean("y"), "weight"), {"y": [1.0, 2.0]})


def test_step_function_cannot_be_weighted():
    with pytest.raises(eeqs.PsiError, match="step function of theta"):
        eeqs.weight(eeqs.moments.quantile("y"), "w")


def test_weights_that_are_not_in_the_data_are_named():
    with pytest.raises(eeqs.DataError, match='weights "w"'):
        eeqs.solve(eeqs.weight(lambda t, d: d["y"] - t, "w"), {"y": torch.arange(3.0)}, [0.0])


def test_a_surrogate_of_a_level_without_short_axes(frame):
    """Live log-likelihood less a frozen weight: the score of a logistic regression in one level an observation."""

    def level(theta, data):
        return theta[0] + theta[1] * data["x"]

    def surrogate(live, frozen, data):
        return (torch.sigmoid(frozen) - data["binary"]) * live

    fit = eeqs.estimate(eeqs.from_surrogate(level, surrogate), frame[["x", "binary"]], [0.0, 0.0])
    exact = eeqs.estimate(eeqs.moments.logit("binary", ["x"]), frame)
    np.testing.assert_allclose(fit.params, exact.params, rtol=1e-8)
    np.testing.assert_allclose(fit.cov_params(), exact.cov_params(), rtol=1e-8)
