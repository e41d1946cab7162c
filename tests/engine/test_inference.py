"""Tables in the conventions of statsmodels, against statsmodels; and coverage by simulation."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy import stats

import eeqs

MODELS = {
    "least_squares": ("y", sm.OLS),
    "logit": ("binary", sm.Logit),
    "poisson": ("count", sm.Poisson),
}
COVARIANCES = {
    "HC0": ("HC0", {"cov_type": "HC0"}),
    "HC1": ("HC1", {"cov_type": "HC1"}),
    "CR0": (eeqs.Cluster("firm", "CR0"), {"cov_type": "cluster", "correct": False}),
    "CR1S": (eeqs.Cluster("firm", "CR1S"), {"cov_type": "cluster", "correct": True}),
}


def _statsmodels(model, frame, options):
    response, build = MODELS[model]
    settings = dict(options)
    correct = settings.pop("correct", None)
    if correct is not None:
        settings["cov_kwds"] = {"groups": pd.factorize(frame["firm"])[0], "use_correction": correct}
    if model != "least_squares":
        settings |= {"disp": 0, "method": "newton", "tol": 1e-14}
    return build(frame[response], sm.add_constant(frame[["x", "z"]])).fit(use_t=False, **settings)


@pytest.mark.parametrize("cov", COVARIANCES)
@pytest.mark.parametrize("model", MODELS)
def test_agrees_with_statsmodels(frame, model, cov):
    ours, options = COVARIANCES[cov]
    response = MODELS[model][0]
    fit = eeqs.estimate(getattr(eeqs.moments, model)(response, ["x", "z"]), frame, cov=ours)
    reference = _statsmodels(model, frame, options)
    # statsmodels leaves n / (n - p) out of the HC1 of discrete models.
    covariance = reference.cov_params() * (150 / 147 if cov == "HC1" and model != "least_squares" else 1)
    # Both stop within about 1e-9 standard errors of the root, and the covariance moves as much, in its own units.
    np.testing.assert_allclose(fit.params, reference.params, rtol=1e-8)
    np.testing.assert_allclose(fit.cov_params(), covariance, rtol=1e-8, atol=1e-9 * covariance.to_numpy().max())
    np.testing.assert_allclose(fit.bse, np.sqrt(np.diag(covariance)), rtol=1e-8)
    if cov != "HC1":
        np.testing.assert_allclose(fit.tvalues, reference.tvalues, rtol=1e-8)
        np.testing.assert_allclose(fit.pvalues, reference.pvalues, rtol=1e-6)
        np.testing.assert_allclose(fit.conf_int(0.1), reference.conf_int(0.1), rtol=1e-7)
    assert list(fit.params.index) == ["Intercept", "x", "z"]
    assert fit.nobs == len(frame)


def test_standard_error_of_a_mean_and_a_variance(frame):
    fit = eeqs.estimate(eeqs.moments.variance("y"), frame)
    y = frame["y"].to_numpy()
    n, mu, centred = len(y), y.mean(), y - y.mean()
    m2, m3, m4 = ((centred**k).mean() for k in (2, 3, 4))
    np.testing.assert_allclose(fit.params, [mu, m2], rtol=1e-13)
    np.testing.assert_allclose(fit.cov_params(), np.array([[m2, m3], [m3, m4 - m2**2]]) / n, rtol=1e-12)
    assert list(fit.params.index) == ["mean[y]", "variance[y]"]
    half = stats.norm.ppf(0.975) * fit.bse
    np.testing.assert_allclose(fit.conf_int(), np.column_stack([fit.params - half, fit.params + half]), rtol=1e-13)


def test_influence_is_the_effect_of_a_row(frame):
    psi = eeqs.moments.least_squares("y", ["x", "z"])
    frame = frame.set_index(frame.index + 1000)
    fit = eeqs.estimate(psi, frame)
    influence = fit.influence()
    assert influence.index.equals(frame.index)
    np.testing.assert_allclose(influence.sum(), 0, atol=1e-9)
    outer = influence.to_numpy().T @ influence.to_numpy() / len(frame) ** 2
    np.testing.assert_allclose(outer, fit.cov_params(), rtol=1e-11)
    # Leaving row i out moves least squares by its influence / (n (1 - leverage)), exactly.
    design = np.column_stack([np.ones(len(frame)), frame["x"], frame["z"]])
    leverage = design[7] @ np.linalg.solve(design.T @ design, design[7])
    without = eeqs.estimate(psi, frame.drop(index=1007)).params
    shift = influence.iloc[7] / len(frame) / (1 - leverage)
    np.testing.assert_allclose(fit.params - without, shift, rtol=1e-9)


def test_summary_shows_every_number(frame):
    fit = eeqs.estimate(eeqs.moments.logit("binary", ["x", "z"]), frame, cov=eeqs.Cluster("firm"))
    text = str(fit)
    for part in ("n = 150", "CR1(firm)", "converged", "Intercept", "std err", "P>|z|", "[0.025", "0.975]"):
        assert part in text
    assert f"{fit.params['x']:.4f}" in text
    assert "[0.05" in fit.summary(alpha=0.1).as_text()
    assert "tabular" in fit.summary().as_latex()


@pytest.mark.parametrize("alpha", [0, 1, -0.5, 95])
def test_level_of_an_interval_is_checked(frame, alpha):
    with pytest.raises(ValueError, match=f"alpha is {alpha}"):
        eeqs.estimate(eeqs.moments.mean("y"), frame).conf_int(alpha)


def test_failed_solve_raises_or_carries_nan():
    data = {"y": np.linspace(-1, 1, 20)}

    def rootless(theta, data):
        return theta**2 + 1 + 0 * data["y"]

    with pytest.raises(eeqs.SolverError, match=r"stalled|degenerate"):
        eeqs.estimate(rootless, data, [1.0])
    fit = eeqs.estimate(rootless, data, [1.0], throw=False)
    assert fit.solution.status is not eeqs.Status.CONVERGED
    assert fit.bse.isna().all()
    assert fit.cov_params().isna().all(axis=None)


def _coverage(generator, bread_factor):
    """Share of 2000 nominal 95 % intervals that cover the slope of a heteroskedastic regression."""
    replicates, n, truth = 2000, 200, 0.7
    x = torch.randn(replicates, n, generator=generator, dtype=torch.float64)
    noise = torch.randn(replicates, n, generator=generator, dtype=torch.float64)
    data = {"y": 1 + truth * x + (0.5 + x.abs()) * noise, "x": x}
    psi = eeqs.moments.least_squares("y", ["x"])
    solution = eeqs.solve(psi, data, torch.zeros(replicates, 2))
    assert solution.converged.all()
    bread = bread_factor * eeqs.bread(psi, solution.theta, data)
    covariance = eeqs.sandwich(bread, eeqs.meat(psi, solution.theta, data, "HC1"), n)
    z = (solution.theta[:, 1] - truth) / covariance[:, 1, 1].sqrt()
    return float((z.abs() < stats.norm.ppf(0.975)).double().mean())


def test_sandwich_intervals_cover_and_a_wrong_bread_is_caught(generator):
    monte_carlo_error = np.sqrt(0.95 * 0.05 / 2000)
    # The HC1 interval at n = 200 itself undercovers by about one percentage point in this design, two of these errors.
    assert abs(_coverage(generator, 1.0) - 0.95) < 4 * monte_carlo_error
    assert _coverage(generator, 2.0) < 0.95 - 10 * monte_carlo_error
    assert _coverage(generator, 0.8) > 0.95 + 4 * monte_carlo_error


def test_model_based_variance_does_not_cover(generator):
    """With the meat set to minus the bread times the residual variance, heteroskedasticity is ignored."""
    replicates, n = 2000, 200
    x = torch.randn(replicates, n, generator=generator, dtype=torch.float64)
    noise = torch.randn(replicates, n, generator=generator, dtype=torch.float64)
    data = {"y": (0.5 + x.abs()) * noise, "x": x}
    psi = eeqs.moments.least_squares("y", ["x"])
    theta = eeqs.solve(psi, data, torch.zeros(replicates, 2)).theta
    bread = eeqs.bread(psi, theta, data)
    residual = data["y"] - theta[:, :1] - theta[:, 1:] * x
    covariance = eeqs.sandwich(bread, -bread * residual.var(dim=1)[:, None, None], n)
    covered = (theta[:, 1].abs() < stats.norm.ppf(0.975) * covariance[:, 1, 1].sqrt()).double().mean()
    assert covered < 0.95 - 10 * np.sqrt(0.95 * 0.05 / replicates)
