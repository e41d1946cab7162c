"""Accelerated failure time models against scipy's laws, closed forms and direct maximum likelihood."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

import eeqs

X = ["x", "z"]
# Law of T with index and scale, in scipy's parameters.
LAWS = {
    "weibull_aft": lambda index, scale: stats.weibull_min(1 / scale, scale=np.exp(index)),
    "log_logistic_aft": lambda index, scale: stats.fisk(1 / scale, scale=np.exp(index)),
    "log_normal_aft": lambda index, scale: stats.lognorm(scale, scale=np.exp(index)),
    "exponential_aft": lambda index, _: stats.expon(scale=np.exp(index)),
}
FAMILIES = list(LAWS)
SCALED = FAMILIES[:3]


def _psi(family, x=X, **options):
    return getattr(eeqs.moments, family)("t", "d", x, **options)


def _frame(seed, n=120, noise=stats.gumbel_l, early=0.0):
    """Times of scale 0.7 with about a third censored, and more the larger ``early``."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.uniform(size=n)
    event = 2 + 0.8 * x - z + 0.7 * noise.rvs(size=n, random_state=rng)
    censored = 2.2 - early + rng.normal(size=n)
    return pd.DataFrame({"t": np.exp(np.minimum(event, censored)), "d": (event <= censored) * 1.0, "x": x, "z": z})


def _leaves(data):
    return {name: torch.tensor(np.asarray(data[name]), dtype=torch.float64) for name in data}


def _log_likelihood(family, theta, frame):
    """One number a row, from scipy."""
    p = 3
    index = np.column_stack([np.ones(len(frame)), frame[X]]) @ theta[:p]
    law = LAWS[family](index, np.exp(theta[p]) if len(theta) > p else 1.0)
    return np.where(frame["d"] == 1, law.logpdf(frame["t"]), law.logsf(frame["t"]))


@pytest.mark.parametrize("family", FAMILIES)
def test_psi_is_the_score(family):
    """Central differences of scipy's log-likelihood: a step of 1e-5 errs by 1e-10, and rounding by as much."""
    frame, theta = _frame(1), np.array([1.5, 0.6, -0.8, -0.3])[: 3 if family == "exponential_aft" else 4]
    psi = _psi(family)
    leaves = _leaves(frame)
    steps = 1e-5 * np.eye(len(theta))
    score = [
        (_log_likelihood(family, theta + step, frame) - _log_likelihood(family, theta - step, frame)) / 2e-5
        for step in steps
    ]
    np.testing.assert_allclose(psi(torch.from_numpy(theta), leaves), np.column_stack(score), rtol=1e-7, atol=1e-8)
    assert eeqs.check_jacobian(psi, theta, frame).passed


@pytest.mark.parametrize("family", FAMILIES)
def test_maximises_the_likelihood_of_scipy(family):
    frame = _frame(2)
    fit = eeqs.estimate(_psi(family), frame)

    def loss(theta):
        return -_log_likelihood(family, theta, frame).mean()

    best = optimize.minimize(loss, np.zeros(len(fit.params)), method="BFGS", options={"gtol": 1e-7})
    # BFGS stops where differences of the likelihood end, six digits from the maximum.
    np.testing.assert_allclose(fit.params, best.x, atol=2e-5)
    assert loss(fit.params.to_numpy()) <= best.fun + 1e-14
    assert list(fit.params.index) == ["Intercept", *X, "log(scale)"][: len(fit.params)]


def test_exponential_rate_is_events_per_time():
    frame = _frame(3)
    fit = eeqs.estimate(_psi("exponential_aft", []), frame)
    assert np.exp(-fit.params["Intercept"]) == pytest.approx(frame["d"].sum() / frame["t"].sum(), rel=1e-12)


def test_weibull_of_unit_scale_is_exponential():
    frame = _frame(4)
    theta = torch.tensor([1.5, 0.6, -0.8], dtype=torch.float64)
    leaves = _leaves(frame)
    weibull = _psi("weibull_aft")(torch.cat([theta, torch.zeros(1, dtype=torch.float64)]), leaves)
    torch.testing.assert_close(weibull[:, :3], _psi("exponential_aft")(theta, leaves), rtol=1e-13, atol=1e-13)


def test_log_normal_without_censoring_is_least_squares():
    frame = _frame(5).assign(d=1)
    fit = eeqs.estimate(_psi("log_normal_aft"), frame)
    ols = eeqs.estimate(eeqs.moments.least_squares("log_t", X), frame.assign(log_t=np.log(frame["t"])))
    np.testing.assert_allclose(fit.params.iloc[:3], ols.params, rtol=1e-10)
    np.testing.assert_allclose(fit.bse.iloc[:3], ols.bse, rtol=1e-9)
    residual = np.log(frame["t"]) - np.column_stack([np.ones(len(frame)), frame[X]]) @ ols.params
    assert fit.params["log(scale)"] == pytest.approx(0.5 * np.log((residual**2).mean()), abs=1e-12)


def test_log_normal_hazard_in_the_tails():
    """A censored log time z standard deviations out: the score is the normal hazard.

    scipy's logarithms of density and survival, each about z^2 / 2, lose z^2 units of rounding in their difference.
    """
    z = np.array([-800.0, -40.0, -5.0, 0.0, 5.0, 30.0])
    leaves = {"t": torch.from_numpy(np.exp(z / 2)), "d": torch.zeros(6, dtype=torch.float64)}
    theta = torch.tensor([0.0, np.log(0.5)], dtype=torch.float64)
    psi = _psi("log_normal_aft", [])
    score = psi(theta, leaves)[:, 0] * 0.5
    np.testing.assert_allclose(score, np.exp(stats.norm.logpdf(z) - stats.norm.logsf(z)), rtol=1e-12, atol=1e-80)
    assert torch.isfinite(psi.linear.mean_jacobian(theta, psi.prepare(leaves))).all()


@pytest.mark.parametrize("family", SCALED)
def test_many_censored_times_converge_from_the_start(family):
    """Where least squares of log time as a start loses most of the samples: three times in four are censored."""
    frames = [_frame(seed, n=80, noise=stats.norm, early=2.0) for seed in range(40)]
    assert np.mean([frame["d"].mean() for frame in frames]) < 0.3
    data = {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}
    psi = _psi(family)
    start = psi.start(psi.prepare(_leaves(data)))
    together = eeqs.solve(psi, data, start)
    assert together.converged.all()
    alone = eeqs.solve(psi, frames[7])
    np.testing.assert_allclose(alone.theta, together.theta[7], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_unbiased_at_the_truth(family):
    """Four standard errors, with censoring that depends on the covariates."""
    rng = np.random.default_rng(6)
    n = 40_000
    x = rng.normal(size=n)
    theta = np.array([0.5, -0.7, np.log(0.6)])[: 2 if family == "exponential_aft" else 3]
    event = LAWS[family](0.5 - 0.7 * x, 0.6).rvs(size=n, random_state=rng)
    censored = np.exp(0.8 - 0.5 * x + rng.normal(size=n))
    leaves = {"t": np.minimum(event, censored), "d": (event <= censored) * 1.0, "x": x}
    psi = _psi(family, ["x"])
    values = psi(torch.from_numpy(theta), _leaves(leaves)).numpy()
    assert (np.abs(values.mean(0)) < 4 * values.std(0) / n**0.5).all()
    # A censored time that is taken for an event's is found out.
    leaves["d"] = np.ones(n)
    values = psi(torch.from_numpy(theta), _leaves(leaves)).numpy()
    assert (np.abs(values.mean(0)) > 10 * values.std(0) / n**0.5).any()


@given(
    st.sampled_from(FAMILIES),
    st.integers(0, 2**16),
    st.floats(-6, 6).map(lambda e: 10**e),
    st.randoms(use_true_random=False),
)
def test_units_of_time_and_order_of_rows(family, seed, unit, random):
    """Another unit of time shifts the intercept by its logarithm; the order of rows changes nothing."""
    frame = _frame(seed, n=60)
    fit = eeqs.estimate(_psi(family), frame)
    order = random.sample(range(60), 60)
    other = eeqs.estimate(_psi(family), frame.assign(t=unit * frame["t"]).iloc[order])
    shifted = fit.params + np.log(unit) * (fit.params.index == "Intercept")
    np.testing.assert_allclose(other.params, shifted, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(other.bse, fit.bse, rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_stand_for_rows(family):
    frame = _frame(8).assign(w=np.arange(120) % 3)
    repeated = frame.loc[frame.index.repeat(frame["w"])]
    fit = eeqs.estimate(_psi(family, weights="w"), frame)
    np.testing.assert_allclose(fit.params, eeqs.estimate(_psi(family), repeated).params, rtol=1e-7, atol=1e-8)


def test_batches_may_lack_events():
    frame = _frame(9).sort_values("d", ascending=False)
    batches = [frame.iloc[k : k + 20] for k in range(0, 120, 20)]
    assert batches[-1]["d"].sum() == 0
    whole, streamed = (eeqs.estimate(_psi("weibull_aft"), data) for data in (frame, lambda: iter(batches)))
    np.testing.assert_allclose(streamed.params, whole.params, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(streamed.bse, whole.bse, rtol=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_group_without_events_is_degenerate(family):
    frame = _frame(10).assign(g=np.arange(120) % 2)
    frame.loc[frame["g"] == 1, "d"] = 0
    assert eeqs.solve(_psi(family, ["g"]), frame).status is eeqs.Status.DEGENERATE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": 0.0}, 'time "t" has values of zero or less'),
        ({"d": 2.0}, 'event "d" has values other than 0 .censored. and 1'),
        ({"d": 0.0}, 'event "d" is 0 throughout'),
        ({"d": np.nan}, 'column "d" has 120 row'),
        ({"d": np.zeros((120, 2))}, 'event "d" has shape'),
    ],
)
@pytest.mark.parametrize("family", ["weibull_aft", "exponential_aft"])
def test_bad_data_is_refused_by_name(family, change, message):
    data = {name: _frame(11)[name].to_numpy() for name in ("t", "d", "x")}
    name, value = next(iter(change.items()))
    data[name] = value if np.ndim(value) else np.full(120, value)
    with pytest.raises(eeqs.DataError, match=message):
        eeqs.estimate(_psi(family, ["x"]), data)
