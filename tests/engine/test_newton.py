"""Newton on one data set and on a batch of one: the same statuses, the same roots."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import eeqs
from eeqs import Status

RNG = np.random.default_rng(17)
N = 120
X = RNG.normal(size=N)
NOISE = RNG.normal(size=N)
DATA = {"x": X, "y": 1 + X + NOISE, "b": (X + NOISE > 0).astype(float), "s": (X > 0).astype(float), "copy": 2 * X}


def _two(theta, data):
    residual = data["y"] - theta[0] - theta[1].exp() * data["x"]
    return torch.stack([residual, residual * data["x"]], dim=1)


def _constant_row(theta, data):
    centred = data["y"] - theta[0]
    return torch.stack([centred, (theta[0] - 2 - theta[1]).expand(len(centred))], dim=1)


CASES = {
    "linear": (eeqs.moments.least_squares("y", ["x"]), [0.0, 0.0], Status.CONVERGED),
    "logit": (eeqs.moments.logit("b", ["x"]), [0.0, 0.0], Status.CONVERGED),
    "far": (eeqs.moments.logit("b", ["x"]), [4.0, -3.0], Status.CONVERGED),
    "plain": (_two, [0.0, 0.0], Status.CONVERGED),
    "the same for every row": (_constant_row, [0.0, 0.0], Status.CONVERGED),
    "no root": (lambda t, d: 1 + t.square() + 0.1 * d["y"], [0.7], Status.STALLED),
    "separation": (eeqs.moments.logit("s", ["x"]), [0.0, 0.0], Status.DEGENERATE),
    "runs off": (lambda t, d: (-t).exp() + 0 * d["y"], [0.0], Status.DEGENERATE),
    "not finite": (lambda t, d: (d["y"] - t) + (t - 0.5).sqrt() * 0, [1.2], Status.CONVERGED),
}


@pytest.mark.parametrize("name", CASES)
def test_one_and_a_batch_of_one(name):
    psi, start, status = CASES[name]
    one = eeqs.solve(psi, DATA, start)
    batch = eeqs.solve(psi, {k: torch.tensor(v)[None] for k, v in DATA.items()}, torch.tensor([start]))
    assert one.status is status
    assert batch.status == (status,)
    if status is Status.CONVERGED:
        torch.testing.assert_close(batch.theta[0], one.theta, rtol=1e-8, atol=1e-10)


def test_a_duplicate_column_is_never_converged():
    psi = eeqs.moments.least_squares("y", ["x", "copy"])
    one = eeqs.solve(psi, DATA)
    batch = eeqs.solve(psi, {k: torch.tensor(v)[None] for k, v in DATA.items()}, torch.zeros(1, 3))
    assert one.status is Status.SINGULAR
    assert batch.status == (Status.SINGULAR,)


def test_minimum_norm_of_duplicate_columns():
    psi = eeqs.moments.least_squares("y", ["x", "copy"])
    design = np.column_stack([np.ones(N), X, 2 * X])
    solution = eeqs.solve(psi, DATA, minimum_norm=True)
    assert solution.status is Status.CONVERGED
    np.testing.assert_allclose(solution.theta, np.linalg.pinv(design) @ DATA["y"], rtol=1e-8)


def test_minimum_norm_with_more_parameters_than_observations():
    rng = np.random.default_rng(1)
    names = [f"x{j}" for j in range(50)]
    data = {name: rng.normal(size=20) for name in names} | {"y": rng.normal(size=20)}
    psi = eeqs.moments.least_squares("y", names, intercept=False)
    with pytest.raises(eeqs.DataError, match="20 observations cannot determine 50 parameters"):
        eeqs.solve(psi, data)
    solution = eeqs.solve(psi, data, minimum_norm=True)
    design = np.column_stack([data[name] for name in names])
    np.testing.assert_allclose(solution.theta, np.linalg.pinv(design) @ data["y"], rtol=1e-7, atol=1e-10)


def test_functionals_of_unidentified_parameters():
    """The intercept and x + 2 copy are estimable, with the errors of the fit without the duplicate."""
    fit = eeqs.estimate(eeqs.moments.least_squares("y", ["x", "copy"]), DATA, minimum_norm=True)
    clean = eeqs.estimate(eeqs.moments.least_squares("y", ["x"]), DATA)
    total = fit.delta(lambda theta: theta[1] + 2 * theta[2])
    assert total.params.iloc[0] == pytest.approx(clean.params["x"], rel=1e-8)
    assert total.bse.iloc[0] == pytest.approx(clean.bse["x"], rel=1e-8)
    assert fit.bse["Intercept"] == pytest.approx(clean.bse["Intercept"], rel=1e-8)
    assert np.isnan(fit.bse["x"])
    assert np.isnan(fit.bse["copy"])
    with pytest.raises(eeqs.NotEstimableError, match="x"):
        fit.delta(lambda theta: theta[1])


@pytest.mark.parametrize("bad", [{"tolerance": 0.0}, {"max_iterations": 0}])
def test_bad_settings(bad):
    with pytest.raises(ValueError, match="both must be positive"):
        eeqs.solve(eeqs.moments.mean("y"), DATA, **bad)


ESCAPES = {
    # The sign of NaN is zero, which must not pass for a root at theta = NaN.
    "a step function": (lambda t, d: torch.sign(d["y"] - t), [0.1], Status.STALLED),
    # A step function leaves the other equations free to be solved, and stalls.
    "a step beside a mean": (
        lambda t, d: torch.stack([d["x"] - t[0], 0.5 - (d["y"] <= t[1]).double()], 1),
        [5.0, 0.1],
        Status.STALLED,
    ),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_step_functions_keep_finite_parameters(name):
    psi, start, status = ESCAPES[name]
    one = eeqs.solve(psi, DATA, start)
    batch = eeqs.solve(psi, {k: torch.tensor(v)[None] for k, v in DATA.items()}, torch.tensor([start]))
    assert (one.status, batch.status[0]) == (status, status)
    assert "moments.quantile" in one.status.text
    for theta in (one.theta, batch.theta[0]):
        assert float(theta[-1]) == pytest.approx(0.1)
        assert len(start) == 1 or float(theta[0]) == pytest.approx(X.mean(), abs=1e-6)


@pytest.mark.parametrize("far", [60.0, 800.0, -2000.0])
def test_an_equation_that_is_solved_exactly_does_not_stop_the_others(far):
    """The second equation vanishes for every row, which once made the first look at rest wherever it was.

    The first redescends: far from the data its Newton steps run off, and its mean is never zero there.
    """

    def psi(theta, data):
        error = data["y"] - theta[0]
        return torch.stack([error / (1 + error.square()), (theta[1].square() - 0.3).expand(len(error))], dim=1)

    one = eeqs.solve(psi, DATA, [far, -12.0])
    batch = eeqs.solve(psi, {k: torch.tensor(v)[None] for k, v in DATA.items()}, torch.tensor([[far, -12.0]]))
    assert one.status is not Status.CONVERGED
    assert batch.status == (one.status,)


@given(seed=st.integers(0, 2**16), kind=st.sampled_from(["curve", "cubic", "root", "product"]))
def test_one_and_a_batch_of_one_from_any_start(seed, kind):
    """Whatever comes of a start far away comes of it in a batch too, and what converged is a root."""
    rng = np.random.default_rng(seed)
    psi = {
        "curve": lambda t, d: (d["y"] - t[0] - t[1].exp() * d["x"])[:, None] * torch.stack([d["x"] * 0 + 1, d["x"]], 1),
        "cubic": lambda t, d: torch.stack([torch.tanh(d["y"] - t[0]), (d["x"] - t[1]) ** 3], 1),
        "root": lambda t, d: torch.stack([t[0].abs().sqrt() - d["y"].abs(), t[1] - d["x"] * t[0]], 1),
        "product": lambda t, d: torch.stack([t[0] * t[1] - d["y"], t[0].square() - t[1] - d["x"]], 1),
    }[kind]
    data = {name: torch.tensor(rng.normal(size=50)) for name in ("x", "y")}
    start = rng.normal(size=2) * 10 ** rng.uniform(-2, 1)
    one = eeqs.solve(psi, data, start)
    batch = eeqs.solve(psi, {k: v[None] for k, v in data.items()}, start[None])
    assert batch.status == (one.status,)
    if one.status is Status.CONVERGED:
        torch.testing.assert_close(batch.theta[0], one.theta, rtol=1e-7, atol=1e-9)
        values = psi(one.theta, data)
        assert bool((values.mean(0).abs() <= 1e-6 * values.square().mean(0).sqrt()).all())
