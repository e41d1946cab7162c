"""Random-effects meta-analysis against the definition of the estimator, solved by bisection."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

import eeqs


def _studies(seed, tau, k=12, beta=(0.4, 0.0)):
    rng = np.random.default_rng(seed)
    v, x = rng.uniform(0.02, 0.8, size=k), rng.normal(size=k)
    return {"y": beta[0] + beta[1] * x + rng.normal(size=k) * np.sqrt(v + tau**2), "v": v, "x": x}


def _fixed(data, tau2, x=()):
    """Weighted least squares at a given variance between studies: coefficients and Q."""
    design = np.column_stack([np.ones(len(data["y"])), *(data[name] for name in x)])
    weight = 1 / (data["v"] + tau2)
    beta = np.linalg.solve(design.T @ (weight[:, None] * design), design.T @ (weight * data["y"]))
    return beta, (weight * (data["y"] - design @ beta) ** 2).sum() - len(data["y"]) + design.shape[1]


@pytest.mark.parametrize("x", [(), ("x",)])
def test_root_of_the_cochran_statistic(x):
    data = _studies(1, 0.9, beta=(0.4, 0.5))
    tau2 = optimize.brentq(lambda t: _fixed(data, t, x)[1], 0, 1e3, xtol=1e-15, rtol=1e-14)
    fit = eeqs.estimate(eeqs.moments.random_effects("y", "v", x), data)
    assert list(fit.params.index) == ["Intercept", *x, "log(tau2)"]
    np.testing.assert_allclose(fit.params.iloc[:-1], _fixed(data, tau2, x)[0], rtol=1e-9)
    assert np.exp(fit.params["log(tau2)"]) == pytest.approx(tau2, rel=1e-8)


def test_jacobian_and_rows_together():
    psi, data = eeqs.moments.random_effects("y", "v", ["x"]), _studies(2, 0.5)
    assert eeqs.check_jacobian(psi, [0.3, 0.1, -1.0], data).passed
    with pytest.raises(eeqs.PsiError, match="needs all rows at once"):
        eeqs.solve(psi, [data].__iter__)


def test_every_study_set_has_the_right_outcome():
    """400 sets in one batch, at every amount of heterogeneity: solved where Q(0) > k - 1, "stalled" where not."""
    rng = np.random.default_rng(3)
    k = 8
    v = np.exp(1.5 * rng.normal(size=(400, k)))
    tau = np.repeat([0.0, 0.1, 1.0, 100.0], 100)[:, None]
    y = rng.normal(size=(400, k)) * np.sqrt(v + tau**2)
    psi = eeqs.moments.random_effects("y", "v")
    theta0 = psi.start(psi.prepare({"y": torch.from_numpy(y), "v": torch.from_numpy(v)}))
    solution = eeqs.solve(psi, {"y": y, "v": v}, theta0)
    excess = [_fixed({"y": a, "v": b}, 0.0)[1] for a, b in zip(y, v, strict=True)]
    heterogeneous = np.array(excess) > 0
    assert 50 < heterogeneous.sum() < 350
    np.testing.assert_array_equal(solution.converged.numpy(), heterogeneous)
    assert {status for status in solution.status if status is not eeqs.Status.CONVERGED} == {eeqs.Status.STALLED}


def test_homogeneous_studies_have_no_root():
    """tau^2 = 0: a named status, the fixed-effect estimate, and no standard errors without being asked twice."""
    data = {"y": np.array([0.1, 0.12, 0.08, 0.2, 0.15]), "v": np.array([0.1, 0.2, 0.3, 0.4, 0.5])}
    psi = eeqs.moments.random_effects("y", "v")
    solution = eeqs.solve(psi, data)
    assert solution.status is eeqs.Status.STALLED
    assert solution.theta[0] == pytest.approx(_fixed(data, 0.0)[0][0], rel=1e-6)
    assert solution.theta[1].exp() < 1e-8
    with pytest.raises(eeqs.SolverError, match="no root on this sample"):
        eeqs.estimate(psi, data)
    fixed = eeqs.estimate(eeqs.moments.least_squares("y", [], weights="w"), data | {"w": 1 / data["v"]})
    assert fixed.params["Intercept"] == pytest.approx(solution.theta[0].item(), rel=1e-6)


@given(st.integers(0, 2**16), st.floats(-9, 9).map(lambda e: 10**e), st.randoms(use_true_random=False))
def test_units_and_order_of_studies(seed, unit, random):
    data = _studies(seed, 1.5, k=15)
    psi = eeqs.moments.random_effects("y", "v", ["x"])
    fit = eeqs.estimate(psi, data)
    order = random.sample(range(15), 15)
    other = eeqs.estimate(psi, {"y": unit * data["y"][order], "v": unit**2 * data["v"][order], "x": data["x"][order]})
    np.testing.assert_allclose(other.params.iloc[:2], unit * fit.params.iloc[:2], rtol=1e-7, atol=1e-9 * unit)
    assert other.params["log(tau2)"] == pytest.approx(fit.params["log(tau2)"] + 2 * np.log(unit), abs=1e-7)
    np.testing.assert_allclose(other.bse, fit.bse * [unit, unit, 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": np.array([0.1, 0.0, 0.2])}, 'variance "v" has values of zero or less'),
        ({"v": np.ones((3, 2))}, 'variance "v" has shape'),
        ({"v": np.ones(2), "y": np.ones(2), "x": np.arange(2.0)}, "2 observations cannot determine 3 parameters"),
    ],
)
def test_bad_studies_are_refused(change, message):
    data = {"y": np.array([0.1, 0.5, 0.9]), "v": np.ones(3), "x": np.arange(3.0)} | change
    with pytest.raises(eeqs.DataError, match=message):
        eeqs.estimate(eeqs.moments.random_effects("y", "v", ["x"]), data)
