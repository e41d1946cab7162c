"""HAC against statsmodels, sums over all pairs of rows, and the integrals that define its constants."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

import eeqs
from eeqs.engine import evaluate
from eeqs.engine.covariance import andrews, bartlett, newey_west, parzen, quadratic_spectral

KERNELS = (bartlett, parzen, quadratic_spectral)
OLS = eeqs.moments.least_squares("y", ["x"])


def _ar1(rng, n, rho):
    series = rng.normal(size=n)
    for t in range(1, n):
        series[t] += rho * series[t - 1]
    return series


@pytest.fixture(scope="module")
def series():
    """Regressor and error both autocorrelated, 300 months."""
    rng = np.random.default_rng(11)
    x, error = _ar1(rng, 300, 0.5), _ar1(rng, 300, 0.6)
    return pd.DataFrame({"y": 1 + x + error, "x": x, "month": pd.date_range("2000-01-01", periods=300, freq="MS")})


def _psi(data):
    fit = eeqs.estimate(OLS, data)
    return fit.problem.values(fit.solution.theta).numpy()


@pytest.mark.parametrize("lags", [0, 1, 5, 40])
@pytest.mark.parametrize("small", [False, True])
def test_bartlett_is_statsmodels(series, lags, small):
    reference = sm.OLS(series["y"], sm.add_constant(series["x"])).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": small}
    )
    fit = eeqs.estimate(OLS, series, cov=eeqs.HAC(lags=lags, small_sample=small))
    np.testing.assert_allclose(fit.cov_params(), reference.cov_params(), rtol=1e-10)
    assert fit.cov_type == f"HAC(Bartlett, {lags})"
    if lags == 0 and not small:
        np.testing.assert_allclose(fit.cov_params(), eeqs.estimate(OLS, series).cov_params(), rtol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("width", [0.7, 1.0, 7.3, 250.0])
def test_meat_is_the_sum_over_all_pairs(series, kernel, width):
    psi, n = _psi(series), len(series)
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / width
    expected = psi.T @ kernel.weight(distance) @ psi / n
    meat = eeqs.estimate(OLS, series, cov=eeqs.HAC(kernel, width)).meat
    np.testing.assert_allclose(meat, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("kernel", "formula"),
    [
        (bartlett, lambda x: np.where(x < 1, 1 - x, 0)),
        (parzen, lambda x: np.select([x <= 0.5, x <= 1], [1 - 6 * x**2 * (1 - x), 2 * (1 - x) ** 3], 0)),
        (quadratic_spectral, lambda x: 25 / (12 * (np.pi * x) ** 2) * (np.sinc(1.2 * x) - np.cos(1.2 * np.pi * x))),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_kernels_and_their_constants(kernel, formula):
    """The constant of the bandwidth is (q k_q^2 / int k^2)^(1 / (2 q + 1)), k_q = lim (1 - k(x)) / x^q."""
    x = np.linspace(0.05, 3, 60)
    np.testing.assert_allclose(kernel.weight(x), formula(x), rtol=1e-9, atol=1e-15)
    assert kernel.weight(np.zeros(1)) == 1
    near = 1e-3
    slope = (1 - kernel.weight(np.array([near]))[0]) / near**kernel.order
    end = 1 if kernel.compact else 200
    square = 2 * integrate.quad(lambda u: kernel.weight(np.array([u]))[0] ** 2, 0, end, limit=500)[0]
    constant = (kernel.order * slope**2 / square) ** (1 / (2 * kernel.order + 1))
    assert constant == pytest.approx(kernel.constant, abs=2e-3 if kernel is parzen else 2e-4)


def test_small_ratios_of_the_quadratic_spectral_kernel_do_not_cancel():
    """The Taylor series and the formula meet, where the formula still has six digits."""
    x = np.array([2.6e-3, 2.7e-3])  # on both sides of the switch at z = 0.01
    weights = quadratic_spectral.weight(x)
    np.testing.assert_allclose(weights, 1 - (1.2 * np.pi * x) ** 2 / 10, atol=1e-9)


def _own(series, last):
    centred = np.asarray(series)
    n = len(centred)
    return np.array([centred[lag:] @ centred[: n - lag] / n for lag in range(last + 1)])[:, None]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_bandwidths_are_the_formulas(series, kernel):
    psi, n = _psi(series), len(series)
    scaled = psi / np.sqrt((psi**2).mean(0))
    rho = np.array([u[1:] @ u[:-1] / (u @ u) for u in scaled.T])
    power = 1 / (2 * kernel.order + 1)
    if kernel.order == 1:
        top = 4 * rho**2 * (1 - rho**2) ** 2 / ((1 - rho) ** 6 * (1 + rho) ** 2)
    else:
        top = 4 * rho**2 * (1 - rho**2) ** 2 / (1 - rho) ** 8
    alpha = top.sum() / ((1 - rho**2) ** 2 / (1 - rho) ** 4).sum()
    by_andrews = kernel.constant * (alpha * n) ** power

    pilot = {"Bartlett": 2 / 9, "Parzen": 4 / 25, "quadratic spectral": 2 / 25}[kernel.name]
    last = int(4 * (n / 100) ** pilot)
    sigma = sum(_own(u, last)[:, 0] for u in scaled.T)
    lags = np.arange(1, last + 1)
    ratio = 2 * (lags**kernel.order * sigma[1:]).sum() / (sigma[0] + 2 * sigma[1:].sum())
    by_newey_west = kernel.constant * (ratio**2 * n) ** power

    for rule, width in ((andrews, by_andrews), (newey_west, by_newey_west)):
        automatic = eeqs.estimate(OLS, series, cov=eeqs.HAC(kernel, rule)).meat
        given_width = eeqs.estimate(OLS, series, cov=eeqs.HAC(kernel, float(width))).meat
        np.testing.assert_allclose(automatic, given_width, rtol=1e-10)


@pytest.mark.parametrize("rho", [-0.5, 0.5])
def test_andrews_bandwidth_of_a_long_ar1(rho):
    """For an AR(1), alpha(1) = 4 rho^2 / (1 - rho^2)^2; rho of 20000 rows has standard error 0.006."""
    n = 20_000
    own = _own(_ar1(np.random.default_rng(5), n, rho), 1)
    expected = 1.1447 * (4 * rho**2 / (1 - rho**2) ** 2 * n) ** (1 / 3)
    assert andrews(bartlett, lambda _: own, n) == pytest.approx(expected, rel=0.03)


def test_a_constant_or_white_series_keeps_a_usable_bandwidth():
    white = np.array([[1.0], [0.0], [0.0]])
    for rule in (andrews, newey_west):
        assert rule(bartlett, lambda lags: white[: lags + 1], 100.0) == pytest.approx(1e-3)
        assert rule(quadratic_spectral, lambda lags: np.zeros((lags + 1, 1)), 100.0) == pytest.approx(1e-3)
    almost = np.array([[1.0], [0.985]])
    assert 0 < andrews(parzen, lambda _: almost, 100.0) <= 100


@pytest.mark.parametrize("rule", [andrews, newey_west])
def test_equations_that_are_equal_for_all_rows_have_no_say(rule):
    """The equation of a derived parameter holds rounding only, perfectly correlated, and must not set the bandwidth."""
    own = _own(_ar1(np.random.default_rng(1), 200, 0.4), 10)
    constant = _own(np.full(200, 1e-17), 10)
    both = np.hstack([own, constant])
    assert rule(bartlett, lambda lags: both[: lags + 1], 200) == rule(bartlett, lambda lags: own[: lags + 1], 200)


def test_long_run_variance_of_an_ar1():
    """The truth is 1 / (1 - rho)^2 = 4; HAC is within sampling error of it, and HC0 is the variance 4/3."""
    n = 20_000
    data = {"y": _ar1(np.random.default_rng(6), n, 0.5)}
    estimates = {k.name: eeqs.estimate(eeqs.moments.mean("y"), data, cov=eeqs.HAC(k)).meat.item() for k in KERNELS}
    # Standard error 4 sqrt(2 b int k^2 / n) of about 0.25 at these bandwidths, bias below 0.15.
    assert all(abs(value - 4) < 0.6 for value in estimates.values()), estimates
    assert eeqs.estimate(eeqs.moments.mean("y"), data).meat.item() == pytest.approx(4 / 3, abs=0.1)


def test_order_column_sorts_rows(series):
    shuffled = series.sample(frac=1, random_state=2)
    for kernel in KERNELS:
        cov = eeqs.HAC(kernel, 6.0)
        expected = eeqs.estimate(OLS, series, cov=cov).cov_params()
        ordered = eeqs.estimate(OLS, shuffled, cov=eeqs.HAC(kernel, 6.0, order="month")).cov_params()
        np.testing.assert_allclose(ordered, expected, rtol=1e-9)
        wrong = eeqs.estimate(OLS, shuffled, cov=cov).cov_params()  # planted: rows out of order
        assert np.abs(wrong / expected - 1).to_numpy().max() > 0.05


@pytest.mark.parametrize("lags", [3, 30])
def test_blocks_and_streams_are_all_rows_at_once(series, monkeypatch, lags):
    """With 30 lags several blocks lie between a row and its earliest partner."""
    numbers = series[["y", "x"]]
    automatic = eeqs.estimate(OLS, numbers, cov=eeqs.HAC(parzen, newey_west)).cov_params()
    expected = eeqs.estimate(OLS, numbers, cov=eeqs.HAC(lags=lags)).cov_params()
    monkeypatch.setattr(evaluate, "_BLOCK_NUMBERS", 24)
    monkeypatch.setattr(evaluate, "_FEWEST_ROWS", 7)

    def stream():
        return (numbers.iloc[k : k + 64] for k in range(0, 300, 64))

    for data in (numbers, stream):
        np.testing.assert_allclose(eeqs.estimate(OLS, data, cov=eeqs.HAC(lags=lags)).cov_params(), expected, rtol=1e-10)
        again = eeqs.estimate(OLS, data, cov=eeqs.HAC(parzen, newey_west)).cov_params()
        np.testing.assert_allclose(again, automatic, rtol=1e-10)
    with pytest.raises(eeqs.DataError, match=r"HAC\(quadratic spectral, andrews\).* needs all rows at once"):
        eeqs.estimate(OLS, stream, cov=eeqs.HAC(quadratic_spectral))


@given(
    seed=st.integers(0, 10**6), kernel=st.sampled_from(KERNELS), rule=st.sampled_from([andrews, newey_west, 0.5, 9.0])
)
def test_positive_and_free_of_units_and_signs(seed, kernel, rule):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"y": _ar1(rng, 40, -0.7), "x": _ar1(rng, 40, 0.9)})
    fit = eeqs.estimate(OLS, data, cov=eeqs.HAC(kernel, rule))
    assert np.linalg.eigvalsh(fit.meat).min() > -1e-12 * float(fit.meat.abs().max())
    scaled = eeqs.estimate(OLS, data.assign(x=-1e6 * data["x"], y=1e-4 * data["y"]), cov=eeqs.HAC(kernel, rule))
    np.testing.assert_allclose(scaled.bse * [1e4, -1e10 * -1], fit.bse, rtol=1e-7)
    backwards = eeqs.estimate(OLS, data.iloc[::-1], cov=eeqs.HAC(kernel, rule))
    np.testing.assert_allclose(backwards.bse, fit.bse, rtol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: eeqs.HAC(bandwidth=0.0), "bandwidth is 0.0; pass a positive number"),
        (lambda: eeqs.HAC(lags=-1), "lags is -1; pass 0 or more"),
        (lambda: eeqs.HAC(quadratic_spectral, lags=3), "pass 0 or more, and a bandwidth for the quadratic spectral"),
        (lambda: eeqs.HAC(bandwidth=3.0, lags=2), "two names of one number"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "cov", "message"),
    [
        ({}, eeqs.HAC(lags=300), "300 lags need more than 300 rows"),
        ({"month": 1.0}, eeqs.HAC(order="month"), 'order column "month" has equal or missing times, at 1.0 first'),
        ({"month": [np.nan, *range(299)]}, eeqs.HAC(order="month"), "equal or missing times, at 298.0 first"),
    ],
)
def test_unusable_order_or_lags(series, change, cov, message):
    with pytest.raises(eeqs.DataError, match=message):
        eeqs.estimate(OLS, series.assign(**change), cov=cov)


def test_refused_for_weights_replicates_and_few_rows(series):
    weighted = eeqs.weight(OLS, "w", kind="frequency")
    with pytest.raises(eeqs.DataError, match="frequency weights have no order"):
        eeqs.estimate(weighted, series.assign(w=2), cov=eeqs.HAC())
    with pytest.raises(eeqs.DataError, match="is for one data set"):
        eeqs.meat(lambda t, d: d["y"][:, None] - t, [[0.0]], {"y": [[1.0, 2.0]]}, eeqs.HAC())
    with pytest.raises(eeqs.DataError, match="divides by n - p, but n = 2 and p = 2"):
        eeqs.meat(OLS, [0.0, 0.0], series.iloc[:2], eeqs.HAC(lags=0, small_sample=True))


def test_a_number_in_place_of_a_kernel_is_refused():
    with pytest.raises(TypeError, match="kernel is 4; pass bartlett, parzen or quadratic_spectral, or lags by name"):
        eeqs.HAC(4)
