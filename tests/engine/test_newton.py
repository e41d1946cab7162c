"""Newton on one data set and on a batch of one: the same statuses, the same roots."""

import numpy as np
import pytest
import torch

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
