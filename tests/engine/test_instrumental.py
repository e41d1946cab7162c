"""Instrumental variables: two-stage least squares, exponential means, and what they are in special cases."""

import numpy as np
import pandas as pd
import pytest
import torch
from statsmodels.sandbox.regression.gmm import IV2SLS

import eeqs
from eeqs import moments

ROW = ["Intercept", "a", "x"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(11)
    n = 250
    z, u, x = rng.normal(size=(n, 3)), rng.normal(size=n), rng.normal(size=n)
    a = z @ [0.6, 0.4, 0.3] + 0.7 * u + 0.3 * x + rng.normal(size=n)
    columns = {"a": a, "x": x, "z1": z[:, 0], "z2": z[:, 1], "z3": z[:, 2], "shift": rng.normal(size=n)}
    columns["y"] = 1 + 0.5 * a - 0.2 * x + u * (1 + np.abs(x))
    columns["count"] = rng.poisson(np.exp(0.2 + 0.3 * a - 0.1 * x)).astype(float)
    columns |= {"w": rng.uniform(0.5, 2, n), "f": rng.integers(0, 3, n)}
    return pd.DataFrame(columns)


def matrices(data):
    one = np.ones(len(data))
    design = np.column_stack([one, data["a"], data["x"]])
    return data["y"].to_numpy(), design, np.column_stack([one, data[["z1", "z2", "z3"]], data["x"]])


def stages(**options):
    return moments.two_stage_least_squares("y", ["a"], ["z1", "z2", "z3"], exogenous=["x"], **options)


def test_two_stages_against_statsmodels_and_one_step_gmm(data):
    y, x, z = matrices(data)
    fit = eeqs.estimate(stages(), data)
    np.testing.assert_allclose(fit.params[ROW], IV2SLS(y, x, z).fit().params, rtol=1e-9)
    one_step = eeqs.gmm(moments.iv("y", ["a"], ["z1", "z2", "z3"], exogenous=["x"]), data, method=eeqs.OneStep())
    np.testing.assert_allclose(fit.params[ROW], one_step.params[ROW], rtol=1e-10)
    np.testing.assert_allclose(fit.cov_params().loc[ROW, ROW], one_step.cov_params().loc[ROW, ROW], rtol=1e-9)
    first = eeqs.estimate(moments.least_squares("a", ["z1", "z2", "z3", "x"]), data)
    names = [f"a on {name}" for name in first.names]
    np.testing.assert_allclose(fit.params[names], first.params, rtol=1e-9)
    np.testing.assert_allclose(fit.bse[names], first.bse, rtol=1e-9)


def test_full_bread_is_the_variance_of_lee(data):
    """Lee (2018): influence x-hat e + (x - x-hat) z'(Z'Z)^-1 Z'e, less the endogeneity of the first stage."""
    y, x, z = matrices(data)
    n = len(y)
    gram = np.linalg.inv(z.T @ z / n)
    fitted = z @ gram @ (z.T @ x / n)
    bread = fitted.T @ x / n
    b = np.linalg.solve(bread, fitted.T @ y / n)
    error = y - x @ b
    rows = fitted * error[:, None] + (x - fitted) * (z @ gram @ (z.T @ error / n))[:, None]
    left = np.linalg.inv(bread)
    expected = left @ (rows.T @ rows / n) @ left.T / n
    full = eeqs.estimate(stages(expected_bread=False), data)
    np.testing.assert_allclose(full.cov_params().loc[ROW, ROW], expected, rtol=1e-9)
    usual = eeqs.estimate(stages(), data)
    assert not np.allclose(full.bse["a"], usual.bse["a"], rtol=1e-4)


def test_bread_is_the_derivative_only_when_asked(data):
    theta = eeqs.solve(stages(), data).theta
    assert eeqs.check_jacobian(stages(expected_bread=False), theta, data).passed
    assert not eeqs.check_jacobian(stages(), theta, data).passed


@pytest.mark.parametrize("expected_bread", [True, False])
def test_as_many_instruments_as_regressors(data, expected_bread):
    """The derivative along the first stage is zero then, whichever bread is asked for."""
    two = moments.two_stage_least_squares("y", ["a"], ["z1"], exogenous=["x"], expected_bread=expected_bread)
    direct = eeqs.estimate(moments.iv("y", ["a"], ["z1"], exogenous=["x"]), data, cov="HC1")
    y, x, z = matrices(data)
    z = z[:, [0, 1, 4]]
    np.testing.assert_allclose(direct.params, np.linalg.solve(z.T @ x, z.T @ y), rtol=1e-10)
    fit = eeqs.estimate(two, data)
    factor = len(data) / (len(data) - 3)
    np.testing.assert_allclose(fit.cov_params().loc[ROW, ROW] * factor, direct.cov_params(), rtol=1e-8)


def test_own_instruments_are_least_squares(data):
    plain = eeqs.estimate(moments.least_squares("y", ["x", "z1"]), data)
    fit = eeqs.estimate(moments.iv("y", [], [], exogenous=["x", "z1"]), data)
    pd.testing.assert_frame_equal(fit.cov_params(), plain.cov_params(), rtol=1e-12)


def test_two_endogenous_regressors(data):
    both = {"x": ["a", "x"], "instruments": ["z1", "z2", "z3"]}
    fit = eeqs.estimate(moments.two_stage_least_squares("y", **both), data)
    one_step = eeqs.gmm(moments.iv("y", **both), data, method=eeqs.OneStep())
    np.testing.assert_allclose(fit.bse[ROW], one_step.bse[ROW], rtol=1e-8)
    assert fit.names[3:] == tuple(f"{x} on {z}" for x in ("a", "x") for z in ("Intercept", "z1", "z2", "z3"))


@pytest.mark.parametrize("factory", [moments.iv, moments.two_stage_least_squares])
def test_offset_of_a_linear_mean_is_subtracted(data, factory):
    options = {"x": ["a"], "instruments": ["z1"], "exogenous": ["x"]}
    shifted = eeqs.estimate(factory("y", **options, offset="shift"), data)
    plain = eeqs.estimate(factory("y", **options), data.assign(y=data["y"] - data["shift"]))
    np.testing.assert_allclose(shifted.cov_params(), plain.cov_params(), rtol=1e-10)


def test_offset_of_an_exponential_mean(data):
    options = {"x": ["a"], "instruments": ["z1", "z2"], "exogenous": ["x"]}
    fit = eeqs.gmm(moments.exponential_iv("count", **options, offset="shift"), data, method=eeqs.Iterated())

    def psi(theta, d):
        index = theta[0] + theta[1] * d["a"] + theta[2] * d["x"] + d["shift"]
        z = torch.stack([torch.ones_like(index), d["z1"], d["z2"], d["x"]], dim=1)
        return (d["count"] * torch.exp(-index) - 1)[:, None] * z

    plain = eeqs.gmm(psi, data, fit.params.to_numpy(), eeqs.Iterated())
    np.testing.assert_allclose(fit.bse, plain.bse, rtol=1e-7)


def test_weights_multiply_rows(data):
    psi = moments.iv("y", ["a"], ["z1"], exogenous=["x"], weights="w")
    y, x, z = matrices(data)
    z, w = z[:, [0, 1, 4]], data["w"].to_numpy()
    b = np.linalg.solve((w[:, None] * z).T @ x, z.T @ (w * y))
    np.testing.assert_allclose(eeqs.estimate(psi, data).params, b, rtol=1e-10)
    two = eeqs.estimate(moments.two_stage_least_squares("y", ["a"], ["z1"], exogenous=["x"], weights="w"), data)
    np.testing.assert_allclose(two.params[ROW], b, rtol=1e-9)


@pytest.mark.parametrize("kind", ["probability", "frequency"])
def test_first_stage_is_weighted_too(data, kind):
    """Whole-number weights give the estimates of repeated rows; frequency weights their covariance as well."""
    repeated = data.loc[data.index.repeat(data["f"])].reset_index(drop=True)
    weighted, plain = eeqs.estimate(eeqs.weight(stages(), "f", kind=kind), data), eeqs.estimate(stages(), repeated)
    np.testing.assert_allclose(weighted.params, plain.params, rtol=1e-8)
    if kind == "frequency":
        np.testing.assert_allclose(weighted.bse, plain.bse, rtol=1e-8)


def test_batches(data):
    batches = [data.iloc[:60], data.iloc[60:200], data.iloc[200:]]
    fit = eeqs.estimate(stages(), lambda: iter(batches))
    np.testing.assert_allclose(fit.bse, eeqs.estimate(stages(), data).bse, rtol=1e-9)


def test_replicates(data):
    leaves = {name: torch.tensor(np.stack([data[name][:100], data[name][100:200]])) for name in data}
    psi = stages()
    together = eeqs.solve(psi, leaves, torch.stack([eeqs.solve(psi, data[:100]).theta] * 2))
    assert together.converged.all()
    np.testing.assert_allclose(together.theta[1], eeqs.solve(psi, data[100:200]).theta, rtol=1e-8)


def test_strength_of_the_first_stage(data):
    """As the module says: a Wald test of the excluded instruments."""
    first = eeqs.estimate(moments.least_squares("a", ["z1", "z2", "z3", "x"]), data, cov="HC1")
    assert first.with_df(first.df_resid).wald(["z1", "z2", "z3"]).statistic > 10


def test_units(data):
    base = eeqs.estimate(stages(), data)
    units = {"y": 1e6, "a": 1e-6, "x": 1e4, "z1": 1e-5, "z2": 1e6, "z3": 3.7}
    other = eeqs.estimate(stages(), data.assign(**{name: unit * data[name] for name, unit in units.items()}))
    factor = np.array([1e6, 1e12, 1e2])
    np.testing.assert_allclose(other.bse[ROW] / factor, base.bse[ROW], rtol=1e-9)


@pytest.mark.parametrize("factory", [moments.iv, moments.exponential_iv, moments.two_stage_least_squares])
def test_arguments_are_checked(factory):
    with pytest.raises(eeqs.DataError, match=r"1 instrument\(s\) \['z1'\] cannot identify"):
        factory("y", ["a", "x"], ["z1"])
    with pytest.raises(eeqs.DataError, match='"x" is named twice'):
        factory("y", ["a"], ["z1", "x"], exogenous=["x"])
    with pytest.raises(eeqs.DataError, match='instruments is the string "z1"'):
        factory("y", ["a"], "z1")


def test_responses_of_an_exponential_mean_are_checked(data):
    psi = moments.exponential_iv("count", ["a"], ["z1"])
    for bad in (-data["count"], 0 * data["count"]):
        with pytest.raises(eeqs.DataError, match="negative values or is zero throughout"):
            eeqs.estimate(psi, data.assign(count=bad))
