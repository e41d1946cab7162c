"""Transformed and derived parameters against the delta method, and laws of reparametrisation."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import eeqs
from eeqs import moments

SEEDS = st.integers(0, 2**16)
# Function, its inverse and its derivative in numpy, for parameters inside (0, 1).
SCALES = {
    torch.log: (np.log, lambda t: 1 / t),
    torch.exp: (np.exp, np.exp),
    torch.logit: (lambda t: np.log(t / (1 - t)), lambda t: 1 / (t * (1 - t))),
    torch.atanh: (np.arctanh, lambda t: 1 / (1 - t**2)),
    torch.reciprocal: (lambda t: 1 / t, lambda t: -1 / t**2),
}


def _data(seed, n=70):
    rng = np.random.default_rng(seed)
    return {"u": rng.beta(2, 3, size=n), "v": rng.uniform(0.1, 0.9, size=n), "w": rng.integers(0, 4, size=n)}


@given(seed=SEEDS, function=st.sampled_from(list(SCALES)), which=st.sampled_from(["mean[u]", "variance[v]"]))
def test_transformed_sandwich_is_the_delta_method(seed, function, which):
    data, psi = _data(seed), moments.variance("u", "v")
    plain = eeqs.estimate(psi, data)
    fit = eeqs.estimate(eeqs.transform(psi, {which: function}), data)
    j = plain.names.index(which)
    value, slope = SCALES[function]
    jacobian = np.eye(4)
    jacobian[j, j] = slope(plain.params[which])
    expected = plain.params.to_numpy().copy()
    expected[j] = value(expected[j])
    assert fit.names[j] == f"{function.__name__}({which})"
    np.testing.assert_allclose(fit.params, expected, rtol=1e-8)
    covariance = jacobian @ plain.cov_params().to_numpy() @ jacobian.T
    np.testing.assert_allclose(fit.cov_params(), covariance, rtol=1e-7, atol=1e-9 * np.abs(covariance).max())


@given(seed=SEEDS, functions=st.sampled_from([(torch.log, torch.exp), (torch.exp, torch.log)]))
def test_there_and_back_changes_nothing(seed, functions):
    """Law: a transformation followed by its inverse is the psi that it began with."""
    data, psi = _data(seed), moments.variance("u")
    there = eeqs.transform(psi, {"variance[u]": functions[0]})
    back = eeqs.transform(there, {there.names[1]: functions[1]})
    one, other = eeqs.estimate(psi, data), eeqs.estimate(back, data)
    np.testing.assert_allclose(other.params, one.params, rtol=1e-8)
    np.testing.assert_allclose(other.cov_params(), one.cov_params(), rtol=1e-7, atol=1e-14)


def test_odds_ratio(frame):
    plain = eeqs.estimate(moments.logit("binary", ["x", "z"]), frame)
    fit = eeqs.estimate(eeqs.transform(moments.logit("binary", ["x", "z"]), {"x": torch.exp}), frame)
    ratio = np.exp(plain.params["x"])
    assert fit.params["exp(x)"] == pytest.approx(ratio, rel=1e-9)
    assert fit.bse["exp(x)"] == pytest.approx(ratio * plain.bse["x"], rel=1e-9)
    psi = eeqs.transform(moments.logit("binary", ["x", "z"]), {"x": torch.exp})
    assert eeqs.check_jacobian(psi, fit.params, frame).passed


def test_a_function_with_its_inverse(frame):
    def cube(t):
        return t**3

    def root(t):
        return t.abs() ** (1 / 3) * t.sign()

    fit = eeqs.estimate(eeqs.transform(moments.variance("y"), {"variance[y]": (root, cube)}), frame)
    assert fit.names[1] == "root(variance[y])"
    assert fit.params.iloc[1] == pytest.approx(np.var(frame["y"]) ** (1 / 3), rel=1e-9)


def test_a_wrong_inverse_shows_in_the_estimate(frame):
    """Planted: an inverse of another function solves for another parameter than the name says."""
    psi = eeqs.transform(moments.variance("y"), {"variance[y]": (torch.log, torch.square)})
    fit = eeqs.estimate(psi, frame, [0.0, 1.0])
    assert abs(fit.params.iloc[1] - np.log(np.var(frame["y"]))) > 0.1


def test_step_functions_and_penalties_are_carried_over(frame):
    shifted = frame.assign(y=frame["y"] - frame["y"].min() + 1)
    median = eeqs.estimate(moments.quantile("y"), shifted)
    fit = eeqs.estimate(eeqs.transform(moments.quantile("y"), {"Intercept": torch.log}), shifted)
    assert fit.params.iloc[0] == pytest.approx(np.log(median.params.iloc[0]), rel=1e-12)
    assert fit.bse.iloc[0] == pytest.approx(median.bse.iloc[0] / median.params.iloc[0], rel=1e-9)
    ridge = eeqs.ridge(moments.least_squares("y", ["x"]), 0.5)
    plain = eeqs.estimate(eeqs.weight(ridge, "w"), shifted)
    other = eeqs.estimate(eeqs.weight(eeqs.transform(ridge, {"Intercept": torch.log}), "w"), shifted)
    assert other.params.iloc[1] == pytest.approx(plain.params["x"], rel=1e-8)
    assert other.bse.iloc[1] == pytest.approx(plain.bse["x"], rel=1e-8)


def test_replicates(frame):
    psi = eeqs.transform(moments.variance("y"), {"variance[y]": torch.log})
    batch = torch.tensor(frame["y"].to_numpy()).reshape(3, 50)
    theta = eeqs.solve(psi, {"y": batch}, torch.zeros(3, 2)).theta
    expected = torch.stack([batch.mean(1), batch.var(1, correction=0).log()], dim=1)
    torch.testing.assert_close(theta, expected, rtol=1e-9, atol=1e-9)


@given(seed=SEEDS)
def test_derived_parameters_are_the_delta_method(seed):
    data, psi = _data(seed), moments.variance("u", "v")
    functions = {
        "cv": lambda b: b["variance[u]"].sqrt() / b["mean[u]"],
        "gap": lambda b: b["mean[u]"] - b["mean[v]"],
    }
    plain = eeqs.estimate(psi, data)
    fit = eeqs.estimate(eeqs.derive(psi, **functions), data)
    m, _, s2, _ = plain.params
    gradient = np.array([[-np.sqrt(s2) / m**2, 0, 0.5 / np.sqrt(s2) / m, 0], [1, -1, 0, 0]])
    np.testing.assert_allclose(fit.params[["cv", "gap"]], [np.sqrt(s2) / m, m - plain.params.iloc[1]], rtol=1e-9)
    jacobian = np.vstack([np.eye(4), gradient])
    expected = jacobian @ plain.cov_params().to_numpy() @ jacobian.T
    np.testing.assert_allclose(fit.cov_params(), expected, rtol=1e-7, atol=1e-10 * np.abs(expected).max())


class Batches:
    def __init__(self, frame):
        self._frame = frame

    def __iter__(self):
        for start in range(0, len(self._frame), 60):
            yield self._frame.iloc[start : start + 60]


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e9])
@pytest.mark.parametrize("start", ["own", "zero", "batches"])
def test_derived_parameters_are_solved_from_anywhere_in_any_unit(frame, unit, start):
    """Their rows are constant over observations, and so have no standard error by which a solver could scale them."""
    data = pd.DataFrame({"y": unit * (frame["y"] + 5), "z": unit * (frame["z"] + 2)})
    psi = eeqs.derive(moments.variance("y", "z"), product=lambda b: b["mean[y]"] ** 2 * b["variance[z]"])
    theta0 = [unit, unit, unit**2, unit**2, 0.0] if start == "zero" else None
    fit = eeqs.estimate(psi, Batches(data) if start == "batches" else data, theta0)
    y, z = data["y"] / unit, data["z"] / unit
    assert fit.params["product"] / unit**4 == pytest.approx(y.mean() ** 2 * np.var(z), rel=1e-8)


def test_derived_parameters_keep_weights_batches_of_replicates_and_later_blocks(frame):
    psi = eeqs.derive(moments.variance("y"), sd=lambda b: b["variance[y]"].sqrt())
    numbers = frame.drop(columns="firm")
    for weighted in (
        eeqs.weight(psi, "w", kind="frequency"),
        eeqs.derive(eeqs.weight(moments.variance("y"), "w", kind="frequency"), sd=lambda b: b["variance[y]"].sqrt()),
    ):
        fit = eeqs.estimate(weighted, numbers)
        repeated = eeqs.estimate(psi, numbers.loc[numbers.index.repeat(numbers["w"])])
        np.testing.assert_allclose(fit.params, repeated.params, rtol=1e-9)
        np.testing.assert_allclose(fit.bse, repeated.bse, rtol=1e-9)
    batch = torch.tensor(frame["y"].to_numpy()).reshape(3, 50)
    theta = eeqs.solve(psi, {"y": batch}, torch.tensor([[0.0, 1.0, 1.0]] * 3)).theta
    torch.testing.assert_close(theta[:, 2], batch.std(1, correction=0), rtol=1e-9, atol=0)
    later = eeqs.stack(y=psi, z=lambda theta, data, y: (data["y"] - y[0]) / y[2] * data["z"] - theta)
    scaled = (numbers["y"] - numbers["y"].mean()) / np.std(numbers["y"])
    assert eeqs.estimate(later, numbers).params["z"] == pytest.approx((scaled * numbers["z"]).mean(), rel=1e-9)


def test_derived_parameters_of_derived_parameters(frame):
    psi = eeqs.derive(moments.variance("y"), sd=lambda b: b["variance[y]"].sqrt())
    fit = eeqs.estimate(eeqs.derive(psi, cv=lambda b: b["sd"] / b["mean[y]"]), frame)
    assert fit.names == ("mean[y]", "variance[y]", "sd", "cv")
    assert fit.params["cv"] == pytest.approx(np.std(frame["y"]) / frame["y"].mean(), rel=1e-9)


def test_derived_parameters_of_step_functions_and_formulas(frame):
    text = frame.assign(side=np.where(frame["z"] > 0, "up", "down"))
    for psi in (moments.quantile("y", x=["x"]), moments.least_squares.from_formula("y ~ x + C(side)", text)):
        plain = eeqs.estimate(psi, text)
        fit = eeqs.estimate(eeqs.derive(psi, at2=lambda b: b["Intercept"] + 2 * b["x"]), text)
        gradient = np.array([1.0, 2.0, 0.0])[: len(plain.params)]
        assert fit.params["at2"] == pytest.approx(gradient @ plain.params, rel=1e-9)
        assert fit.bse["at2"] == pytest.approx(np.sqrt(gradient @ plain.cov_params() @ gradient), rel=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: eeqs.transform(moments.mean("y"), {"y": torch.log}), r'no parameter "y"; it has \[\'mean\[y\]\'\]'),
        (
            lambda: eeqs.transform(moments.mean("y"), {"mean[y]": torch.sin}),
            r'inverse of the transformation of "mean\[y\]"',
        ),
        (lambda: eeqs.derive(lambda theta, data: data["y"] - theta, a=lambda b: b["y"]), "named parameters"),
        (lambda: eeqs.derive(moments.mean("y")), "at least one function"),
        (lambda: eeqs.derive(moments.logit("y", ["x"]), x=lambda b: b["x"]), 'already has a parameter "x"'),
    ],
)
def test_bad_calls_are_refused_at_the_door(make, message):
    with pytest.raises(eeqs.PsiError, match=message):
        make()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda b: b["y"], r'derived "d" asks for \'y\'; psi has \[\'mean\[y\]\'\]'),
        (lambda b: float(b["mean[y]"].detach()), "must be a scalar tensor"),
        (lambda b: torch.stack([b["mean[y]"]] * 2), "must be a scalar tensor"),
    ],
)
def test_bad_functions_are_named(frame, function, message):
    with pytest.raises(eeqs.PsiError, match=message):
        eeqs.estimate(eeqs.derive(moments.mean("y"), d=function), frame)


def test_an_estimate_outside_the_range_of_a_transformation_is_refused():
    with pytest.raises(eeqs.PsiError, match=r"the data put log\(mean\[y\]\) at nan, outside the range"):
        eeqs.estimate(eeqs.transform(moments.mean("y"), {"mean[y]": torch.log}), {"y": [-1.0, -2.0, -4.0]})
