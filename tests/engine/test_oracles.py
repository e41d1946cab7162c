"""Published results of Stata, R and SAS on data that ship with statsmodels.

A tolerance of half a unit of the last printed digit is written as that number; others state their reason.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.stats.tests
import torch
from scipy import stats

import eeqs

ROW = ["ggdp", "lint", "Intercept"]


@pytest.fixture(scope="module")
def macro():
    raw = sm.datasets.macrodata.load_pandas().data
    growth = {name: 400 * np.diff(np.log(raw[name])) for name in ("realinv", "realgdp")}
    return pd.DataFrame({"ginv": growth["realinv"], "ggdp": growth["realgdp"], "lint": raw["realint"].to_numpy()[:-1]})


MACRO_HC0 = [
    [0.103132764888, -0.00082979262132, -0.336970186212],
    [-0.00082979262132, 0.105810769016, -0.139048062235],
    [-0.336970186212, -0.139048062235, 1.84648693684],
]
MACRO_HC1 = [
    [0.104687530188, -0.00084230205782, -0.342050138768],
    [-0.00084230205782, 0.107405906238, -0.141144264178],
    [-0.342050138768, -0.141144264178, 1.87432342333],
]


@pytest.mark.parametrize(("cov", "expected"), [("HC0", MACRO_HC0), ("HC1", MACRO_HC1)])
def test_macro_least_squares(macro, cov, expected):
    """Stata ivreg2 robust and regress, vce(robust); twelve digits printed."""
    fit = eeqs.estimate(eeqs.moments.least_squares("ginv", ["ggdp", "lint"]), macro, cov=cov)
    assert fit.nobs == 202
    np.testing.assert_allclose(fit.params[ROW], [4.3742216647, -0.613996969479, -9.48167277465], rtol=1e-10)
    np.testing.assert_allclose(fit.cov_params().loc[ROW, ROW], expected, rtol=1e-10)
    if cov == "HC1":
        np.testing.assert_allclose(fit.bse[ROW], [0.323554524289, 0.32772840316, 1.3690593206], rtol=1e-10)


GRUNFELD = {
    "CR0": [
        [0.000225081844, -0.00057950714469, 0.186761030577],
        [-0.00057950714469, 0.00643216775713, -1.08438470531],
        [0.186761030577, -1.08438470531, 371.69644245],
    ],
    "CR1S": [
        [0.00025262993207, -0.00065043385106, 0.209618979609],
        [-0.00065043385106, 0.00721940994738, -1.21710409676],
        [0.209618979609, -1.21710409676, 417.188900437],
    ],
}


@pytest.mark.parametrize("kind", GRUNFELD)
def test_grunfeld_clustered_by_firm(kind):
    """Stata ivreg2 and regress, cluster(); Stata stored the data as float32, so it agrees to 6e-8 and no better."""
    data = sm.datasets.grunfeld.load_pandas().data.iloc[:200]
    fit = eeqs.estimate(
        eeqs.moments.least_squares("invest", ["value", "capital"]), data, cov=eeqs.Cluster("firm", kind)
    )
    row = ["value", "capital", "Intercept"]
    np.testing.assert_allclose(fit.params[row], [0.115562156066, 0.23067848755, -42.7143690167], rtol=1e-7)
    np.testing.assert_allclose(fit.cov_params().loc[row, row], GRUNFELD[kind], rtol=1e-7)


@pytest.fixture(scope="module")
def petersen():
    path = Path(statsmodels.stats.tests.__file__).with_name("test_data.txt")
    return pd.DataFrame(np.loadtxt(path), columns=["firm", "year", "x", "y"])


@pytest.mark.parametrize(
    ("cov", "errors"),
    [
        ("HC0", [0.0284, 0.0284]),
        (eeqs.Cluster("firm", "CR1S"), [0.0670, 0.0506]),
        (eeqs.Cluster("year", "CR1S"), [0.0234, 0.0334]),
    ],
    ids=["HC0", "firm", "year"],
)
def test_petersen_least_squares(petersen, cov, errors):
    """Petersen's web page, Stata."""
    fit = eeqs.estimate(eeqs.moments.least_squares("y", ["x"]), petersen, cov=cov)
    np.testing.assert_allclose(fit.bse, errors, rtol=0, atol=5e-5)
    if "firm" in fit.cov_type:
        expected = np.array([[0.0044907, -0.00006474], [-0.00006474, 0.00255993]])
        # 5e-8 for the entry printed with seven decimals, 5e-9 for the others.
        np.testing.assert_array_less(np.abs(fit.cov_params() - expected), np.array([[5e-8, 5e-9], [5e-9, 5e-9]]))


def test_petersen_logit(petersen):
    """Stata brl, as printed in the tests of R's sandwich package."""
    data = petersen.assign(positive=(petersen["y"] > 0).astype(float))
    fit = eeqs.estimate(eeqs.moments.logit("positive", ["x"]), data, cov=eeqs.Cluster("firm", "CR1"))
    expected = [[0.00358954, 0.00001531], [0.00001531, 0.00275766]]
    np.testing.assert_allclose(fit.cov_params(), expected, rtol=0, atol=5e-9)


@pytest.fixture(scope="module")
def engel():
    return sm.datasets.engel.load_pandas().data


@pytest.mark.parametrize(("tau", "b"), [(0.75, [0.6440143, 62.39648]), (0.5, [0.5601805, 81.48233])])
def test_engel_quantile_regression(engel, tau, b):
    """Stata qreg iterates to about 1e-6 relative: its intercept is off the exact vertex by 1e-4 and 8e-5.

    The engine's root interpolates two households, which the statistic below checks exactly.
    """
    fit = eeqs.estimate(eeqs.moments.quantile("foodexp", tau, ["income"]), engel)
    np.testing.assert_allclose(fit.params[["income", "Intercept"]], b, rtol=2e-6)
    residual = engel["foodexp"] - fit.params["Intercept"] - fit.params["income"] * engel["income"]
    assert (residual.abs() < 1e-9 * engel["foodexp"].max()).sum() == 2
    assert fit.solution.residual_norm < 1e-9


def _iid_errors(bread, design, tau):
    """Standard errors tau (1 - tau) A^-1 (X'X / n) A^-1 / n of homoskedastic quantile regression."""
    n = len(design)
    covariance = eeqs.sandwich(bread, tau * (1 - tau) * design.mT @ design / n, n)
    return covariance.diagonal().sqrt().flip(0).numpy()


def _design(engel):
    income = torch.tensor(engel["income"].to_numpy())
    return torch.stack([torch.ones_like(income), income], dim=1)


def test_engel_iid_errors_with_the_densities_of_stata(engel):
    """Printed: Epanechnikov kernel, Hall-Sheather bandwidth at 0.75; biweight kernel, Bofinger bandwidth at 0.5.

    Stata takes the quartiles of the residuals at order statistics, which gives its kernel bandwidth 59.62067927.
    """
    design = _design(engel)
    gram = design.mT @ design / len(design)
    theta = eeqs.solve(eeqs.moments.quantile("foodexp", 0.75, ["income"]), engel).theta
    residual = (torch.tensor(engel["foodexp"].to_numpy()) - design @ theta).numpy()
    spread = -np.subtract(*np.quantile(residual, [0.25, 0.75], method="averaged_inverted_cdf")) / 1.34
    level = 0.1090401129546568
    bandwidth = spread * (stats.norm.ppf(0.75 + level) - stats.norm.ppf(0.75 - level))
    assert bandwidth == pytest.approx(59.62067927, rel=1e-6)
    density = (0.75 * np.clip(1 - (residual / bandwidth) ** 2, 0, None)).mean() / bandwidth
    for tau, f, printed in (
        (0.75, density, [0.0122001, 13.5509]),
        (0.5, 1 / 216.8218989750115, [0.0136491, 15.1604]),
    ):
        np.testing.assert_array_less(np.abs(_iid_errors(-f * gram, design, tau) - printed), [6e-8, 6e-5])


def test_engel_iid_errors_with_the_density_of_the_engine(engel):
    """Interpolated quartiles give the kernel bandwidth 59.30 for Stata's 59.62, and errors 0.03 % smaller."""
    bread = eeqs.bread(
        eeqs.moments.quantile("foodexp", 0.75, ["income"], homoskedastic=True), [62.39648, 0.6440143], engel
    )
    np.testing.assert_allclose(_iid_errors(bread, _design(engel), 0.75), [0.0122001, 13.5509], rtol=3e-4)


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.75])
def test_engel_against_statsmodels(engel, tau):
    """The same kernel, bandwidth and quartiles as statsmodels, evaluated at its own iterate."""
    design = _design(engel)
    psi = eeqs.moments.quantile("foodexp", tau, ["income"], homoskedastic=True)
    model = sm.QuantReg(engel["foodexp"].to_numpy(), design.numpy())
    iid, robust = (model.fit(q=tau, vcov=kind, kernel="epa", bandwidth="hsheather") for kind in ("iid", "robust"))
    bread = eeqs.bread(psi, iid.params, engel)
    np.testing.assert_allclose(_iid_errors(bread, design, tau)[::-1], iid.bse, rtol=1e-9)
    # Its "robust" is the sandwich of the homoskedastic bread and the meat of psi (Greene 2008, p. 407).
    covariance = eeqs.sandwich(bread, eeqs.meat(psi, iid.params, engel), len(engel))
    np.testing.assert_allclose(covariance, robust.cov_params(), rtol=1e-8)
    # Its iteratively reweighted fit stops when no coefficient moves by 1e-6.
    np.testing.assert_allclose(eeqs.solve(psi, engel).theta, iid.params, rtol=0, atol=5e-5)
