"""Over-identified and instrumental-variable estimates of others: Stata gmm, R ivmodel and Python linearmodels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.sandbox.regression

import eeqs

X = """.5 -.14 .65 1.52 -.23 -.23 1.58 .77 -.47 .54 -.46 -.47 .24 -1.91 -1.72 -.56 -1.01 .31 -.91 -1.41
1.47 -.23 .07 -1.42 -.54 .11 -1.15 .38 -.6 -.29"""
Z1 = """-.6 1.85 -.01 -1.06 .82 -1.22 .21 -1.96 -1.33 .2 .74 .17 -.12 -.3 -1.48 -.72 -.46 1.06 .34 -1.76 .32
-.39 -.68 .61 1.03 .93 -.84 -.31 .33 .98"""
Z2 = """-.48 -.19 -1.11 -1.2 .81 1.36 -.07 1 .36 -.65 .36 1.54 -.04 1.56 -2.62 .82 .09 -.3 .09 -1.99 -.22
.36 1.48 -.52 -.81 -.5 .92 .33 -.53 .51"""
A = """.92 .39 1.77 -.94 .48 .47 .04 -1.36 -.91 -.03 -2.09 -.71 -1.13 -1.42 -1.8 .82 -.79 .52 .61 -2.25 .42
.88 -2.33 .92 .67 1.57 -2.52 -1.85 1 .79"""
Y = """-1.42 -.13 -5.4 5.77 -2.01 -4.06 5.19 6.35 .59 1.61 2.95 1.56 4.68 -1.18 2.75 -2.78 3.06 1.13 -3.62
3.1 -1.14 -3.95 7.11 -2.8 -3.01 -3.37 5.24 6.6 -3.33 .53"""
A_VARIANT = """-.15 1.75 -.83 -.57 .23 -1.65 1.16 .07 -.75 -.12 -1.13 .05 -.29 -1.28 -2.81 .09 1.18 .74 .01 -2.46
-1.11 -.19 .35 1.85 -.27 .62 -.66 -1 .8 1.3"""
Y_VARIANT = """1.75 -6.63 4.07 2.17 .25 8.02 -1.39 1.77 1.77 .31 1.28 .53 .27 2.06 1.44 .97 -6.27 -2.21 -.95 1.33
6.27 1.78 -1.03 -8.73 -.82 -1.36 -.63 2.77 -3.6 -3.67"""


def columns(**texts):
    return pd.DataFrame({name: np.array(text.split(), dtype=float) for name, text in texts.items()})


@pytest.fixture(scope="module")
def doctor():
    path = Path(statsmodels.sandbox.regression.__file__).with_name("tests") / "racd10data_with_transformed.csv"
    raw = pd.read_csv(path)
    raw.columns = raw.columns.str.lower()
    kept = raw[((raw["private"] != 1) | (raw["medicaid"] != 1)) & (raw["docvis"] <= 70)]
    assert len(kept) == 3629
    return kept


def test_doctor_visits(doctor):
    """Stata gmm, two-step from (Z'Z/n)^-1, with robust standard errors.

    Stata stops at a relative change of 1e-6 in the coefficients, so its 12 digits are those of an iterate: up to 3e-6
    standard errors from the minimum, which shows in the standard errors at 4e-7 and in J at 6e-8. The engine's own
    minimum has a gradient below 1e-9 standard errors.
    """
    shared = ["medicaid", "aget", "aget2", "educyr", "actlim", "totchr"]
    psi = eeqs.moments.exponential_iv("docvis", ["private"], ["income", "ssiratio"], exogenous=shared)
    fit = eeqs.gmm(psi, doctor)
    row = ["private", *shared, "Intercept"]
    b = [0.678152881589, 0.288728375897, 0.270670718185, -0.0569085652456, 0.0143811899925, 0.180382622556]
    b += [0.282510279861, 0.507713444259]
    se = [0.250539534491, 0.103273393899, 0.0519969546711, 0.0118986168625, 0.00783219080428, 0.0382665322454]
    se += [0.0137847591879, 0.102358303672]
    assert fit.solution.residual_norm < 1e-9
    np.testing.assert_array_less(np.abs(fit.params[row] - b) / se, 3e-6)
    np.testing.assert_allclose(fit.bse[row], se, rtol=4e-7)
    test = fit.j_test()
    assert test.restrictions == 1
    assert test.statistic == pytest.approx(0.9398479544653281, rel=6e-8)


def test_two_instruments():
    """R ivmodel, seven digits printed: half a unit of the last."""
    data = columns(X=X, Z1=Z1, Z2=Z2, A=A, Y=Y)
    row, expected = ["A", "Intercept", "X"], [-2.259155, 0.3856519, 1.658916]
    arguments = ("Y", ["A"], ["Z1", "Z2"])
    stages = eeqs.estimate(eeqs.moments.two_stage_least_squares(*arguments, exogenous=["X"]), data)
    one_step = eeqs.gmm(eeqs.moments.iv(*arguments, exogenous=["X"]), data, method=eeqs.OneStep())
    for fit in (stages, one_step):
        np.testing.assert_array_less(np.abs(fit.params[row] - expected), [5e-7, 5e-8, 5e-7])


@pytest.mark.parametrize(
    ("options", "row", "expected"),
    [
        ({"intercept": False}, ["A"], [-2.468675]),
        ({}, ["A", "Intercept"], [-2.542286, -0.3789797]),
        ({"exogenous": ["X"]}, ["A", "Intercept", "X"], [-2.784835, -0.07432767, 1.848357]),
    ],
    ids=["no intercept", "intercept", "exogenous"],
)
@pytest.mark.parametrize("factory", [eeqs.moments.iv, eeqs.moments.two_stage_least_squares])
def test_one_instrument(factory, options, row, expected):
    """The same source; seven significant digits printed, half a unit of the last (in the seventh decimal of some)."""
    data = columns(X=X, Z=Z1, A=A_VARIANT, Y=Y_VARIANT)
    fit = eeqs.estimate(factory("Y", ["A"], ["Z"], **options), data)
    unit = [10.0 ** (np.floor(np.log10(abs(value))) - 6) for value in expected]
    np.testing.assert_array_less(np.abs(fit.params[row] - expected), 0.5 * np.array(unit) * (1 + 1e-6))


CLUSTER, KERNEL = eeqs.Cluster("block", "CR0"), eeqs.HAC(lags=2)
# (A, Intercept, X), their standard errors, and J, as printed by linearmodels 7.1 to 12 digits.
LINEARMODELS = {
    "IV2SLS, robust": (
        (eeqs.OneStep(), "HC0"),
        ([-2.25915527862, 0.385651935451, 1.65891596319], [0.410909852741, 0.312587473753, 0.378296310092]),
        None,
    ),
    "IVGMM, robust": (
        (eeqs.TwoStep(), "HC0"),
        ([-2.30659213844, 0.388644013163, 1.65023556826], [0.384551406937, 0.309641407379, 0.373559201684]),
        0.124329587407,
    ),
    "IVGMM, robust, center=True": (
        (eeqs.TwoStep(centred=True), "HC0"),
        ([-2.30678955008, 0.388656464894, 1.65019944422], [0.384537444898, 0.309629620366, 0.373541009505]),
        0.124846993246,
    ),
    "IVGMM, clustered": (
        (eeqs.TwoStep(), CLUSTER),
        ([-2.28185481152, 0.384893808551, 1.63682640591], [0.274919982907, 0.322505096599, 0.356491861034]),
        0.0730635003711,
    ),
    "IVGMM, kernel, bandwidth=2": (
        (eeqs.TwoStep(), KERNEL),
        ([-2.28638279493, 0.378694545482, 1.62893868504], [0.271407818257, 0.28841989709, 0.317554852244]),
        0.0990596352891,
    ),
    "IVGMM, robust weight, clustered errors": (
        (eeqs.TwoStep(cov="HC0"), CLUSTER),
        ([-2.30659213844, 0.388644013163, 1.65023556826], [0.286707090922, 0.321704855915, 0.357266438288]),
        0.124329587407,
    ),
}


@pytest.mark.parametrize("case", LINEARMODELS)
def test_linearmodels(case):
    """The two-instrument data, clusters of three consecutive rows; both solve in closed form, hence to 1e-10."""
    (method, cov), (b, se), j = LINEARMODELS[case]
    data = columns(X=X, Z1=Z1, Z2=Z2, A=A, Y=Y).assign(block=np.arange(30) // 3)
    psi = eeqs.moments.iv("Y", ["A"], ["Z1", "Z2"], exogenous=["X"])
    fit = eeqs.gmm(psi, data, method=method, cov=cov)
    np.testing.assert_allclose(fit.params[["A", "Intercept", "X"]], b, rtol=1e-10)
    np.testing.assert_allclose(fit.bse[["A", "Intercept", "X"]], se, rtol=1e-10)
    if j is not None:
        assert fit.j_test().statistic == pytest.approx(j, rel=1e-10)


def test_two_stages_have_the_errors_of_linearmodels():
    data = columns(X=X, Z1=Z1, Z2=Z2, A=A, Y=Y)
    fit = eeqs.estimate(eeqs.moments.two_stage_least_squares("Y", ["A"], ["Z1", "Z2"], exogenous=["X"]), data)
    expected = LINEARMODELS["IV2SLS, robust"][1][1]
    np.testing.assert_allclose(fit.bse[["A", "Intercept", "X"]], expected, rtol=1e-10)
