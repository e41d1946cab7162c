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
    psi = eeqs.from_numpy(_logit, names=["Intercept", *X], scale=[1.0, 1 / unit, 1.0])
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
