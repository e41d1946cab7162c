"""Delta method, estimable functionals and simultaneous bands."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats
from scipy.optimize import brentq

import eeqs
from eeqs.engine.inference.bands import sup_t

# ---- delta method


@pytest.fixture
def fit(frame):
    return eeqs.estimate(eeqs.moments.least_squares("y", ["x", "z"]), frame)


def test_delta_of_linear_and_nonlinear_functions(fit):
    theta, covariance = fit.params.to_numpy(), fit.cov_params().to_numpy()
    matrix = torch.tensor([[0.0, 1.0, -1.0], [1.0, 2.0, 0.0]], dtype=torch.float64)
    linear = fit.delta(lambda b: matrix @ b)
    np.testing.assert_allclose(linear.params, matrix.numpy() @ theta, rtol=1e-14)
    np.testing.assert_allclose(linear.cov_params(), matrix.numpy() @ covariance @ matrix.numpy().T, rtol=1e-12)
    gradient = np.array([0, 1 / theta[2], -theta[1] / theta[2] ** 2])
    ratio = fit.delta(lambda b: {"ratio": b["x"] / b["z"]}, named=True)
    np.testing.assert_allclose(ratio.params["ratio"], theta[1] / theta[2], rtol=1e-14)
    np.testing.assert_allclose(ratio.bse["ratio"], np.sqrt(gradient @ covariance @ gradient), rtol=1e-12)
    np.testing.assert_allclose(fit.delta(lambda b: b[1] / b[2]).conf_int(), ratio.conf_int())
    assert "ratio" in str(ratio)
    assert ratio.with_df(5).conf_int().iloc[0, 0] < ratio.conf_int().iloc[0, 0]


def test_delta_of_a_delta_and_its_wald_test(fit):
    """The chain rule; and the Wald test of a function is that of what it was made from."""
    once = fit.delta(lambda b: {"product": b[1] * b[2], "sum": b[1] + b[2]})
    twice = once.delta(lambda h: torch.exp(h[0]) * h[1])
    direct = fit.delta(lambda b: torch.exp(b[1] * b[2]) * (b[1] + b[2]))
    np.testing.assert_allclose(twice.bse, direct.bse, rtol=1e-12)
    contrast = fit.delta(lambda b: b[1] - b[2])
    np.testing.assert_allclose(contrast.wald([[1.0]], 0.5).pvalue, fit.wald([[0.0, 1.0, -1.0]], 0.5).pvalue, rtol=1e-9)


def test_standard_deviation_has_the_closed_form_error(frame):
    """Standard error of the standard deviation: (m4 - m2^2)^(1/2) / (2 m2^(1/2) n^(1/2))."""
    fit = eeqs.estimate(eeqs.moments.variance("y"), frame)
    y = frame["y"].to_numpy() - frame["y"].mean()
    m2, m4 = (y**2).mean(), (y**4).mean()
    error = np.sqrt((m4 - m2**2) / (4 * m2 * len(y)))
    np.testing.assert_allclose(fit.delta(lambda b: b[1].sqrt()).bse.iloc[0], error, rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _: torch.tensor(1.0, dtype=torch.float64), "zero gradient"),
        (lambda b: b.detach()[0], "zero gradient"),
        (lambda b: (b[0] - b[0]) ** 2 + 1, "zero gradient"),
        (lambda b: torch.log(-b[0].abs()), "NaN or infinite"),
        (lambda b: float(b[0]) if False else 3.0, "a float"),
        (lambda b: b[:, None], "shape"),
        (lambda b: {"v": b}, "mapping"),
        (lambda b: b.float(), "float32"),
    ],
)
def test_delta_refuses(fit, function, message):
    with pytest.raises(ValueError, match=message):
        fit.delta(function)


def test_a_wrong_gradient_would_be_seen(frame):
    """Bootstrap-free check of the delta method: the spread of a ratio over samples is its standard error."""
    rng, ratios, errors = np.random.default_rng(5), [], []
    for _ in range(300):
        sample = frame.iloc[rng.integers(0, 150, 150)].reset_index(drop=True)
        part = eeqs.estimate(eeqs.moments.mean("y"), sample.assign(y=3 + sample["y"])).delta(lambda b: 10 / b[0] ** 2)
        ratios.append(part.params.iloc[0])
        errors.append(part.bse.iloc[0])
    # The standard deviation of 300 draws has relative error 1 / sqrt(600), 4 %.
    assert abs(np.std(ratios) / np.mean(errors) - 1) < 4 / np.sqrt(600)
    assert abs(np.std(ratios) / (2 * np.mean(errors)) - 1) > 4 / np.sqrt(600)


# ---- functionals of parameters that are not identified


@pytest.fixture
def doubled(frame):
    return frame.assign(copy=frame["x"], scaled=1e6 * frame["x"])


@pytest.mark.parametrize(("twin", "factor"), [("copy", 1.0), ("scaled", 1e6)])
def test_sum_of_duplicated_columns_is_estimable(doubled, twin, factor):
    alone = eeqs.estimate(eeqs.moments.logit("binary", ["x", "z"]), doubled)
    fit = eeqs.estimate(eeqs.moments.logit("binary", ["x", twin, "z"]), doubled, minimum_norm=True)
    total = fit.delta(lambda b: b[1] + factor * b[2])
    np.testing.assert_allclose(total.params.iloc[0], alone.params["x"], rtol=1e-7)
    np.testing.assert_allclose(total.bse.iloc[0], alone.bse["x"], rtol=1e-7)
    np.testing.assert_allclose(fit.bse[["Intercept", "z"]], alone.bse[["Intercept", "z"]], rtol=1e-7)
    assert fit.bse[["x", twin]].isna().all()
    assert fit.cov_params()["x"].isna().all()
    assert fit.conf_int().loc["x"].isna().all()
    assert str(fit).count("not estimable") == 2
    np.testing.assert_allclose(fit.wald([[0, 1, factor, 0], [0, 0, 0, 1]]).statistic, alone.wald(["x", "z"]).statistic)
    for refused in (lambda b: b[1], lambda b: b[1] - factor * b[2], lambda b: b[1] + factor * b[2] * 1.001):
        with pytest.raises(eeqs.NotEstimableError, match=f"not estimable: .* x, {twin}") as caught:
            fit.delta(refused)
        assert caught.value.parameters == ("x", twin)
    with pytest.raises(eeqs.NotEstimableError):
        fit.wald("x")
    with pytest.raises(eeqs.NotEstimableError):
        fit.influence_of(lambda b: b[1])
    influence = fit.influence_of(lambda b: b[1] + factor * b[2])
    np.testing.assert_allclose(influence.iloc[:, 0], alone.influence()["x"], rtol=1e-6, atol=1e-8)
    band = fit.simultaneous()
    assert band.interval.loc["x"].isna().all()
    assert band.critical < band.bonferroni < stats.norm.isf(0.05 / 4 / 2) + 1e-9


def test_full_rank_fit_has_nothing_to_refuse(frame):
    psi = eeqs.moments.least_squares("y", ["x", "z"])
    np.testing.assert_allclose(
        eeqs.estimate(psi, frame, minimum_norm=True).bse, eeqs.estimate(psi, frame).bse, rtol=1e-10
    )


# ---- simultaneous bands


def _exchangeable(m, rho, alpha):
    """Exact critical value for equal correlations, by one integral over the common factor."""

    def coverage(c):
        def integrand(u):
            centre, scale = np.sqrt(rho) * u, np.sqrt(1 - rho)
            inside = special.ndtr((c - centre) / scale) - special.ndtr((-c - centre) / scale)
            return stats.norm.pdf(u) * inside**m

        return integrate.quad(integrand, -9, 9, epsabs=1e-12)[0]

    return brentq(lambda c: coverage(c) - (1 - alpha), 1, 6)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("m", [2, 5, 20])
def test_sup_t_agrees_with_an_exact_integral(m, rho):
    correlation = np.full((m, m), rho) + (1 - rho) * np.eye(m)
    critical, error = sup_t(correlation, 0.05, None, 3)
    assert error < 2e-3
    # Eight scramblings: the ratio is a t variable with seven degrees of freedom; 5.4 is its 0.1 % point.
    assert abs(critical - _exchangeable(m, rho, 0.05)) < 5.4 * error


def test_sup_t_agrees_with_genz():
    rng = np.random.default_rng(8)
    factor = rng.normal(size=(4, 4))
    covariance = factor @ factor.T
    size = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(size, size)
    critical, error = sup_t(correlation, 0.1, None, 0)
    box = np.full(4, critical)
    normal = stats.multivariate_normal(np.zeros(4), correlation, seed=1)
    inside = normal.cdf(box, lower_limit=-box)
    assert abs(inside - 0.9) < 1e-4 + error
    student = stats.multivariate_t(np.zeros(4), correlation, df=6, seed=1)
    wide, error = sup_t(correlation, 0.1, 6.0, 0)
    # scipy integrates the t with an error near 1e-3 at its default number of points.
    assert abs(student.cdf(np.full(4, wide), lower_limit=-np.full(4, wide)) - 0.9) < 4e-3 + error
    assert wide > critical


def test_sup_t_of_dependent_functions(fit):
    """A function and its negative are one; a curve of 50 points in three parameters has rank three."""
    pair = fit.delta(lambda b: torch.stack([b[1], -b[1], 2 * b[1]])).simultaneous(0.1)
    np.testing.assert_allclose(pair.critical, stats.norm.isf(0.05), rtol=1e-12)
    assert pair.error == 0
    points = torch.linspace(-2, 2, 50, dtype=torch.float64)
    curve = fit.delta(lambda b: b[0] + b[1] * points + b[2] * points**2)
    band = curve.simultaneous(0.05)
    scheffe = np.sqrt(stats.chi2.isf(0.05, 3))  # covers every combination of three parameters
    assert band.pointwise < band.critical < scheffe < band.bonferroni
    half = (band.interval[1] - band.interval[0]) / 2
    np.testing.assert_allclose(half, band.critical * curve.bse, rtol=1e-12)


@settings(max_examples=15)
@given(
    m=st.integers(2, 6),
    rank=st.integers(1, 6),
    alpha=st.floats(0.01, 0.4),
    df=st.one_of(st.none(), st.floats(2, 100)),
    seed=st.integers(0, 2**31),
)
def test_sup_t_lies_between_pointwise_and_bonferroni(m, rank, alpha, df, seed):
    factor = np.random.default_rng(seed).normal(size=(m, min(rank, m)))
    size = np.sqrt(np.square(factor).sum(axis=1))
    critical, error = sup_t(factor @ factor.T / np.outer(size, size), alpha, df, seed)
    tail = (lambda a: stats.norm.isf(a / 2)) if df is None else (lambda a: stats.t.isf(a / 2, df))
    assert tail(alpha) - 1e-9 <= critical <= tail(alpha / m) + 1e-9
    assert 0 <= error < 0.05 * critical


def test_band_is_reproducible_and_covers_together(frame):
    fit = eeqs.estimate(eeqs.moments.least_squares("y", ["x", "z"]), frame)
    sequence = np.random.SeedSequence(4)
    assert fit.simultaneous(seed=sequence).critical == fit.simultaneous(seed=sequence).critical
    assert fit.simultaneous(seed=1).critical != fit.simultaneous(seed=2).critical
    correlation = fit.cov_params().to_numpy() / np.outer(fit.bse, fit.bse)
    draws = np.random.default_rng(6).multivariate_normal(np.zeros(3), correlation, size=20_000)
    covered = (np.abs(draws) <= fit.simultaneous().critical).all(axis=1).mean()
    pointwise = (np.abs(draws) <= fit.simultaneous().pointwise).all(axis=1).mean()
    error = np.sqrt(0.05 * 0.95 / 20_000)
    assert abs(covered - 0.95) < 4 * error
    assert pointwise < 0.95 - 10 * error
