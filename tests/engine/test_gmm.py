"""Over-identified equations: GMM against linearmodels, statsmodels, closed forms and laws."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.sandbox.regression.gmm import GMM

import eeqs

METHODS = [eeqs.OneStep(), eeqs.TwoStep(), eeqs.Iterated(), eeqs.ContinuouslyUpdated()]
LINEAR = eeqs.moments.iv("y", ["a"], ["z1", "z2", "z3"], exogenous=["x"])


def simulate(n, seed, invalid=0.0):
    """One endogenous regressor, three instruments, heteroskedastic errors; ``invalid`` lets z1 into the equation."""
    rng = np.random.default_rng(seed)
    z, u, x = rng.normal(size=(n, 3)), rng.normal(size=n), rng.normal(size=n)
    a = z @ [0.5, 0.4, 0.3] + 0.6 * u + 0.2 * x + rng.normal(size=n)
    error = u * (1 + 0.5 * np.abs(z[:, 0])) + rng.normal(size=n)
    y = 1 + 0.5 * a - 0.3 * x + error + invalid * z[:, 0]
    columns = {"y": y, "a": a, "x": x, "z1": z[:, 0], "z2": z[:, 1], "z3": z[:, 2], "firm": rng.integers(0, 30, n)}
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def data():
    return simulate(300, seed=3).assign(w=np.random.default_rng(4).integers(0, 4, 300))


def matrices(data):
    one = np.ones(len(data))
    design = np.column_stack([one, data["a"], data["x"]])
    return data["y"].to_numpy(), design, np.column_stack([one, data["z1"], data["z2"], data["z3"], data["x"]])


def second_moments(rows, groups=None):
    if groups is not None:
        rows, n = np.array([rows[groups == g].sum(axis=0) for g in np.unique(groups)]), len(rows)
        return rows.T @ rows / n
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize("groups", [None, "firm"])
@pytest.mark.parametrize("weight", ["default", "arbitrary"])
def test_one_step_is_the_textbook_formula(data, groups, weight):
    """(G'WG)^-1 G'W psi-bar and its sandwich, written out with matrices."""
    y, x, z = matrices(data)
    n, rng = len(y), np.random.default_rng(1)
    root = rng.normal(size=(5, 5))
    w = np.linalg.inv(z.T @ z / n) if weight == "default" else root @ root.T
    jacobian = -z.T @ x / n
    b = np.linalg.solve(jacobian.T @ w @ jacobian, -jacobian.T @ w @ z.T @ y / n)
    left = np.linalg.solve(jacobian.T @ w @ jacobian, jacobian.T @ w)
    labels = None if groups is None else data[groups].to_numpy()
    covariance = left @ second_moments((y - x @ b)[:, None] * z, labels) @ left.T / n
    method = eeqs.OneStep() if weight == "default" else eeqs.OneStep(w)
    fit = eeqs.gmm(LINEAR, data, method=method, cov="HC0" if groups is None else eeqs.Cluster(groups, "CR0"))
    np.testing.assert_allclose(fit.params, b, rtol=1e-10)
    np.testing.assert_allclose(fit.cov_params(), covariance, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(fit.weight, w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fit.influence().mean(), 0, atol=1e-10)


@pytest.mark.parametrize(
    "cov", ["HC0", "HC1", "HC3", eeqs.Cluster("firm"), eeqs.HAC(lags=2)], ids=lambda cov: getattr(cov, "label", cov)
)
def test_as_many_equations_as_parameters(data, cov):
    """The weight does not matter then: everything is that of estimate()."""
    psi = eeqs.moments.iv("y", ["a"], ["z1"], exogenous=["x"])
    ours, plain = eeqs.gmm(psi, data, cov=cov), eeqs.estimate(psi, data, cov=cov)
    np.testing.assert_array_equal(ours.params, plain.params)
    np.testing.assert_array_equal(ours.cov_params(), plain.cov_params())
    with pytest.raises(ValueError, match="none is left over"):
        ours.j_test()


class Multiplicative(GMM):
    """Equations of an exponential mean with multiplicative errors, for statsmodels."""

    def momcond(self, params):
        return (self.endog * np.exp(-self.exog @ params) - 1)[:, None] * self.instrument


def test_nonlinear_against_statsmodels(data):
    """statsmodels minimises by BFGS with a gradient by differences, which ends within 1e-3 standard errors.

    J is flat there, and the covariance is compared with matrices at the engine's own minimum.
    """
    counts = data.assign(y=np.random.default_rng(8).poisson(np.exp(0.2 + 0.3 * data["a"])))
    psi = eeqs.moments.exponential_iv("y", ["a"], ["z1", "z2", "z3"], exogenous=["x"])
    fit = eeqs.gmm(psi, counts)
    y, x, z = matrices(counts)
    result = Multiplicative(y, x, z, k_moms=5, k_params=3).fit(
        start_params=fit.params.to_numpy() * 0.9,
        maxiter=2,
        inv_weights=z.T @ z / len(y),
        weights_method="cov",
        wargs={"centered": False},
        optim_method="bfgs",
        optim_args={"disp": False},
    )
    np.testing.assert_array_less(np.abs(result.params - fit.params) / fit.bse, 1e-3)
    assert fit.j_test().statistic == pytest.approx(result.jtest()[0], rel=1e-4)
    ratio, n, w = y * np.exp(-x @ fit.params.to_numpy()), len(y), fit.weight.to_numpy()
    jacobian = -z.T @ (ratio[:, None] * x) / n
    left = np.linalg.solve(jacobian.T @ w @ jacobian, jacobian.T @ w)
    covariance = left @ second_moments((ratio - 1)[:, None] * z) @ left.T / n
    np.testing.assert_allclose(fit.cov_params(), covariance, rtol=1e-8)


def objective(b, data, groups=None, *, centred=False):
    y, x, z = matrices(data)
    rows = (y - x @ b)[:, None] * z
    mean = rows.mean(axis=0)
    return len(y) * mean @ np.linalg.solve(second_moments(rows - mean if centred else rows, groups), mean)


@pytest.mark.parametrize("groups", [None, "firm"])
@pytest.mark.parametrize("centred", [False, True])
def test_continuously_updated_minimises_its_objective(data, groups, centred):
    labels = None if groups is None else data[groups].to_numpy()
    cov = "HC0" if groups is None else eeqs.Cluster(groups, "CR0")
    fit = eeqs.gmm(LINEAR, data, method=eeqs.ContinuouslyUpdated(centred=centred), cov=cov)
    b, unit = fit.params.to_numpy(), fit.bse.to_numpy()

    def scaled(t):
        return objective(b + unit * t, data, labels, centred=centred)

    best = optimize.minimize(scaled, np.full(3, 0.3), method="BFGS", options={"gtol": 1e-9})
    assert fit.objective == pytest.approx(scaled(np.zeros(3)), rel=1e-10)
    assert fit.objective <= best.fun + 1e-10
    # BFGS differentiates by differences with steps of 1.5e-8, whose error in the gradient is about 1e-7.
    np.testing.assert_allclose(best.x, 0, atol=1e-6)
    assert fit.solution.residual_norm < 1e-8


def test_continuously_updated_sandwich_has_the_regressed_jacobian(data):
    """G less its regression on the equations, written out for independent rows."""
    fit = eeqs.gmm(LINEAR, data, method=eeqs.ContinuouslyUpdated())
    y, x, z = matrices(data)
    rows, n = (y - x @ fit.params.to_numpy())[:, None] * z, len(y)
    s = second_moments(rows)
    multiplier = np.linalg.solve(s, rows.mean(axis=0))
    adjusted = -z.T @ ((1 - rows @ multiplier)[:, None] * x) / n
    combination = adjusted.T @ np.linalg.inv(s)
    left = np.linalg.inv(-combination @ z.T @ x / n) @ combination
    np.testing.assert_allclose(fit.cov_params(), left @ s @ left.T / n, rtol=1e-8)
    np.testing.assert_allclose(combination @ rows.mean(axis=0), 0, atol=1e-10)


@pytest.mark.parametrize("method", [eeqs.Iterated, eeqs.ContinuouslyUpdated])
def test_centring_changes_the_statistic_by_its_law(data, method):
    """S about the mean is S less the outer product of the mean, so Q becomes Q / (1 - Q) (Sherman-Morrison)."""
    about_zero, about_mean = (eeqs.gmm(LINEAR, data, method=method(centred=centred)) for centred in (False, True))
    np.testing.assert_allclose(about_mean.params, about_zero.params, rtol=1e-9)
    j, n = about_zero.objective, len(data)
    assert about_mean.objective == pytest.approx(j / (1 - j / n), rel=1e-9)


def test_iterated_is_a_fixed_point(data):
    fit = eeqs.gmm(LINEAR, data, method=eeqs.Iterated())
    y, x, z = matrices(data)
    w = np.linalg.inv(second_moments((y - x @ fit.params.to_numpy())[:, None] * z))
    again = np.linalg.solve(x.T @ z @ w @ z.T @ x, x.T @ z @ w @ z.T @ y)
    np.testing.assert_allclose(again, fit.params, rtol=1e-9)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
@given(exponents=st.lists(st.floats(-6, 6), min_size=3, max_size=3), shift=st.floats(-6, 6))
def test_units_do_not_matter(data, method, exponents, shift):
    """Instruments, and regressors and response, each over 12 orders of magnitude."""
    base = eeqs.gmm(LINEAR, data, method=method)
    factors = dict(zip(["z1", "z2", "z3"], 10.0 ** np.array(exponents), strict=True))
    scaled = eeqs.gmm(LINEAR, data.assign(**{name: f * data[name] for name, f in factors.items()}), method=method)
    np.testing.assert_allclose(scaled.params, base.params, rtol=1e-9)
    np.testing.assert_allclose(scaled.bse, base.bse, rtol=1e-9)
    assert scaled.objective == pytest.approx(base.objective, rel=1e-8)
    response, regressor = 10.0**shift, 10.0 ** exponents[0]
    moved = data.assign(y=response * data["y"], a=regressor * data["a"])
    other = eeqs.gmm(LINEAR, moved, method=method)
    np.testing.assert_allclose(other.bse["a"] * regressor / response, base.bse["a"], rtol=1e-9)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_any_linear_map_of_the_instruments(data, method):
    """Default weights follow every invertible map of the equations, not only their units."""
    matrix = torch.from_numpy(np.random.default_rng(2).normal(size=(5, 5)))
    mapped = replace(
        LINEAR,
        linear=replace(LINEAR.linear, instruments=lambda d: (d[2] @ matrix.mT,)),
        psi=lambda theta, d: LINEAR.psi(theta, d) @ matrix.mT,
    )
    ours, base = eeqs.gmm(mapped, data, method=method), eeqs.gmm(LINEAR, data, method=method)
    np.testing.assert_allclose(ours.params, base.params, rtol=1e-8)
    np.testing.assert_allclose(ours.bse, base.bse, rtol=1e-8)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_a_plain_psi_has_the_same_minimum(data, method):
    """Only the first weight of a plain psi is another: that of its second moments at the start."""

    def psi(theta, d):
        residual = d["y"] - theta[0] - theta[1] * d["a"] - theta[2] * d["x"]
        return residual[:, None] * torch.stack([torch.ones_like(residual), d["z1"], d["z2"], d["z3"], d["x"]], dim=1)

    y, _, z = matrices(data)
    first = np.linalg.inv(second_moments(y[:, None] * z))
    fixed = method if method.label in ("iterated GMM", "continuously updated GMM") else None
    reference = fixed or (eeqs.OneStep(first) if method.label == "one-step GMM" else eeqs.TwoStep(first))
    plain = eeqs.gmm(psi, data, [0.0, 0.0, 0.0], method)
    ours = eeqs.gmm(LINEAR, data, method=reference)
    np.testing.assert_allclose(plain.params, ours.params, rtol=1e-7)
    np.testing.assert_allclose(plain.bse, ours.bse, rtol=1e-7)
    np.testing.assert_allclose(plain.influence(), ours.influence(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_frequency_weights_are_repeated_rows(data, method):
    repeated = data.loc[data.index.repeat(data["w"])].reset_index(drop=True)
    weighted = eeqs.gmm(eeqs.weight(LINEAR, "w", kind="frequency"), data, method=method)
    plain = eeqs.gmm(LINEAR, repeated, method=method)
    np.testing.assert_allclose(weighted.bse, plain.bse, rtol=1e-10)
    assert weighted.objective == pytest.approx(plain.objective, rel=1e-9)
    assert weighted.nobs == len(repeated)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_batches_and_files(data, method, tmp_path):
    path = tmp_path / "rows.parquet"
    data.to_parquet(path)
    cov = eeqs.Cluster("firm")
    base = eeqs.gmm(LINEAR, data, method=method, cov=cov)
    for source in (path, lambda: iter([data.iloc[:70], data.iloc[70:200], data.iloc[200:]])):
        fit = eeqs.gmm(LINEAR, source, method=method, cov=cov)
        np.testing.assert_allclose(fit.bse, base.bse, rtol=1e-10)
        assert fit.objective == pytest.approx(base.objective, rel=1e-9)


def test_numpy_psi(data):
    def psi(theta, d):
        residual = d["y"] - theta[0] - theta[1] * d["a"] - theta[2] * d["x"]
        return residual[:, None] * np.column_stack([np.ones(len(residual)), d["z1"], d["z2"], d["z3"], d["x"]])

    fit = eeqs.gmm(eeqs.from_numpy(psi), data, np.zeros(3), eeqs.Iterated())
    np.testing.assert_allclose(fit.bse, eeqs.gmm(LINEAR, data, method=eeqs.Iterated()).bse, rtol=1e-7)
    with pytest.raises(eeqs.PsiError, match="torch operations"):
        eeqs.gmm(eeqs.from_numpy(psi), data, np.zeros(3), eeqs.ContinuouslyUpdated())


def test_weight_and_covariance_with_their_own_assumptions(data):
    """An efficient weight under independence with clustered standard errors, and the other way round."""
    weight = eeqs.gmm(LINEAR, data).weight
    mixed = eeqs.gmm(LINEAR, data, method=eeqs.TwoStep(cov="HC0"), cov=eeqs.Cluster("firm", "CR0"))
    given_weight = eeqs.gmm(LINEAR, data, method=eeqs.OneStep(weight), cov=eeqs.Cluster("firm", "CR0"))
    np.testing.assert_allclose(mixed.bse, given_weight.bse, rtol=1e-9)
    other = eeqs.gmm(LINEAR, data, method=eeqs.TwoStep(cov=eeqs.Cluster("firm", "CR0")), cov="HC0")
    assert other.cov_type == "HC0"
    assert not np.allclose(other.params, mixed.params, rtol=1e-4)


def test_jackknife_and_leave_one_out_of_the_combination(data):
    """Exact in a linear model: the jackknife refits the combination, which HC3 shortens to one Newton step."""
    hc3 = eeqs.gmm(LINEAR, data, method=eeqs.TwoStep(cov="HC0"), cov="HC3")
    jackknife = eeqs.gmm(LINEAR, data, method=eeqs.TwoStep(cov="HC0"), cov=eeqs.Jackknife())
    np.testing.assert_allclose(jackknife.cov_params(), hc3.cov_params() * (1 - 1 / len(data)), rtol=1e-8)
    assert hc3.leave_one_out().shift.shape == (300, 3)


def test_size_of_the_j_test():
    """J is chi2(2): its mean, its rejections at 10 %, and its distribution, 300 samples of n = 400."""
    tests = [eeqs.gmm(LINEAR, simulate(400, seed)).j_test() for seed in range(300)]
    j, p = np.array([t.statistic for t in tests]), np.array([t.pvalue for t in tests])
    assert abs(j.mean() - 2) < 4 * 2 / np.sqrt(300)  # a chi2(2) has standard deviation 2
    assert abs((p < 0.1).mean() - 0.1) < 4 * np.sqrt(0.09 / 300)
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_an_invalid_instrument_is_found():
    assert eeqs.gmm(LINEAR, simulate(400, 1)).j_test().pvalue > 0.01
    invalid = eeqs.gmm(LINEAR, simulate(400, 1, invalid=1.0)).j_test()
    assert invalid.pvalue < 1e-6
    assert invalid.restrictions == 2
    assert str(invalid).startswith("J, chi2(2)")


def test_result(data, tmp_path):
    fit = eeqs.gmm(LINEAR, data)
    assert isinstance(fit, eeqs.Estimate)
    assert "two-step GMM, 5 equations, n = 300, covariance HC0" in str(fit)
    t = fit.with_df(20)
    assert isinstance(t, eeqs.GMMEstimate)
    assert t.j_test() == fit.j_test()
    fit.save(tmp_path / "fit.json")
    pd.testing.assert_series_equal(eeqs.load(tmp_path / "fit.json").bse, fit.bse)
    with pytest.raises(ValueError, match="only under the efficient weight"):
        eeqs.gmm(LINEAR, data, method=eeqs.OneStep()).j_test()
