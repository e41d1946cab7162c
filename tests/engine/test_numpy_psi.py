"""A psi written in numpy, differentiated by differences."""

import numpy as np
import pytest
import torch
from scipy import special

import eeqs

X = ["x", "z"]


def _logit(theta, data):
    design = np.column_stack([np.ones(len(data["x"])), data["x"], data["z"]])
    return (data["binary"] - special.expit(design @ theta))[:, None] * design


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_equals_the_closed_form(frame, unit):
    """Differences keep about eleven digits of the bread; errors are held to 1e-8 in any units of a column."""
    data = frame[["binary", *X]].assign(x=unit * frame["x"])
    exact = eeqs.estimate(eeqs.moments.logit("binary", X), data)
    psi = eeqs.from_numpy(_logit, names=["Intercept", *X])
    fit = eeqs.estimate(psi, data, np.zeros(3))
    np.testing.assert_allclose(fit.params, exact.params, rtol=1e-8)
    np.testing.assert_allclose(fit.bse, exact.bse, rtol=1e-8)
    assert psi.numerical


def test_one_parameter_and_tuples():
    y = np.arange(1.0, 9.0)
    fit = eeqs.estimate(eeqs.from_numpy(lambda t, d: np.log(d[0]) - t), (y,), [0.0])
    assert fit.params.iloc[0] == pytest.approx(np.log(y).mean(), rel=1e-10)


def test_replicates_are_refused():
    psi = eeqs.from_numpy(lambda t, d: d["y"] - t)
    with pytest.raises(eeqs.PsiError, match="one data set on the CPU"):
        eeqs.solve(psi, {"y": np.ones((3, 10))}, torch.zeros(3, 1))


def test_text_is_refused():
    with pytest.raises(eeqs.PsiError, match="dtype object"):
        eeqs.estimate(eeqs.from_numpy(lambda *_: np.array(["a"] * 5, dtype=object)), {"y": np.ones(5)}, [0.0])


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_steps_follow_the_units_of_a_count_model(frame, unit):
    """A step of one in theta overflows the exponential, and is found to be too long without a warning."""

    def poisson(theta, data):
        design = np.column_stack([np.ones(len(data["x"])), data["x"]])
        return (data["count"] - np.exp(design @ theta))[:, None] * design

    data = frame[["count"]].assign(x=unit * frame["x"])
    exact = eeqs.estimate(eeqs.moments.poisson("count", ["x"]), data)
    fit = eeqs.estimate(eeqs.from_numpy(poisson), data, np.zeros(2))
    np.testing.assert_allclose(fit.bse, exact.bse, rtol=1e-8)


def test_equations_of_different_sizes_and_one_that_is_flat(frame):
    """Steps are measured by the equation that moves most, and equations that are zero for all rows by none."""

    def psi(theta, data):
        y = data["y"]
        return np.column_stack([1e9 * (y - theta[0]), (y - theta[0]) ** 2 - theta[1], 1e-9 * (y * 0 + theta[2] - 3.0)])

    fit = eeqs.estimate(eeqs.from_numpy(psi), {"y": frame["y"]}, [0.0, 1.0, 0.0])
    np.testing.assert_allclose(fit.params, [frame["y"].mean(), frame["y"].var(ddof=0), 3.0], rtol=1e-9)
    exact = eeqs.estimate(eeqs.moments.variance("y"), frame)
    np.testing.assert_allclose(fit.bse.iloc[:2], exact.bse, rtol=1e-8)


def test_a_numpy_psi_is_not_weighted_by_differentiation(frame):
    psi = eeqs.from_numpy(lambda t, d: d["y"] - t, columns=["y"])
    with pytest.raises(eeqs.PsiError, match=r"not differentiated automatically.*weights"):
        eeqs.estimate(eeqs.weight(psi, "w"), frame, [0.0])


def test_summaries_say_so(frame):
    fit = eeqs.estimate(eeqs.from_numpy(lambda t, d: d["y"] - t), {"y": frame["y"]}, [0.0])
    assert "derivatives by differences" in str(fit.summary())
