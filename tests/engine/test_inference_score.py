"""Generalised score tests and the profiles they make: against statsmodels, closed forms and Fieller's set."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy import stats

import eeqs


def test_score_test_agrees_with_statsmodels(frame):
    """statsmodels' robust score test of added regressors, which centres the scores in their variance.

    It divides by n - 1 too, so its statistic is T0 (n - 1) / n, and ours, by Sherman and Morrison, T0 / (1 + T0 / n).
    """
    design = sm.add_constant(frame[["x", "z"]])
    restricted = sm.GLM(frame["count"], design[["const"]], family=sm.families.Poisson()).fit(tol=1e-14)
    centred = restricted.score_test(exog_extra=frame[["x", "z"]].to_numpy(), cov_type="HC0")[0] * 150 / 149
    statistic = centred / (1 + centred / 150)
    test = eeqs.score_test(eeqs.moments.poisson("count", ["x", "z"]), frame, {"x": 0.0, "z": 0.0})
    np.testing.assert_allclose(test.statistic, statistic, rtol=1e-8)
    np.testing.assert_allclose(test.pvalue, stats.chi2.sf(statistic, 2), rtol=1e-7)
    assert str(test).startswith("score, chi2(2)")


def test_score_test_of_a_mean_in_closed_form(frame):
    """All parameters fixed: the t statistic with the second moment about the null in place of the variance."""
    y = frame["y"].to_numpy()
    test = eeqs.score_test(eeqs.moments.mean("y"), frame, {"mean[y]": 0.2})
    np.testing.assert_allclose(test.statistic, len(y) * (y.mean() - 0.2) ** 2 / np.mean((y - 0.2) ** 2), rtol=1e-12)


def test_score_test_is_the_same_for_every_spelling_of_psi(frame):
    """A plain psi, linear indices and frequency weights of one give one statistic; clusters give another."""
    null = {"x": 0.1}
    named = eeqs.score_test(eeqs.moments.logit("binary", ["x"]), frame, null)

    def plain(theta, data):
        index = theta[0] + theta[1] * data["x"]
        residual = data["binary"] - torch.sigmoid(index)
        return torch.stack([residual, residual * data["x"]], dim=1)

    data = frame[["binary", "x"]].assign(one=1)
    spelled = eeqs.score_test(plain, data, {"theta[1]": 0.1}, [0.0, 0.0])
    np.testing.assert_allclose(spelled.statistic, named.statistic, rtol=1e-8)
    repeated = eeqs.score_test(eeqs.moments.logit("binary", ["x"]), frame.loc[frame.index.repeat(frame["w"])], null)
    weighted = eeqs.weight(eeqs.moments.logit("binary", ["x"]), "w", kind="frequency")
    np.testing.assert_allclose(eeqs.score_test(weighted, frame, null).statistic, repeated.statistic, rtol=1e-8)
    clustered = eeqs.score_test(eeqs.moments.logit("binary", ["x"]), frame, null, cov=eeqs.Cluster("firm"))
    assert abs(clustered.statistic / named.statistic - 1) > 0.01


def test_score_test_refuses(frame):
    psi = eeqs.moments.logit("binary", ["x"])
    with pytest.raises(ValueError, match='unknown parameter "q"'):
        eeqs.score_test(psi, frame, {"q": 0.0})
    with pytest.raises(ValueError, match="finite"):
        eeqs.score_test(psi, frame, {"x": np.inf})
    with pytest.raises(eeqs.PsiError, match="step function"):
        eeqs.score_test(eeqs.moments.quantile("y", 0.5), frame, {"quantile[y, 0.5]": 0.0})
    with pytest.raises(eeqs.SolverError, match=r"with x = 0 were not solved: degenerate"):
        eeqs.score_test(psi, {"binary": np.ones(20), "x": np.arange(20.0)}, {"x": 0.0})


# ---- profile


def test_profile_statistic_is_the_score_test(frame):
    psi = eeqs.moments.logit("binary", ["x", "z"])
    fit = eeqs.estimate(psi, frame)
    grid = np.linspace(-0.5, 1.5, 9)
    curve = eeqs.profile(psi, frame, "x", grid)
    for value in (grid[0], grid[4]):
        np.testing.assert_allclose(
            curve.statistic[value], eeqs.score_test(psi, frame, {"x": value}).statistic, rtol=1e-6
        )
    assert (curve.params["x"].to_numpy() == grid).all()
    low, high = curve.confidence_set(0.05).to_numpy()[0]
    assert low < fit.params["x"] < high
    for end in (low, high):
        np.testing.assert_allclose(eeqs.score_test(psi, frame, {"x": end}).pvalue, 0.05, rtol=1e-6)
    assert curve.confidence_set(0.2).iloc[0, 0] > low


def test_profile_of_a_mean_has_closed_ends(frame):
    """n (m - t)^2 / (s^2 + (m - t)^2) = c has the roots m +- s sqrt(c / (n - c))."""
    y = frame["y"].to_numpy()
    curve = eeqs.profile(eeqs.moments.mean("y"), frame, "mean[y]", np.linspace(-3, 3, 30))
    c = stats.chi2.isf(0.05, 1)
    half = y.std() * np.sqrt(c / (len(y) - c))
    np.testing.assert_allclose(curve.confidence_set().to_numpy(), [[y.mean() - half, y.mean() + half]], rtol=1e-8)


def ratio(theta, data):
    """Ratio of means: a score test of it is Fieller's, whose set may be unbounded."""
    return (data["a"] - theta[0] * data["b"])[:, None]


def test_profile_of_a_ratio_is_fieller_and_may_be_unbounded():
    rng = np.random.default_rng(3)
    data = {"a": 1 + rng.normal(size=60), "b": rng.normal(size=60) * 3}
    wide = eeqs.profile(ratio, data, "theta[0]", np.linspace(-40, 40, 161), [0.0]).confidence_set()
    # The mean of b does not differ from zero, so both tails of the line are in the set.
    assert wide.to_numpy()[0, 0] == -np.inf
    assert wide.to_numpy()[-1, 1] == np.inf
    a, b, n, c = data["a"], data["b"], 60, stats.chi2.isf(0.05, 1)
    moments = [np.mean(a * a), np.mean(a * b), np.mean(b * b)]
    polynomial = [
        n * b.mean() ** 2 - c * moments[2],
        -2 * (n * a.mean() * b.mean() - c * moments[1]),
        n * a.mean() ** 2 - c * moments[0],
    ]
    np.testing.assert_allclose([wide.iloc[0, 1], wide.iloc[1, 0]], np.sort(np.roots(polynomial)), rtol=1e-7)


def test_profile_refuses(frame):
    psi = eeqs.moments.mean("y")
    with pytest.raises(ValueError, match="1 distinct value"):
        eeqs.profile(psi, frame, "mean[y]", [1.0, 1.0])
    with pytest.raises(ValueError, match="every value"):
        eeqs.profile(psi, frame, "mean[y]", [50.0, 60.0]).confidence_set()
    with pytest.raises(ValueError, match="unknown parameter"):
        eeqs.profile(psi, frame, "mean[x]", [0.0, 1.0])
    assert isinstance(eeqs.profile(psi, frame, "mean[y]", [0, 1]).params, pd.DataFrame)
