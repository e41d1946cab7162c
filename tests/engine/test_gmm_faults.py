"""Faults of over-identified equations: each has an error or a status that says what is wrong."""

import numpy as np
import pandas as pd
import pytest
import torch

import eeqs

METHODS = [eeqs.OneStep(), eeqs.TwoStep(), eeqs.Iterated(), eeqs.ContinuouslyUpdated()]
LINEAR = eeqs.moments.iv("y", ["a"], ["z1", "z2", "z3"], exogenous=["x"])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(12)
    frame = pd.DataFrame(rng.normal(size=(300, 5)), columns=["x", "z1", "z2", "z3", "u"])
    frame["a"] = frame[["z1", "z2", "z3", "u"]] @ [0.5, 0.4, 0.3, 0.6] + rng.normal(size=300)
    frame["y"] = 1 + 0.5 * frame["a"] - 0.3 * frame["x"] + frame["u"]
    return frame.assign(firm=rng.integers(0, 30, 300))


def test_a_duplicated_instrument_is_named(data):
    psi = eeqs.moments.iv("y", ["a"], ["z1", "z2", "copy"], exogenous=["x"])
    for method in METHODS:
        with pytest.raises(eeqs.DataError, match="weight matrix is singular: equation 1, equation 3 are"):
            eeqs.gmm(psi, data.assign(copy=-3 * data["z1"]), method=method)
    with pytest.raises(eeqs.DataError, match="equation 3 are linearly dependent"):
        eeqs.gmm(psi, data.assign(copy=0.0))


def test_fewer_clusters_than_equations(data):
    with pytest.raises(eeqs.DataError, match="more clusters than equations"):
        eeqs.gmm(LINEAR, data.assign(firm=data["firm"] % 3), cov=eeqs.Cluster("firm"))


def test_unidentified_parameters_are_named(data):
    psi = eeqs.moments.iv("y", ["a", "b"], ["z1", "z2", "z3"], exogenous=["x"])
    with pytest.raises(eeqs.SingularBreadError, match="a, b are not separately identified"):
        eeqs.gmm(psi, data.assign(b=2 * data["a"]))


def test_bad_equations(data):
    with pytest.raises(eeqs.PsiError, match="it must return"):
        eeqs.gmm(lambda theta, d: d["y"] - theta[0] - theta[1], data, [0.0, 0.0])
    with pytest.raises(eeqs.PsiError, match="step function"):
        eeqs.gmm(eeqs.moments.quantile("y", 0.5, ["x"]), data)
    with pytest.raises(eeqs.PsiError, match="penalty"):
        eeqs.gmm(eeqs.ridge(LINEAR, 1.0), data)
    with pytest.raises(eeqs.PsiError, match="NaN or infinite"):
        eeqs.gmm(lambda theta, d: torch.log(d["y"])[:, None] * theta * torch.ones(2), data, [1.0])


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.eye(4), "there are 5 equations"),
        (np.diag([1.0, 1, 1, 1, -1]), "not positive semi-definite"),
        (np.eye(5) + np.eye(5, k=1), "not symmetric"),
        (np.full((5, 5), np.nan), "NaN or infinite"),
        (np.zeros((5, 5)), "not positive semi-definite"),
    ],
)
def test_bad_weights(data, weight, message):
    with pytest.raises(ValueError, match=message):
        eeqs.gmm(LINEAR, data, method=eeqs.OneStep(weight))


def test_bad_settings(data):
    with pytest.raises(ValueError, match="max_steps"):
        eeqs.Iterated(max_steps=1)
    with pytest.raises(ValueError, match="must be positive"):
        eeqs.gmm(LINEAR, data, tolerance=0.0)


def test_a_weight_that_drops_equations_is_the_smaller_problem(data):
    """Zeros in a given weight leave an instrument out."""
    weight = np.diag([1.0, 1, 0, 0, 1])
    fit = eeqs.gmm(LINEAR, data, method=eeqs.OneStep(weight))
    small = eeqs.estimate(eeqs.moments.iv("y", ["a"], ["z1"], exogenous=["x"]), data)
    np.testing.assert_allclose(fit.bse, small.bse, rtol=1e-8)


def test_failures_have_a_status(data):
    """Equations that all vanish at infinity, a saddle, too few steps."""

    def fading(theta, d):
        return torch.exp(-theta) * torch.stack([d["z1"] ** 2, d["z2"] ** 2], dim=1)

    with pytest.raises(eeqs.SolverError, match="degenerate"):
        eeqs.gmm(fading, data, [0.0])
    lost = eeqs.gmm(fading, data, [0.0], throw=False)
    assert lost.solution.status is eeqs.Status.DEGENERATE
    assert np.isnan(lost.bse).all()

    def saddle(theta, d):
        return (d["z1"] ** 2 - theta**2)[:, None] * torch.stack([torch.ones_like(d["x"]), d["x"] ** 2], dim=1)

    with pytest.raises(eeqs.SingularBreadError, match="not separately identified"):
        eeqs.gmm(saddle, data, [0.0])
    assert eeqs.gmm(saddle, data, [0.1]).params.iloc[0] == pytest.approx(1, abs=0.2)

    psi = eeqs.moments.exponential_iv("y", ["a"], ["z1", "z2"], exogenous=["x"])
    short = eeqs.gmm(psi, data.assign(y=data["y"].abs()), max_iterations=1, throw=False)
    assert short.solution.status is eeqs.Status.MAX_ITERATIONS
    slow = eeqs.gmm(LINEAR, data, method=eeqs.Iterated(max_steps=2), throw=False)
    assert slow.solution.status is eeqs.Status.MAX_ITERATIONS
