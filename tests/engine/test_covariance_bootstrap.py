"""Bootstrap against closed forms, the sandwich within its Monte Carlo error, and scipy's intervals."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import eeqs
from eeqs.engine.covariance import exponential, multinomial, refit

MEAN = eeqs.moments.mean("y")
OLS = eeqs.moments.least_squares("y", ["x", "z"])
LOGIT = eeqs.moments.logit("binary", ["x", "z"])


def _ratio_error(replicates, kurtosis=3.0):
    """Standard error of the ratio of a variance over draws to its expectation."""
    return np.sqrt((kurtosis - 1) / replicates)


@pytest.mark.parametrize(("weights", "factor"), [(multinomial, 1.0), (exponential, None)])
@pytest.mark.parametrize("by", [None, "firm"])
def test_variance_of_a_mean_is_exact(weights, factor, by):
    """Drawing units with replacement gives the mean of n rows variance m2 / n, Dirichlet weights n / (n + 1) times it.

    Clusters are equally large here, for the mean to be linear in the weights.
    """
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"y": rng.exponential(size=120), "firm": np.arange(120) % 30})
    units = data["y"] if by is None else data.groupby("firm")["y"].mean()
    count = len(units)
    exact = units.var(ddof=0) / count * (1.0 if factor else count / (count + 1))
    draws = eeqs.bootstrap(MEAN, data, replicates=4000, by=by, weights=weights, seed=1)
    assert draws.covariance.iloc[0, 0] / exact == pytest.approx(1, abs=4 * _ratio_error(4000, 3.2))
    assert draws.bias.iloc[0] == pytest.approx(0, abs=4 * np.sqrt(exact / 4000))
    assert draws.failures == {}


@pytest.mark.parametrize("weights", [multinomial, exponential])
@pytest.mark.parametrize("by", [None, "g"])
def test_agrees_with_the_sandwich(weights, by):
    """With 2000 rows or 400 clusters it is the sandwich up to terms of order 1/G, below 2 %, and its MC error."""
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"x": rng.normal(size=2000), "z": rng.exponential(size=2000), "g": np.arange(2000) % 400})
    shared = rng.normal(size=400)[data["g"]]
    data["binary"] = (rng.random(2000) < 1 / (1 + np.exp(-data["x"] - shared))).astype(float)
    kind = "HC0" if by is None else eeqs.Cluster("g", "CR0")
    fit = eeqs.estimate(LOGIT, data, cov=eeqs.Bootstrap(600, by, weights, seed=3))
    ratio = fit.bse / eeqs.estimate(LOGIT, data, cov=kind).bse
    np.testing.assert_allclose(ratio, 1, atol=4 * _ratio_error(600) / 2 + 0.02)
    assert fit.cov_type == f"bootstrap({'rows' if by is None else 'g'}, 600)"


def test_the_comparison_sees_ignored_clusters():
    """Planted error: drawing rows where clusters were sampled is far outside the tolerance above."""
    rng = np.random.default_rng(9)
    data = pd.DataFrame({"g": np.arange(2000) % 100})
    data["y"] = rng.normal(size=100)[data["g"]] + rng.normal(size=2000)
    rows = eeqs.estimate(MEAN, data, cov=eeqs.Bootstrap(300)).bse.iloc[0]
    assert rows / eeqs.estimate(MEAN, data, cov=eeqs.Cluster("g")).bse.iloc[0] < 0.5


@pytest.mark.parametrize("weights", [multinomial, exponential])
def test_every_draw_is_the_weighted_fit(frame, weights):
    """Each draw is the root of the reweighted equation, here the weighted least-squares formula."""
    draws = eeqs.bootstrap(OLS, frame, replicates=5, weights=weights, seed=12).draws
    rng, x = np.random.default_rng(12), np.column_stack([np.ones(len(frame)), frame["x"], frame["z"]])
    for row in draws.to_numpy():
        w = weights(rng, np.ones(len(frame)))
        np.testing.assert_allclose(row, np.linalg.solve(x.T @ (w[:, None] * x), x.T @ (w * frame["y"])), rtol=1e-9)


@pytest.mark.parametrize("numbers", [1, 2000, 10**7])
def test_deterministic_whatever_the_chunks(frame, numbers, monkeypatch):
    expected = eeqs.bootstrap(LOGIT, frame, replicates=37, seed=5).draws
    monkeypatch.setattr(refit, "_CHUNK_NUMBERS", numbers)
    again = eeqs.bootstrap(LOGIT, frame, replicates=37, seed=np.random.SeedSequence(5)).draws
    np.testing.assert_allclose(again, expected, rtol=1e-8, atol=1e-9)
    other = eeqs.bootstrap(LOGIT, frame, replicates=37, seed=6).draws
    assert np.abs(other - expected).to_numpy().max() > 0.01


@pytest.mark.parametrize("weights", [multinomial, exponential])
def test_frequency_weights_have_the_law_of_duplication(frame, weights):
    """Different random numbers, the same distribution: standard errors of 3000 draws agree within 4 MC errors."""
    frame = frame.sort_values("firm").assign(w=lambda f: f["w"].where(f["firm"] != "firm 2", 0))  # nobody of firm 2
    repeated = frame.loc[frame.index.repeat(frame["w"])]
    one = eeqs.bootstrap(eeqs.weight(OLS, "w", kind="frequency"), frame, replicates=3000, weights=weights)
    two = eeqs.bootstrap(OLS, repeated, replicates=3000, weights=weights)
    np.testing.assert_allclose(one.bse / two.bse, 1, atol=4 * _ratio_error(3000, 4) / np.sqrt(2))
    np.testing.assert_allclose(one.acceleration, two.acceleration, rtol=1e-8)
    clustered = eeqs.weight(OLS, "w", kind="frequency")
    first = eeqs.bootstrap(clustered, frame, replicates=20, weights=weights, by="firm").draws
    second = eeqs.bootstrap(OLS, repeated, replicates=20, weights=weights, by="firm").draws
    np.testing.assert_allclose(first, second, rtol=1e-8)  # whole clusters: the very same draws


def test_step_functions_and_numpy_psi_draw_rows(frame):
    """The median of every resample, which numpy finds too; and no fractional weights for it."""
    draws = eeqs.bootstrap(eeqs.moments.quantile("y"), frame, replicates=25, seed=2).draws
    rng, y = np.random.default_rng(2), frame["y"].to_numpy()
    for value in draws.iloc[:, 0]:
        ordered = np.sort(np.repeat(y, multinomial(rng, np.ones(len(y))).astype(int)))
        assert ordered[74] <= value <= ordered[75]
    with pytest.raises(eeqs.PsiError, match="takes no weights, so rows can only be drawn whole"):
        eeqs.bootstrap(eeqs.moments.quantile("y"), frame, replicates=5, weights=exponential)
    in_numpy = eeqs.from_numpy(lambda theta, data: data["y"] - theta, columns=["y"])
    np.testing.assert_allclose(
        eeqs.bootstrap(in_numpy, frame, [0.0], replicates=9).draws,
        eeqs.bootstrap(MEAN, frame, replicates=9).draws,
        rtol=1e-9,
    )


def test_rows_that_depend_on_each_other_are_not_drawn_twice():
    psi = eeqs.EstimatingFunction(lambda t, d: (d["y"].mean() - t).expand(len(d["y"]), 1), separable=False)
    with pytest.raises(eeqs.PsiError, match="taken for a neighbour of itself; use Jackknife"):
        eeqs.bootstrap(psi, {"y": np.arange(9.0)}, [0.0], replicates=5)


@pytest.fixture(scope="module")
def skewed():
    data = {"y": np.random.default_rng(21).exponential(size=60)}
    return data, eeqs.bootstrap(MEAN, data, replicates=1999, seed=7)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("kind", ["percentile", "basic", "bca"])
def test_intervals_are_those_of_scipy(skewed, kind, alpha):
    """Scipy on the same draws; its quantiles are at (R - 1) times the level and not (R + 1): one gap of draws."""
    data, draws = skewed
    values = draws.draws.to_numpy()[:, 0]
    given = SimpleNamespace(bootstrap_distribution=values)
    method = {"bca": "BCa"}.get(kind, kind)
    expected = stats.bootstrap(
        (data["y"],), np.mean, n_resamples=0, bootstrap_result=given, method=method, confidence_level=1 - alpha
    ).confidence_interval
    gap = np.diff(np.sort(values))[[*range(100), *range(-100, 0)]].max()
    np.testing.assert_allclose(draws.conf_int(alpha, kind).iloc[0], expected, atol=gap)


def test_acceleration_of_a_mean_is_its_skewness(skewed):
    """For a mean it is skewness / (6 sqrt n); a positive one moves both BCa limits up."""
    data, draws = skewed
    assert draws.acceleration.iloc[0] == pytest.approx(stats.skew(data["y"]) / (6 * np.sqrt(60)), rel=1e-9)
    shift = draws.conf_int(kind="bca").iloc[0] - draws.conf_int().iloc[0]
    assert (shift > 0).all()


def test_intervals_refuse_what_the_draws_cannot_say(skewed):
    draws = skewed[1]
    with pytest.raises(eeqs.DataError, match="1999 draws do not reach the tail"):
        draws.conf_int(1e-4)
    with pytest.raises(ValueError, match='unknown kind "t"'):
        draws.conf_int(kind="t")
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        draws.conf_int(1.5)
    one_sided = replace(draws, params=draws.params - 10)
    with pytest.raises(eeqs.DataError, match=r'all draws of "mean\[y\]" lie on one side'):
        one_sided.conf_int(kind="bca")


def test_failures_are_counted_and_not_dropped():
    """One success at each value of x: more than half of the resamples miss one of them, and the logit runs off."""
    data = {"binary": (np.arange(40) < 2).astype(float), "x": np.arange(40) % 2.0}
    psi = eeqs.moments.logit("binary", ["x"])
    with pytest.raises(eeqs.SolverError, match=r"of 200 bootstrap refits failed \(.*degenerate.*max_failed"):
        eeqs.bootstrap(psi, data, replicates=200)
    draws = eeqs.bootstrap(psi, data, replicates=200, max_failed=0.9)
    assert draws.failures[eeqs.Status.DEGENERATE] > 50
    assert set(draws.failures) <= set(eeqs.Status) - {eeqs.Status.CONVERGED}
    assert len(draws.draws) + sum(draws.failures.values()) == 200
    assert eeqs.bootstrap(psi, data, replicates=200, weights=exponential).failures == {}


@given(seed=st.integers(0, 10**6), weights=st.sampled_from([multinomial, exponential]))
def test_weights_keep_their_sum(seed, weights):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 4, size=20).astype(float)
    sizes[0] = 1
    drawn = weights(np.random.default_rng(seed), sizes)
    assert drawn.sum() == pytest.approx(sizes.sum())
    assert (drawn[sizes == 0] == 0).all()
    assert (drawn >= 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: eeqs.Bootstrap(1), "replicates is 1"),
        (lambda: eeqs.Bootstrap(max_failed=1.0), r"max_failed is 1\.0"),
        (lambda: eeqs.bootstrap(MEAN, {"y": [1.0]}), "there is only one"),
        (lambda: eeqs.bootstrap(MEAN, lambda: iter([{"y": [1.0, 2.0]}])), "needs all rows at once"),
        (lambda: eeqs.bootstrap(MEAN, {"y": [1.0, 2.0]}, weights=lambda rng, n: -n), "must be 2 non-negative"),  # noqa: ARG005
        (lambda: eeqs.bootstrap(MEAN, {"y": [1.0, 2.0], "g": [1, 1]}, by="g"), "every observation has the same label"),
    ],
)
def test_settings_and_data_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
