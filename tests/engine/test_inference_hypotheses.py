"""Wald and distance tests against statsmodels and closed forms; size and power of score and distance by simulation."""

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from scipy import stats

import eeqs
from eeqs.engine.inference.weighted_chi2 import upper_tail


@pytest.fixture
def fits(frame):
    """Least squares with HC1 here and in statsmodels, where it uses t and F with n - p degrees of freedom."""
    ours = eeqs.estimate(eeqs.moments.least_squares("y", ["x", "z"]), frame, cov="HC1")
    return ours, sm.OLS(frame["y"], sm.add_constant(frame[["x", "z"]])).fit(cov_type="HC1", use_t=True)


def test_small_sample_table_agrees_with_statsmodels(fits):
    ours, reference = fits
    small = ours.with_df(ours.df_resid)
    assert small.df == reference.df_resid == 147
    assert small.use_t
    assert not ours.use_t
    np.testing.assert_allclose(small.pvalues, reference.pvalues, rtol=1e-8)
    np.testing.assert_allclose(small.conf_int(0.1), reference.conf_int(0.1), rtol=1e-9)
    assert "t(147)" in str(small)
    np.testing.assert_allclose(small.with_df(np.inf).pvalues, ours.pvalues)
    np.testing.assert_allclose(small.svalues, -np.log2(reference.pvalues), rtol=1e-8)


def test_degrees_of_freedom_of_clusters(frame):
    fit = eeqs.estimate(eeqs.moments.mean("y"), frame, cov=eeqs.Cluster("firm"))
    assert fit.df_clusters == frame["firm"].nunique() - 1
    batches = [frame.iloc[:70], frame.iloc[70:]]
    streamed = eeqs.estimate(eeqs.moments.mean("y"), lambda: iter(batches), [0.0], cov=eeqs.Cluster("firm"))
    assert streamed.df_clusters == fit.df_clusters
    np.testing.assert_allclose(streamed.with_df(9).bse, fit.bse, rtol=1e-9)
    with pytest.raises(ValueError, match="HC0 has no clusters"):
        _ = eeqs.estimate(eeqs.moments.mean("y"), frame).df_clusters
    for df in (0, -3, np.nan):
        with pytest.raises(ValueError, match="df is"):
            fit.with_df(df)


@pytest.mark.parametrize("use_f", [False, True])
def test_wald_agrees_with_statsmodels(fits, use_f):
    ours, reference = fits
    ours = ours.with_df(ours.df_resid) if use_f else ours
    matrix, value = np.array([[0.0, 1.0, 1.0], [1.0, -2.0, 0.0]]), np.array([0.3, 0.1])
    test = ours.wald(matrix, value)
    known = reference.wald_test((matrix, value), use_f=use_f, scalar=True)
    np.testing.assert_allclose(test.statistic, float(known.statistic), rtol=1e-9)
    np.testing.assert_allclose(test.pvalue, float(known.pvalue), rtol=1e-8)
    assert test.restrictions == 2
    assert ("F(2, 147)" if use_f else "chi2(2)") in str(test)


def test_wald_takes_names_values_and_one_row(fits):
    ours = fits[0]
    np.testing.assert_allclose(ours.wald("x").statistic, ours.tvalues["x"] ** 2)
    np.testing.assert_allclose(ours.wald(["z", "x"]).statistic, ours.wald(np.eye(3)[1:]).statistic)
    by_value = ours.wald({"x": 0.5, "z": -1.0})
    np.testing.assert_allclose(by_value.statistic, ours.wald(np.eye(3)[1:], [0.5, -1.0]).statistic)
    np.testing.assert_allclose(ours.wald([0, 1, 0]).pvalue, ours.pvalues["x"])
    np.testing.assert_allclose(ours.wald("x").svalue, ours.svalues["x"])


@pytest.mark.parametrize(
    ("hypothesis", "message"),
    [
        ([[0, 1, 1], [0, 2, 2]], "restriction 1 is a combination"),
        ([[0, 1e-9, 0], [0, 0, 1e9], [0, 1e-9, 1e9]], "restriction 2 is a combination"),
        ([[0, 0, 0]], "restriction 0 is zero"),
        ([[1, 1]], r"\(1, 2\); pass \(m, 3\)"),
        ([[np.nan, 0, 0]], "NaN"),
        (["x", "xx"], 'unknown parameter "xx"; did you mean "x"'),
        (["x", "x"], "named twice"),
        ({}, "no parameters are named"),
    ],
)
def test_wald_refuses(fits, hypothesis, message):
    with pytest.raises(ValueError, match=message):
        fits[0].wald(hypothesis)


def test_wald_is_invariant_to_units_and_needs_enough_clusters(frame):
    psi = eeqs.moments.least_squares("y", ["x", "z"])
    plain = eeqs.estimate(psi, frame).wald(["x", "z"]).statistic
    scaled = frame.assign(x=1e6 * frame["x"], z=1e-6 * frame["z"])
    np.testing.assert_allclose(eeqs.estimate(psi, scaled).wald(["x", "z"]).statistic, plain, rtol=1e-9)
    few = eeqs.estimate(psi, frame.assign(half=np.arange(150) % 2), cov=eeqs.Cluster("half"))
    with pytest.raises(ValueError, match="rank 1"):
        few.wald(["x", "z"])


def test_s_values_survive_where_p_values_underflow(frame):
    fit = eeqs.estimate(eeqs.moments.mean("y"), frame.assign(y=1000 + frame["y"]))
    assert fit.pvalues.iloc[0] == 0
    expected = -(stats.norm.logsf(fit.tvalues.iloc[0]) + np.log(2)) / np.log(2)
    np.testing.assert_allclose(fit.svalues.iloc[0], expected, rtol=1e-12)
    assert np.isposinf(fit.wald("mean[y]").svalue)


# ---- distance


def poisson_loss(theta, data):
    index = data["design"] @ theta
    return torch.exp(index) - data["y"] * index


def with_design(y, x, z):
    return {"y": np.asarray(y, dtype=float), "design": np.column_stack([np.ones(len(x)), x, z]), "x": x, "z": z}


NAMES = ("Intercept", "x", "z")


def test_distance_of_a_quadratic_loss_is_wald(frame):
    """The loss is exactly quadratic, so with one restriction D over its weight is the Wald statistic."""

    def loss(theta, data):
        return (data["y"] - theta[0] - theta[1] * data["x"] - theta[2] * data["z"]).square() / 2

    data = frame[["y", "x", "z"]]
    test = eeqs.distance_test(loss, data, {"x": 0.5}, np.zeros(3), names=NAMES)
    wald = eeqs.estimate(eeqs.moments.least_squares("y", ["x", "z"]), frame).wald({"x": 0.5})
    np.testing.assert_allclose(test.statistic / test.weights[0], wald.statistic, rtol=1e-8)
    np.testing.assert_allclose(test.pvalue, wald.pvalue, rtol=1e-7)


def test_distance_is_the_likelihood_ratio(frame):
    design = sm.add_constant(frame[["x", "z"]])
    full, restricted = (sm.Poisson(frame["count"], part).fit(disp=0, tol=1e-12) for part in (design, design[["const"]]))
    data = with_design(frame["count"], frame["x"], frame["z"])
    test = eeqs.distance_test(poisson_loss, data, {"x": 0.0, "z": 0.0}, np.zeros(3), names=NAMES)
    np.testing.assert_allclose(test.statistic, 2 * (full.llf - restricted.llf), rtol=1e-8)
    assert len(test.weights) == 2
    assert all(0.4 < w < 2.5 for w in test.weights)


def test_distance_refuses_what_is_not_a_minimum(frame):
    data = {"y": frame["y"].to_numpy()}
    with pytest.raises(eeqs.SolverError, match="not a minimum"):
        eeqs.distance_test(
            lambda t, d: -((d["y"] - t[0]) ** 2) - t[1] ** 2 * d["y"] ** 2, data, {"theta[0]": 0}, [0, 1]
        )


def test_weighted_chi_square_tails():
    """Paired weights make a sum of exponentials, whose tail is elementary."""
    rates = 1 / (2 * np.array([3.0, 1.0, 0.2]))
    factors = [np.prod([other / (other - rate) for other in rates if other != rate]) for rate in rates]
    weights = np.repeat([3.0, 1.0, 0.2], 2)
    for x in (1e-3, 0.1, 1, 5, 20, 100, 400, 2000):
        # The contour keeps relative accuracy: 1e-145 at the last point.
        np.testing.assert_allclose(upper_tail(x, weights), np.exp(-rates * x) @ factors, rtol=1e-12)
    np.testing.assert_allclose(upper_tail(7.0, np.full(3, 2.0)), stats.chi2.sf(3.5, 3), rtol=1e-12)
    np.testing.assert_allclose(upper_tail(7.0, np.array([2.0, 2e-9])), stats.chi2.sf(3.5, 1), rtol=1e-7)
    assert upper_tail(0.0, weights) == 1.0
    draws = np.random.default_rng(1).chisquare(1, size=(200_000, 3)) @ [5.0, 1.0, 0.3]
    error = np.sqrt(0.05 * 0.95 / 200_000)
    assert abs(upper_tail(np.quantile(draws, 0.95), np.array([5.0, 1.0, 0.3])) - 0.05) < 4 * error


def _overdispersed(rng, slope):
    """Counts with variance far above their mean, which grows with x: not Poisson, with a log-linear mean."""
    n = 200
    x, z = rng.normal(size=n), rng.normal(size=n)
    rate = np.exp(0.5 + slope * x + 0.3 * z) * rng.gamma(1.0, 1.0, size=n)
    return with_design(rng.poisson(rate), x, z)


def _rejections(slope, seed, replicates):
    """Shares of replicates in which score, distance and naive likelihood-ratio tests reject at 5 %."""
    rng, null = np.random.default_rng(seed), {"x": 0.0}
    psi = eeqs.moments.poisson("y", ["x", "z"])
    outcomes = []
    for _ in range(replicates):
        data = _overdispersed(rng, slope)
        score = eeqs.score_test(psi, data, null)
        distance = eeqs.distance_test(poisson_loss, data, null, [0.5, 0.0, 0.3], names=NAMES)
        outcomes.append([score.pvalue < 0.05, distance.pvalue < 0.05, stats.chi2.sf(distance.statistic, 1) < 0.05])
    return np.mean(outcomes, axis=0)


def test_size_and_power_under_misspecification():
    replicates = 250
    error = np.sqrt(0.05 * 0.95 / replicates)
    score, distance, naive = _rejections(0.0, 11, replicates)
    assert abs(score - 0.05) < 4 * error
    # The sandwich in the weights is a little short at n = 200: two points of size above nominal at most, beyond error.
    assert -4 * error < distance - 0.05 < 4 * error + 0.02
    assert naive > 0.2  # the weights are what keeps the level
    assert (_rejections(0.4, 12, 60)[:2] > 0.6).all()
