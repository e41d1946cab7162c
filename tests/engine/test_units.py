"""Standard errors do not depend on units, and the bread is exact."""

import numpy as np
import pytest
import torch

import eeqs

UNITS = [(1e-6, 1e6), (1e6, 1e-6), (1e-12, 1.0), (1.0, 1e12)]


@pytest.fixture
def sample():
    rng = np.random.default_rng(21)
    x, z = rng.normal(size=(2, 300))
    index = 0.2 + 0.5 * x - 0.3 * z
    return {
        "x": x,
        "z": z,
        "y": index + rng.normal(size=300) * (1 + np.abs(x)),
        "b": (rng.uniform(size=300) < 1 / (1 + np.exp(-index))).astype(float),
        "n": rng.poisson(np.exp(index)).astype(float),
    }


def _plain(theta, data):
    design = torch.stack([torch.ones_like(data["x"]), data["x"], data["z"]], dim=1)
    return (data["b"] - torch.sigmoid(design @ theta))[:, None] * design


def _loss(theta, data):
    index = theta[0] + theta[1] * data["x"] + theta[2] * data["z"]
    return torch.nn.functional.softplus(index) - data["b"] * index


MODELS = {
    "least_squares": (eeqs.moments.least_squares("y", ["x", "z"]), None),
    "logit": (eeqs.moments.logit("b", ["x", "z"]), None),
    "poisson": (eeqs.moments.poisson("n", ["x", "z"]), None),
    "probit": (eeqs.moments.probit("b", ["x", "z"]), None),
    "plain": (_plain, [0.0] * 3),
    "loss": (eeqs.from_loss(_loss), [0.0] * 3),
    "expectile": (eeqs.moments.expectile("y", 0.7, ["x", "z"]), None),
}


@pytest.mark.parametrize("units", UNITS, ids=str)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cov", ["HC0", "HC3"])
def test_units_of_columns(sample, model, units, cov):
    """Relative 1e-8 over twelve orders of magnitude."""
    psi, start = MODELS[model]
    scaled = sample | {"x": units[0] * sample["x"], "z": units[1] * sample["z"]}
    base, other = eeqs.estimate(psi, sample, start, cov=cov), eeqs.estimate(psi, scaled, start, cov=cov)
    factor = np.array([1.0, *units])
    np.testing.assert_allclose(other.bse * factor, base.bse, rtol=1e-8)
    np.testing.assert_allclose(other.params * factor, base.params, rtol=1e-8)


def test_units_of_the_response(sample):
    psi = eeqs.moments.least_squares("y", ["x", "z"])
    base = eeqs.estimate(psi, sample)
    for unit in (1e-12, 1e12):
        other = eeqs.estimate(psi, sample | {"y": unit * sample["y"]})
        np.testing.assert_allclose(other.bse / unit, base.bse, rtol=1e-10)


def test_units_of_instruments(sample):
    """Two-step GMM with three instruments, one of them in other units."""
    rng = np.random.default_rng(2)
    data = sample | {"z2": rng.normal(size=300)}
    psi = eeqs.moments.iv("y", ["x"], ["b", "z", "z2"])
    base = eeqs.gmm(psi, data)
    for unit in (1e-12, 1e12):
        other = eeqs.gmm(psi, data | {"z": unit * data["z"]})
        np.testing.assert_allclose(other.bse, base.bse, rtol=1e-8)
        assert other.j_test().statistic == pytest.approx(base.j_test().statistic, rel=1e-8)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_bread_against_the_analytic_one(sample, unit):
    """Relative to the size of its row and column, 1e-10; by a closed slope and by automatic differentiation."""
    data = sample | {"x": unit * sample["x"]}
    design = np.column_stack([np.ones(300), data["x"], data["z"]])
    theta = np.array([0.1, 0.4 / unit, -0.2])
    mean = 1 / (1 + np.exp(-design @ theta))
    analytic = -(design * (mean * (1 - mean))[:, None]).T @ design / 300
    size = np.sqrt(np.outer(np.diag(-analytic), np.diag(-analytic)))
    for psi in (MODELS["logit"][0], _plain, eeqs.from_loss(_loss)):
        found = eeqs.bread(psi, theta, data).numpy()
        assert (np.abs(found - analytic) / size).max() < 1e-10
    # A bread that is off by a part in a million is seen.
    assert (np.abs(found * (1 + 1e-6) - analytic) / size).max() > 1e-10
