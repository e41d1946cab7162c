"""Treatment effects against statsmodels, stratified closed forms and simulations of double robustness."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from statsmodels.tools.numdiff import approx_fprime
from statsmodels.treatment.treatment_effects import TreatmentEffect

import eeqs
from eeqs import moments

N = 600


def observational(seed, shape=(N,)):
    """Outcome linear in x and its square q, treatment logistic in both; the effect is 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    q = x**2
    a = (rng.uniform(size=shape) < 1 / (1 + np.exp(0.6 - 0.5 * x - 0.5 * q))).astype(float)
    return {"x": x, "q": q, "a": a, "y": 1 + x + q + a + rng.normal(size=shape)}


@pytest.fixture(scope="module")
def data():
    frame = pd.DataFrame(observational(11))
    rng = np.random.default_rng(12)
    return frame.assign(
        death=(rng.uniform(size=N) < 1 / (1 + np.exp(1 - 0.5 * frame["x"] - 0.7 * frame["a"]))).astype(float),
        count=rng.poisson(np.exp(0.3 * frame["x"] + 0.2 * frame["a"])),
    )


ESTIMATORS = {
    "ipw": lambda **options: moments.ipw("y", "a", ["x", "q"], **options),
    "ra": lambda: moments.regression_adjustment("y", "a", ["x"]),
    "aipw": lambda **options: moments.aipw("y", "a", ["x"], propensity_x=["x", "q"], **options),
}


@pytest.mark.parametrize("link", ["logit", "probit"])
@pytest.mark.parametrize("method", ["ipw", "ra", "aipw"])
def test_statsmodels(data, method, link):
    """Effects by its formulas; covariance from its moment conditions at the same root, since its GMM stops early.

    Its probit stops at 1e-9, and its derivatives are numerical.
    """
    model = sm.Logit if link == "logit" else sm.Probit
    score = model(data["a"], sm.add_constant(data[["x"]])).fit(disp=0, method="newton", tol=1e-10)
    outcome = sm.OLS(data["y"], sm.add_constant(data[["x", "q"]]))
    effect = TreatmentEffect(outcome, data["a"].astype(int), results_select=score)
    reference = getattr(effect, method)(return_results=True, disp=False)
    psi = {
        "ipw": lambda: moments.ipw("y", "a", ["x"], propensity=getattr(moments, link)),
        "ra": lambda: moments.regression_adjustment("y", "a", ["x", "q"]),
        "aipw": lambda: moments.aipw("y", "a", ["x", "q"], propensity_x=["x"], propensity=getattr(moments, link)),
    }[method]()
    fit = eeqs.estimate(psi, data)
    assert fit.names[:2] == ("ATE", "POmean0")
    np.testing.assert_allclose(fit.params, reference.start_params, rtol=1e-8)
    gmm = reference.results_gmm.model
    values, theta = gmm.momcond(fit.params.to_numpy()), fit.params.to_numpy()
    bread = approx_fprime(theta, lambda b: gmm.momcond(b).mean(axis=0), centered=True)
    influence = np.linalg.solve(bread, values.T).T / len(values)
    np.testing.assert_allclose(fit.bse, np.sqrt((influence**2).sum(axis=0)), rtol=1e-7)
    assert eeqs.check_jacobian(psi, fit.params, data).passed


@pytest.mark.parametrize("outcome", ["least_squares", "logit", "probit", "poisson"])
def test_saturated_models_are_standardisation(data, outcome):
    """With one binary regressor every estimator is the stratified difference of means, and so is its variance.

    Var = sum of the within-stratum variances of means, weighted, plus the variance of the stratum effects.
    """
    y = {"least_squares": "y", "poisson": "count"}.get(outcome, "death")
    strata = data.assign(s=(data["x"] > 0.3).astype(float))
    cells = [[strata.loc[(strata["s"] == s) & (strata["a"] == a), y] for a in (0, 1)] for s in (0, 1)]
    share = np.array([1 - strata["s"].mean(), strata["s"].mean()])
    means = np.array([[cell.mean() for cell in row] for row in cells])
    effects = means[:, 1] - means[:, 0]
    ate = share @ effects
    variance = share**2 @ [sum(cell.var(ddof=0) / len(cell) for cell in row) for row in cells]
    variance += share @ (effects - ate) ** 2 / len(strata)
    for psi in (
        moments.ipw(y, "a", ["s"]),
        moments.ipw(y, "a", ["s"], propensity=moments.probit),
        moments.regression_adjustment(y, "a", ["s"], outcome=getattr(moments, outcome)),
        moments.aipw(y, "a", ["s"], outcome=getattr(moments, outcome)),
        moments.aipw(y, "a", ["s"], outcome=getattr(moments, outcome), propensity_x=[]),
    ):
        fit = eeqs.estimate(psi, strata)
        assert fit.params["ATE"] == pytest.approx(ate, rel=1e-8)
        assert fit.bse["ATE"] == pytest.approx(np.sqrt(variance), rel=1e-8)
        assert fit.params["POmean0"] == pytest.approx(share @ means[:, 0], rel=1e-8)


REPLICATES = 400
RIGHT, WRONG = ["x", "q"], ["x"]


def _simulate(outcome_x, propensity_x):
    """Effects (R,) and estimated variances (R,) on the same samples."""
    samples = observational(13, (REPLICATES, N))
    psi = moments.aipw("y", "a", outcome_x, propensity_x=propensity_x)
    solution = eeqs.solve(psi, samples, np.zeros((REPLICATES, len(psi.names))))
    assert bool(solution.converged.all())
    parts = eeqs.bread(psi, solution.theta, samples), eeqs.meat(psi, solution.theta, samples)
    return solution.theta[:, 0].numpy(), eeqs.sandwich(*parts, N)[:, 0, 0].numpy()


@pytest.mark.parametrize(("outcome_x", "propensity_x"), [(RIGHT, RIGHT), (RIGHT, WRONG), (WRONG, RIGHT)])
def test_aipw_is_doubly_robust(outcome_x, propensity_x):
    """Bias within 4 Monte Carlo standard errors; estimated against true variance within 25 %.

    The standard error of a variance of 400 normal values is 7 % of it; weights make the tails heavier.
    """
    effects, variances = _simulate(outcome_x, propensity_x)
    assert abs(effects.mean() - 1) < 4 * effects.std() / np.sqrt(REPLICATES)
    assert abs(variances.mean() / effects.var() - 1) < 0.25


def test_aipw_with_two_wrong_models_is_caught():
    """Planted: without q in either model the bias is far outside what the test above accepts."""
    effects, _ = _simulate(WRONG, WRONG)
    assert abs(effects.mean() - 1) > 20 * effects.std() / np.sqrt(REPLICATES)


def test_replicates_are_the_single_fits():
    samples = observational(14, (3, 200))
    for make in ESTIMATORS.values():
        together = eeqs.solve(make(), samples, np.zeros((3, len(make().names))))
        for r in range(3):
            one = eeqs.solve(make(), {name: column[r] for name, column in samples.items()})
            np.testing.assert_allclose(together.theta[r], one.theta, rtol=1e-7, atol=1e-9)


class Batches:
    def __init__(self, frame, size):
        self._frame, self._size = frame, size

    def __iter__(self):
        for start in range(0, len(self._frame), self._size):
            yield self._frame.iloc[start : start + self._size]


@pytest.mark.parametrize("method", ["ipw", "ra", "aipw"])
def test_batches_that_hold_one_arm_each(data, method):
    fit = eeqs.estimate(ESTIMATORS[method](), data)
    streamed = eeqs.estimate(ESTIMATORS[method](), Batches(data.sort_values("a"), 100))
    np.testing.assert_allclose(streamed.params, fit.params, rtol=1e-7)
    np.testing.assert_allclose(streamed.bse, fit.bse, rtol=1e-7)


@pytest.mark.parametrize("method", ["ipw", "ra", "aipw"])
def test_weights(data, method):
    """Frequency weights are repeated rows; probability weights of equal size change nothing."""
    counted = data.assign(w=np.random.default_rng(15).integers(0, 4, size=N), half=0.5)
    repeated = eeqs.estimate(ESTIMATORS[method](), counted.loc[counted.index.repeat(counted["w"])])
    fit = eeqs.estimate(eeqs.weight(ESTIMATORS[method](), "w", kind="frequency"), counted)
    np.testing.assert_allclose(fit.params, repeated.params, rtol=1e-8)
    np.testing.assert_allclose(fit.bse, repeated.bse, rtol=1e-8)
    plain = eeqs.estimate(ESTIMATORS[method](), counted)
    halved = eeqs.estimate(eeqs.weight(ESTIMATORS[method](), "half"), counted)
    np.testing.assert_allclose(halved.bse, plain.bse, rtol=1e-8)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_of_outcome_and_regressors(data, unit):
    psi = moments.aipw("y", "a", ["x"], propensity_x=["x", "q"])
    scaled = data.assign(y=unit * data["y"], x=data["x"] / unit, q=data["q"] * unit)
    fit, reference = eeqs.estimate(psi, scaled), eeqs.estimate(psi, data)
    np.testing.assert_allclose(fit.bse[["ATE", "POmean0"]] / unit, reference.bse[["ATE", "POmean0"]], rtol=1e-8)


@pytest.mark.parametrize("method", ["ipw", "ra", "aipw"])
def test_a_treatment_other_than_zero_or_one_is_refused(data, method):
    with pytest.raises(eeqs.DataError, match='treatment "a" has the value 2; code it as 0'):
        eeqs.estimate(ESTIMATORS[method](), data.assign(a=1 + data["a"]))
    with pytest.raises(eeqs.DataError, match=r'treatment "a" has the value 0\.5'):
        eeqs.estimate(ESTIMATORS[method](), data.assign(a=0.5 * data["a"]))


def test_columns_of_other_shapes_are_refused(data):
    columns = {"a": data["a"].to_numpy(), "x": data["x"].to_numpy(), "y": data[["y", "q"]].to_numpy()}
    with pytest.raises(eeqs.DataError, match=r'column "y" has shape \(600, 2\)'):
        eeqs.estimate(moments.ipw("y", "a", ["x"]), columns)


@pytest.mark.parametrize("method", ["ipw", "aipw"])
def test_no_overlap_is_refused(data, method):
    """One patient so far out that the fitted propensity is 1, without separation of the others."""
    far = data.copy()
    far.loc[17, ["x", "q", "a"]] = [80.0, 0.0, 1.0]
    with pytest.raises(eeqs.DataError, match=r'no overlap.*treatment "a".* 1 row\(s\), first at row 17'):
        eeqs.estimate(ESTIMATORS[method](), far)


@pytest.mark.parametrize("method", ["ipw", "aipw"])
def test_a_separated_treatment_is_a_status(data, method):
    solution = eeqs.solve(ESTIMATORS[method](), data.assign(a=(data["x"] > 0).astype(float)))
    assert solution.status is not eeqs.Status.CONVERGED


@pytest.mark.parametrize("arm", [0.0, 1.0])
@pytest.mark.parametrize("method", ["ipw", "ra", "aipw"])
def test_one_arm_only_is_an_error(data, method, arm):
    with pytest.raises((eeqs.SolverError, eeqs.SingularBreadError)):
        eeqs.estimate(ESTIMATORS[method](), data.assign(a=arm))


def test_other_models_are_refused_by_name():
    with pytest.raises(ValueError, match=r"propensity model must be one of.*logit.*probit"):
        moments.ipw("y", "a", ["x"], propensity=moments.least_squares)
    with pytest.raises(ValueError, match=r"outcome model must be one of.*eeqs\.stack"):
        moments.aipw("y", "a", ["x"], outcome=moments.quantile)


def test_small_probabilities_keep_their_digits():
    """The weight of a control with propensity 1 - 1e-7 comes from F(-t), not from 1 - F(t)."""
    psi = moments.ipw("y", "a", ["x"])
    data = {"x": torch.tensor([16.0, 1.0]), "a": torch.tensor([0.0, 1.0]), "y": torch.tensor([1.0, 0.0])}
    theta = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    leaves = {name: column.double() for name, column in data.items()}
    assert float(psi(theta, leaves)[0, 1]) == pytest.approx(1 + np.exp(16.0), rel=1e-15)
