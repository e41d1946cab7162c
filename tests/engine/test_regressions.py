"""Regressions one by one: scores of their densities, statsmodels, and what is refused."""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy import special, stats
from statsmodels.othermod.betareg import BetaModel
from statsmodels.tools.sm_exceptions import DomainWarning

import eeqs

M = eeqs.moments

LINKS = {"log": M.links.log, "inverse": M.links.inverse, "identity": M.links.identity}
MODELS = {
    "probit": functools.partial(M.probit, "binary"),
    "multinomial_logit": functools.partial(M.multinomial_logit, "code", categories=(2, 0, 1)),
    "gamma_inverse": functools.partial(M.gamma, "positive", link=M.links.inverse),
    "beta": functools.partial(M.beta, "share"),
    "negative_binomial": functools.partial(M.negative_binomial, "overdispersed"),
}


@pytest.fixture
def data():
    rng, n = np.random.default_rng(11), 200
    x = rng.normal(size=n)
    index = 0.4 + 0.5 * x
    mean, count_mean = special.expit(index), np.exp(1 + index)
    utilities = np.column_stack([np.zeros(n), index, -index]) + rng.gumbel(size=(n, 3))
    return pd.DataFrame(
        {
            "x": x,
            "o": rng.uniform(-0.3, 0.3, size=n),
            "w": rng.integers(0, 4, size=n),
            "y": index + rng.normal(size=n),
            "binary": (rng.uniform(size=n) < mean).astype(float),
            "count": rng.poisson(count_mean),
            "code": utilities.argmax(axis=1),
            "positive": (2 + np.tanh(index)) * rng.gamma(3, 1 / 3, size=n),
            "share": rng.beta(4 * mean, 4 * (1 - mean)).clip(1e-9, 1 - 1e-9),
            "overdispersed": rng.poisson(count_mean * rng.gamma(1.5, 1 / 1.5, size=n)),
        }
    )


def _leaves(data):
    return {name: torch.tensor(data[name].to_numpy(), dtype=torch.float64) for name in data}


def _slope(function, point, step):
    """Central difference of fourth order."""
    f = [function(point + k * step) for k in (-2, -1, 1, 2)]
    return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step)


def _gamma_density(link):
    def density(y, index, log_shape):
        mean = {"log": np.exp, "inverse": np.reciprocal, "identity": lambda eta: eta}[link](index)
        shape = np.exp(log_shape)
        return stats.gamma.logpdf(y, shape, scale=mean / shape)

    return density


def _beta_density(y, index, log_precision):
    mean, precision = special.expit(index), np.exp(log_precision)
    return stats.beta.logpdf(y, mean * precision, (1 - mean) * precision)


def _negative_binomial_density(y, index, log_alpha):
    alpha = np.exp(log_alpha)
    return stats.nbinom.logpmf(y, 1 / alpha, 1 / (1 + alpha * np.exp(index)))


def _probit_density(y, index, _):
    return y * stats.norm.logcdf(index) + (1 - y) * stats.norm.logsf(index)


@pytest.mark.parametrize(
    ("make", "density", "response"),
    [
        (M.probit, _probit_density, "binary"),
        *[(functools.partial(M.gamma, link=LINKS[link]), _gamma_density(link), "positive") for link in LINKS],
        (M.beta, _beta_density, "share"),
        (M.negative_binomial, _negative_binomial_density, "overdispersed"),
    ],
    ids=["probit", *(f"gamma_{link}" for link in LINKS), "beta", "negative_binomial"],
)
@pytest.mark.parametrize("dispersion", [-0.7, 0.4, 2.0])
def test_psi_is_the_score_of_the_density(data, make, density, response, dispersion):
    """Differences of step 1e-3 are right to 1e-9: the fifth derivative times 1e-12, and rounding over the step."""
    psi = make(response, ["x"], offset="o")
    theta = torch.tensor([1.2, 0.1, dispersion] if len(psi.names) == 3 else [1.2, 0.1], dtype=torch.float64)
    y, x = data[response].to_numpy(), data["x"].to_numpy()
    index = 1.2 + 0.1 * x + data["o"].to_numpy()
    along = _slope(lambda eta: density(y, eta, dispersion), index, 1e-3)
    # The score of the gamma coefficients is alpha times psi, which leaves alpha out: it does not move the root.
    along = along / np.exp(dispersion) if "positive" in response else along
    expected = [along, along * x]
    if len(theta) == 3:
        shape = _slope(lambda log: density(y, index, log), dispersion, 1e-3)
        expected.append(shape / np.exp(dispersion) if "positive" in response else shape)
    leaves = {name: leaf for name, leaf in _leaves(data).items() if name in psi.columns}
    values = psi(theta, leaves)
    # Far-out rows have larger fifth derivatives; the scale of each equation sets what counts as equal.
    for j, column in enumerate(expected):
        np.testing.assert_allclose(values[:, j], column, rtol=1e-7, atol=1e-8 * np.abs(column).max())


def test_psi_of_the_multinomial_logit(data):
    psi = MODELS["multinomial_logit"](["x"], offset="o")
    theta = np.array([0.3, -0.5, 0.2, 0.7])
    x = np.column_stack([np.ones(len(data)), data["x"]])
    shift = data["o"].to_numpy()
    odds = np.exp(np.column_stack([np.zeros(len(data)), x @ theta[:2] + shift, x @ theta[2:] + shift]))
    mean = odds / odds.sum(axis=1, keepdims=True)
    parts = [((data["code"] == code).to_numpy() - mean[:, c])[:, None] * x for c, code in ((1, 0), (2, 1))]
    assert psi.names == ("0:Intercept", "0:x", "1:Intercept", "1:x")
    np.testing.assert_allclose(psi(torch.from_numpy(theta), _leaves(data)), np.hstack(parts), rtol=1e-12, atol=1e-14)


def test_probit_at_any_index():
    index = torch.tensor([-1e4, -500.0, -40.0, -30.0, -8.0, -1.0, 0.0, 2.0, 8.0, 25.0, 40.0, 1e4], dtype=torch.float64)
    linear = M.probit("y", ["x"], intercept=False).linear
    for response in (0.0, 1.0, 0.3):
        data = (torch.full_like(index, response), index)
        (residual,), ((slope,),) = linear.evaluate(torch.ones(1, dtype=torch.float64), (data[0], index[:, None]))
        automatic = torch.func.jvp(lambda eta, data=data: linear.residuals((eta,), data)[0], (index,), (index * 0 + 1,))
        assert torch.isfinite(residual).all()
        assert torch.isfinite(automatic[1]).all()
        # Values below 1e-147 are held constant.
        torch.testing.assert_close(automatic[1], slope, rtol=1e-11, atol=1e-140)
        expected = response * np.exp(stats.norm.logpdf(index) - stats.norm.logcdf(index))
        expected -= (1 - response) * np.exp(stats.norm.logpdf(index) - stats.norm.logsf(index))
        near = (index.abs() < 100).numpy()  # further out the logarithms of the reference lose their digits
        np.testing.assert_allclose(residual[near], expected[near], rtol=1e-11, atol=1e-130)


@pytest.mark.parametrize("level", [1e2, 1e6, 1e10, 1e14])
def test_dispersion_equations_keep_their_digits(level):
    """Precision, shape and 1 / alpha of ``level``: psi is small beside the terms that it is the difference of.

    Data lie at one standard deviation on either side of the mean, where the equation of the dispersion is the first
    omitted term; the expansions below are the exact scores to relative order ``1 / sqrt(level)``.
    """
    scale = level**-0.5
    cases = [
        (M.gamma, np.exp(0.3) * (1 + scale * np.array([1.5, -0.5])), np.log(level), lambda u: (1 - u**2) / (2 * level)),
        (M.beta, 0.5 + 0.5 * scale * np.array([1.5, -0.5]), np.log(level), lambda u: (1 - u**2) / 2),
    ]
    standard = np.array([1.5, -0.5])
    for make, y, dispersion, expansion in cases:
        index = 0.3 if make is M.gamma else 0.0
        theta = torch.tensor([index, dispersion], dtype=torch.float64)
        values = make("y", [])(theta, {"y": torch.from_numpy(y)})
        np.testing.assert_allclose(values[:, 1], expansion(standard), rtol=5 * scale, atol=0)
    y, mean = np.array([7.0, 1.0]), 4.0
    theta = torch.tensor([np.log(mean), -np.log(level)], dtype=torch.float64)
    values = M.negative_binomial("y", [])(theta, {"y": torch.from_numpy(y)})
    # The score test of Poisson against NB2 (Cameron & Trivedi 2013, eq. 3.39).
    np.testing.assert_allclose(values[:, 1], ((y - mean) ** 2 - y) / (2 * level), rtol=50 / level + 1e-13)


@pytest.mark.parametrize("cov", ["HC0", "HC1"])
def test_weighted_least_squares_agrees_with_statsmodels(data, cov):
    used = data[data["w"] > 0]
    fit = eeqs.estimate(M.least_squares("y", ["x"], weights="w"), used, cov=cov)
    reference = sm.WLS(used["y"], sm.add_constant(used[["x"]]), weights=used["w"]).fit(cov_type=cov)
    np.testing.assert_allclose(fit.params, reference.params, rtol=1e-10)
    np.testing.assert_allclose(fit.cov_params(), reference.cov_params(), rtol=1e-9)


def _gamma_reference(data, x):
    """The canonical link, where the expected bread of GLM is the observed one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainWarning)
        family = sm.families.Gamma(sm.families.links.InversePower())
        return sm.GLM(data["positive"], x, family=family).fit(tol=1e-13, cov_type="HC0")


@pytest.mark.parametrize(
    ("model", "reference", "rtol"),
    [
        ("probit", lambda data, x: sm.Probit(data["binary"], x).fit(disp=0, tol=1e-12, cov_type="HC0"), 1e-7),
        (
            "multinomial_logit",
            lambda data, x: sm.MNLogit((data["code"] + 1) % 3, x).fit(disp=0, tol=1e-12, cov_type="HC0"),
            1e-7,
        ),
        ("gamma_inverse", _gamma_reference, 1e-7),
        # These two stop at a gradient of 1e-5 of its size, and BetaModel differentiates its Hessian numerically.
        ("beta", lambda data, x: BetaModel(data["share"], x).fit(disp=0, maxiter=500, cov_type="HC0"), 2e-4),
        (
            "negative_binomial",
            lambda data, x: sm.NegativeBinomial(data["overdispersed"], x).fit(disp=0, maxiter=500, cov_type="HC0"),
            2e-4,
        ),
    ],
)
def test_agrees_with_statsmodels(data, model, reference, rtol):
    """Estimates and HC0 errors; HC1 of its likelihood models is HC0, where ours is n / (n - p) times it."""
    psi = MODELS[model](["x"])
    fit, other = eeqs.estimate(psi, data), reference(data, sm.add_constant(data[["x"]]))
    expected, errors = (np.asarray(part).T.ravel() for part in (other.params, other.bse))
    ours, own_errors = fit.params.to_numpy().copy(), fit.bse.to_numpy().copy()
    if model == "negative_binomial":  # alpha there, with its error by the delta method
        ours[-1] = np.exp(ours[-1])
        own_errors[-1] *= ours[-1]
    # GLM does not report the shape of the gamma distribution.
    np.testing.assert_allclose(ours[: len(expected)], expected, rtol=rtol)
    np.testing.assert_allclose(own_errors[: len(expected)], errors, rtol=rtol)
    corrected = eeqs.estimate(psi, data, cov="HC1").bse
    np.testing.assert_allclose(corrected, fit.bse * np.sqrt(len(data) / (len(data) - len(psi.names))), rtol=1e-12)


def test_offset_of_least_squares_is_subtracted(data):
    fit = eeqs.estimate(M.least_squares("y", ["x"], offset="o"), data)
    subtracted = eeqs.estimate(M.least_squares("y", ["x"]), data.assign(y=data["y"] - data["o"]))
    np.testing.assert_allclose(fit.params, subtracted.params, rtol=1e-12)
    np.testing.assert_allclose(fit.cov_params(), subtracted.cov_params(), rtol=1e-11)


def test_poisson_offset_is_an_exposure(data):
    """An offset of 1000 would overflow its exponential."""
    fit = eeqs.estimate(M.poisson("count", ["x"], offset="far"), data.assign(far=1000 + data["o"]))
    reference = sm.GLM(data["count"], sm.add_constant(data[["x"]]), family=sm.families.Poisson(), offset=data["o"]).fit(
        tol=1e-13, cov_type="HC0"
    )
    np.testing.assert_allclose(fit.params + np.array([1000, 0]), reference.params, rtol=1e-7)
    np.testing.assert_allclose(fit.bse, reference.bse, rtol=1e-7)


def test_negative_binomial_without_overdispersion_has_no_root():
    """Counts that vary less than Poisson: log(alpha) runs off, and no standard error is reported."""
    data = {"y": np.tile([3.0, 4.0, 5.0], 20)}
    solution = eeqs.solve(M.negative_binomial("y", []), data)
    assert solution.status is eeqs.Status.DEGENERATE
    assert solution.theta[-1] < -20
    with pytest.raises(eeqs.SolverError, match="degenerate: an equation vanishes for every observation"):
        eeqs.estimate(M.negative_binomial("y", []), data)
    assert eeqs.estimate(M.poisson("y", []), data).params["Intercept"] == pytest.approx(np.log(4), rel=1e-9)


def test_batches_may_lack_what_the_whole_has(data):
    """A batch without a category, or of zeros alone, is no reason to refuse the data."""
    by_code = data.sort_values("code")[::-1]
    categories = eeqs.estimate(MODELS["multinomial_logit"](["x"]), data)
    streamed = eeqs.estimate(
        MODELS["multinomial_logit"](["x"]), lambda: (by_code.iloc[i : i + 50] for i in range(0, 200, 50)), np.zeros(4)
    )
    np.testing.assert_allclose(streamed.params, categories.params, rtol=1e-7)
    by_count = data.assign(count=np.where(data["x"] < -0.3, 0, data["count"])).sort_values("count")[::-1]
    whole = eeqs.estimate(M.poisson("count", ["x"]), by_count)
    streamed = eeqs.estimate(M.poisson("count", ["x"]), lambda: (by_count.iloc[i : i + 25] for i in range(0, 200, 25)))
    assert (by_count["count"].iloc[-25:] == 0).all()
    np.testing.assert_allclose(streamed.params, whole.params, rtol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: M.multinomial_logit("y", [], [1]), r"categories are \[1\]; pass at least two different numbers"),
        (lambda: M.multinomial_logit("y", [], [1, 2, 1]), "at least two different numbers"),
        (lambda: M.multinomial_logit("y", [], ["a", "b"]), "at least two different numbers"),
        (lambda: eeqs.solve(M.multinomial_logit("y", [], [1, 2]), {"y": [1, 2, 3]}), r'"y" has the value 3.0, not in'),
        (lambda: eeqs.solve(M.multinomial_logit("y", [], [1, 2, 3]), {"y": [1, 2, 2]}), "never has the value 3"),
        (lambda: eeqs.solve(M.probit("y", []), {"y": [0.0, 1.5]}), r'"y" has values outside \[0, 1\]'),
        (lambda: eeqs.solve(M.gamma("y", []), {"y": [1.0, 0.0]}), '"y" has values of zero or less'),
        (lambda: eeqs.solve(M.beta("y", []), {"y": [0.5, 1.0]}), r'"y" has values outside \(0, 1\)'),
        (lambda: eeqs.solve(M.negative_binomial("y", []), {"y": [1.0, 0.5]}), '"y" has values that are not counts'),
        (lambda: eeqs.solve(M.negative_binomial("y", []), {"y": [1.0, -1.0]}), '"y" has values that are not counts'),
        (lambda: eeqs.solve(M.negative_binomial("y", []), {"y": [0.0, 0.0]}), '"y" is zero throughout'),
        (lambda: eeqs.solve(M.poisson("y", [], offset="q"), {"y": [0.0, 1.0]}), 'unknown column "q"'),
        (lambda: eeqs.solve(M.ratio("y", "x"), {"y": [1.0, 2.0], "x": [1.0, -1.0]}), 'denominator "x" has mean zero'),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_link_is_not_a_string():
    with pytest.raises(TypeError, match="link is 'log'; pass moments"):
        M.gamma("y", [], link="log")


def test_a_category_that_never_occurs_has_no_coefficient():
    solution = eeqs.solve(M.multinomial_logit("y", [], [1, 2, 3]), {"y": [1, 2, 2, 1, 2]}, np.zeros(2))
    assert solution.status is eeqs.Status.DEGENERATE
