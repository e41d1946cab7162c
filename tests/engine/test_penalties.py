"""Ridge and bridge against closed forms and direct minimisation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

import eeqs

X = ["x", "z"]


def _design(frame):
    return np.column_stack([np.ones(len(frame)), frame[X]])


@given(strength=st.floats(0, 1e3))
def test_ridge_least_squares_closed_form(strength):
    rng = np.random.default_rng(2)
    data = {"x": rng.normal(size=40), "z": rng.normal(size=40), "y": rng.normal(size=40)}
    design = np.column_stack([np.ones(40), data["x"], data["z"]])
    penalty = np.diag([0.0, strength, strength])
    fit = eeqs.estimate(eeqs.ridge(eeqs.moments.least_squares("y", X), strength), data)
    gram = design.T @ design / 40 + penalty
    beta = np.linalg.solve(gram, design.T @ data["y"] / 40)
    rows = (data["y"] - design @ beta)[:, None] * design - penalty @ beta
    inverse = np.linalg.inv(gram)
    np.testing.assert_allclose(fit.params, beta, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(fit.cov_params(), inverse @ (rows.T @ rows / 40) @ inverse / 40, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("exponent", [1.5, 2.0, 3.0])
def test_bridge_logit_minimises(frame, exponent):
    design, y = _design(frame), frame["binary"].to_numpy()

    def loss(b):
        index = design @ b
        return np.mean(np.logaddexp(0, index) - y * index) + 0.05 * (np.abs(b[1:]) ** exponent).sum()

    found = optimize.minimize(loss, [0.1, 0.3, -0.2], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14})
    fit = eeqs.estimate(eeqs.bridge(eeqs.moments.logit("binary", X), 0.05, exponent), frame, [0.1, 0.3, -0.2])
    np.testing.assert_allclose(fit.params, found.x, rtol=1e-5)
    assert eeqs.check_jacobian(eeqs.bridge(eeqs.moments.logit("binary", X), 0.05, exponent), fit.params, frame).passed


def test_bridge_of_two_is_ridge_of_twice_the_strength(frame):
    bridge = eeqs.estimate(eeqs.bridge(eeqs.moments.logit("binary", X), 0.1, 2.0), frame, [0.1, 0.1, 0.1])
    ridge = eeqs.estimate(eeqs.ridge(eeqs.moments.logit("binary", X), 0.2), frame)
    np.testing.assert_allclose(bridge.params, ridge.params, rtol=1e-8)
    np.testing.assert_allclose(bridge.cov_params(), ridge.cov_params(), rtol=1e-7)


def test_limits(frame):
    psi = eeqs.moments.least_squares("y", X)
    plain = eeqs.estimate(psi, frame)
    np.testing.assert_allclose(eeqs.estimate(eeqs.ridge(psi, 0.0), frame).cov_params(), plain.cov_params(), rtol=1e-10)
    strong = eeqs.estimate(eeqs.ridge(psi, 1e9), frame)
    assert strong.params["Intercept"] == pytest.approx(frame["y"].mean(), rel=1e-6)
    assert np.abs(strong.params[X]).max() < 1e-8
    centred = eeqs.estimate(eeqs.ridge(psi, 1e9, centre=[0.0, 2.0, -1.0]), frame)
    np.testing.assert_allclose(centred.params[X], [2.0, -1.0], rtol=1e-7)


def test_more_parameters_than_observations():
    rng = np.random.default_rng(3)
    names = [f"x{j}" for j in range(30)]
    data = {name: rng.normal(size=20) for name in names} | {"y": rng.normal(size=20)}
    fit = eeqs.estimate(eeqs.ridge(eeqs.moments.least_squares("y", names), 0.1), data)
    design = np.column_stack([np.ones(20), *(data[name] for name in names)])
    penalty = np.diag([0.0] + [0.1] * 30)
    np.testing.assert_allclose(
        fit.params, np.linalg.solve(design.T @ design / 20 + penalty, design.T @ data["y"] / 20), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("kind", ["probability", "frequency"])
def test_weights_and_penalties_commute(frame, kind):
    """A weight belongs to the observations, so penalising the weighted psi or weighting the penalised one agree."""
    psi = eeqs.moments.logit("binary", X)
    one = eeqs.estimate(eeqs.ridge(eeqs.weight(psi, "w", kind=kind), 0.1), frame)
    other = eeqs.estimate(eeqs.weight(eeqs.ridge(psi, 0.1), "w", kind=kind), frame)
    np.testing.assert_allclose(one.params, other.params, rtol=1e-9)
    np.testing.assert_allclose(one.cov_params(), other.cov_params(), rtol=1e-8)
    if kind == "frequency":
        repeated = eeqs.estimate(eeqs.ridge(psi, 0.1), frame.loc[frame.index.repeat(frame["w"])])
        np.testing.assert_allclose(one.params, repeated.params, rtol=1e-9)
        np.testing.assert_allclose(one.cov_params(), repeated.cov_params(), rtol=1e-8)


def test_plain_psi_is_penalised(frame):
    fit = eeqs.estimate(eeqs.ridge(lambda t, d: d["y"] - t, 1.0), {"y": frame["y"]}, [0.0])
    assert fit.params.iloc[0] == pytest.approx(frame["y"].mean() / 2, rel=1e-10)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: eeqs.ridge(eeqs.moments.mean("y"), -1.0), ValueError, "strength is -1.0"),
        (lambda: eeqs.bridge(eeqs.moments.mean("y"), 1.0, 1.0), ValueError, "exponent is 1.0"),
        (lambda: eeqs.ridge(eeqs.moments.quantile("y"), 1.0), eeqs.PsiError, "step function"),
        (lambda: eeqs.ridge(eeqs.ridge(eeqs.moments.mean("y"), 1.0), 1.0), eeqs.PsiError, "already has a penalty"),
        (
            lambda: eeqs.estimate(eeqs.ridge(eeqs.moments.mean("y"), [1.0, 2.0]), {"y": np.arange(9.0)}),
            ValueError,
            "strength has 2 values and theta 1",
        ),
    ],
)
def test_bad_penalties_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_one_free_parameter_by_its_name(frame):
    """A name, and not the letters in it: "t" is penalised although "Intercept" has one."""
    psi = eeqs.EstimatingFunction(lambda t, d: d["y"][:, None] - t, names=("Intercept", "t"))
    fit = eeqs.estimate(eeqs.ridge(psi, 1.0, free="Intercept"), {"y": frame["y"]}, [0.0, 0.0])
    np.testing.assert_allclose(fit.params, frame["y"].mean() * np.array([1.0, 0.5]), rtol=1e-10)


@pytest.mark.parametrize("penalty", [eeqs.ridge, lambda *args, **kw: eeqs.bridge(*args, 1.5, **kw)])
@pytest.mark.parametrize(("centre", "message"), [([1.0, 2.0], "centre has shape"), (np.nan, "finite values")])
def test_bad_centres_are_named(frame, penalty, centre, message):
    with pytest.raises(ValueError, match=message):
        eeqs.estimate(penalty(eeqs.moments.least_squares("y", X), 1.0, centre=centre), frame, [0.1] * 3)
