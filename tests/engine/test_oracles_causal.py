"""Published causal estimates: Stata on the birth weights of Cattaneo (2010), and the tutorial of Ross et al. (2024)."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.treatment
import torch

import eeqs
from eeqs import moments

RESULTS = Path(statsmodels.treatment.__file__).parent / "tests" / "results"
PROPENSITY = ["mmarried_", "mage", "mage2", "fbaby_", "medu"]
OUTCOME = ["prenatal1_", "mmarried_", "mage", "fbaby_"]


@pytest.fixture(scope="module")
def births():
    return pd.read_csv(RESULTS / "cataneo2.csv", usecols=["bweight", "mbsmoke_", *PROPENSITY, "prenatal1_"])


def stata(method, *sizes):
    """Estimates and standard errors, with the constant of each nuisance model first and not last."""
    table = getattr(import_module("statsmodels.treatment.tests.results.results_teffects"), f"results_{method}").table
    order, start = [0, 1], 2
    for size in sizes:
        order += [start + size - 1, *range(start, start + size - 1)]
        start += size
    assert start == len(table)
    return table[order, 0], table[order, 1]


def assert_matches(fit, method, *sizes):
    """Stata prints 14 digits; its numerical derivatives leave 10 in the standard errors."""
    params, errors = stata(method, *sizes)
    np.testing.assert_allclose(fit.params, params, rtol=1e-11)
    np.testing.assert_allclose(fit.bse, errors, rtol=5e-10)


def test_birth_weight_by_inverse_probability_weighting(births):
    fit = eeqs.estimate(moments.ipw("bweight", "mbsmoke_", PROPENSITY, propensity=moments.probit), births)
    assert fit.nobs == 4642
    np.testing.assert_allclose(fit.params[["ATE", "POmean0"]], [-230.688637795, 3403.46270868], rtol=3e-12)
    np.testing.assert_allclose(fit.bse[["ATE", "POmean0"]], [25.8152438016, 9.57136889795], rtol=1e-10)
    assert_matches(fit, "ipw", 6)


def test_birth_weight_by_regression_adjustment(births):
    fit = eeqs.estimate(moments.regression_adjustment("bweight", "mbsmoke_", OUTCOME), births)
    np.testing.assert_allclose(fit.params[["ATE", "POmean0"]], [-239.639211464, 3403.24227194], rtol=3e-12)
    np.testing.assert_allclose(fit.bse[["ATE", "POmean0"]], [23.8240210018, 9.52520717962], rtol=3e-12)
    assert_matches(fit, "ra", 5, 5)


def test_birth_weight_by_augmented_weighting(births):
    psi = moments.aipw("bweight", "mbsmoke_", OUTCOME, propensity_x=PROPENSITY, propensity=moments.probit)
    assert_matches(eeqs.estimate(psi, births), "aipw", 5, 5, 6)


def test_a_logistic_propensity_is_not_statas_probit(births):
    """Planted: the other link is 0.3 % away, six orders of magnitude more than the tolerance above."""
    fit = eeqs.estimate(moments.ipw("bweight", "mbsmoke_", PROPENSITY), births)
    assert abs(fit.params["ATE"] / -230.688637795 - 1) > 1e-4


COUNTS = pd.DataFrame(
    {
        "x": [0.0, 0, 0, 0, 1, 1, 1, 1],
        "w": [0.0, 0, 1, 1, 0, 0, 1, 1],
        "y": [0.0, 1, 0, 1, 0, 1, 0, 1],
        "n": [496, 74, 113, 25, 85, 15, 15, 3],
    }
)


def standardised(theta, data, outcome):
    """Risks with x set to 0 and to 1 for everyone."""
    base = outcome[0] + outcome[2] * data["w"]
    return torch.stack([torch.sigmoid(base), torch.sigmoid(base + outcome[1])], dim=1) - theta


def g_formula():
    risks = eeqs.EstimatingFunction(standardised, names=("mu0", "mu1"), columns=("w",))
    stacked = eeqs.stack(outcome=moments.logit("y", ["x", "w"]), risk=risks)
    return eeqs.derive(stacked, difference=lambda b: b["risk.mu1"] - b["risk.mu0"])


@pytest.mark.parametrize("form", ["frequency weights", "repeated rows"])
def test_ross_risk_difference_by_the_g_formula(form):
    """Published to two decimals (Ross et al. 2024, IJE 53); recomputed by the authors' code to 16 digits."""
    if form == "frequency weights":
        fit = eeqs.estimate(eeqs.weight(g_formula(), "n", kind="frequency"), COUNTS)
    else:
        fit = eeqs.estimate(g_formula(), COUNTS.loc[COUNTS.index.repeat(COUNTS["n"])])
    assert fit.nobs == 826
    theta = [
        -1.894500818148234,
        0.11873534843159425,
        0.3605113262808145,
        0.13954795045419238,
        0.15437941386353957,
        0.014831463409347188,
    ]
    errors = [
        0.12182131321054836,
        0.2787837024014004,
        0.23775972322445918,
        0.013008978225301676,
        0.03342316475889572,
        0.035858481958082784,
    ]
    # The published root-finder stopped at 1e-9 or so; the bread was differentiated exactly.
    np.testing.assert_allclose(fit.params, theta, rtol=1e-8)
    np.testing.assert_allclose(fit.bse, errors, rtol=1e-8)
    rows = ["outcome.Intercept", "outcome.x", "outcome.w", "difference"]
    published = [[-1.89, -2.13, -1.66], [0.12, -0.43, 0.67], [0.36, -0.11, 0.83], [0.01, -0.06, 0.09]]
    table = np.column_stack([fit.params[rows], fit.conf_int().loc[rows]])
    np.testing.assert_allclose(table, published, rtol=0, atol=0.0051)
