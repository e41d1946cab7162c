"""Published results of gamma, multinomial and beta regression (cases 23, 24 and 25 of the reference collection)."""

import numpy as np
import pandas as pd
import pytest
import torch

import eeqs

M = eeqs.moments


@pytest.fixture(scope="module")
def clotting():
    """Blood clotting times of McCullagh & Nelder (1989) section 8.4.2."""
    dilution = np.array([5, 10, 15, 20, 30, 40, 60, 80, 100])
    return {"y": [118, 58, 42, 35, 27, 25, 21, 19, 18], "x": np.log(dilution)}


@pytest.mark.parametrize(
    ("link", "shape", "half_digit"),
    [(M.links.log, 55.51389, 5e-6), (M.links.inverse, 538.1315, 5e-5), (M.links.identity, 14.956340, 5e-7)],
    ids=["log", "inverse", "identity"],
)
def test_gamma_shape_of_mass(clotting, link, shape, half_digit):
    """``MASS::gamma.shape``, to the digits printed."""
    fit = eeqs.estimate(M.gamma("y", ["x"], link=link), clotting)
    assert np.exp(fit.params["log(shape)"]) == pytest.approx(shape, abs=half_digit)


def test_multinomial_logit_of_sas():
    """``proc logistic`` with glogit and an offset.

    It stops where :math:`g^T H^{-1} g` is below 1e-8 of the log-likelihood (its GCONV), g the score and H the
    information. That allows the printed values to be off by 4e-4 of a standard error; they are not the root to all
    their digits, and lie 3e-6 of one from it.
    """
    data = {
        "y": [1, 1, 1, 1, 2, 2, 3, 3, 3, 1, 2, 2, 3, 3],
        "w": [0] * 9 + [1] * 5,
        "o": [0.1, -0.1, 0.2, -0.2, -0.2, 0.1, 0.1, 0.1, -0.1, 0.1, 0.1, 0.1, 0.1, -0.1],
    }
    printed = np.array([-0.6920875177, 1.3271570373, -0.2866227784, 0.9216939568])
    psi = M.multinomial_logit("y", ["w"], [1, 2, 3], offset="o")
    fit = eeqs.estimate(psi, data)
    leaves = psi.prepare({name: torch.tensor(column, dtype=torch.float64) for name, column in data.items()})
    score = psi.psi(torch.from_numpy(printed), leaves).sum(dim=0).numpy()
    information = -14 * psi.linear.mean_jacobian(torch.from_numpy(printed), leaves).numpy()
    likelihood = 14.887  # minus the log-likelihood there
    assert score @ np.linalg.solve(information, score) < 1e-8 * likelihood
    distance = (fit.params.to_numpy() - printed) / np.sqrt(np.diag(np.linalg.inv(information)))
    assert np.abs(distance).max() < 3e-6
    assert fit.solution.residual_norm < 1e-9


@pytest.fixture(scope="module")
def shares():
    def row(text):
        return [float(value) for value in text.split()]

    return pd.DataFrame(
        {
            "Y": row(".9 .99 .87 .75 .64 .2 .1 .14 .25 .33 .84 .72 .53 .41 .21 .05 .03 .88 .43 .333"),
            "X": row("1 -1 0 1 2 1 -2 -1 0 3 -3 1 1 -1 -1 -2 2 0 -1 0"),
            "Z": [1.0] * 10 + [0.0] * 10,
            "F": row("1 1 1 2 2 2 3 1 1 1 1 2 1 1 1 2 1 1 3 3"),
            "w": row("2 1 5 1 2 7 3 1 2 2 3 9 1 1 1 5 1 1 6 2"),
        }
    )


@pytest.mark.parametrize(
    ("options", "coefficients", "precision", "half_digit"),
    [
        ({"weights": "w"}, [-0.09136912, 0.12214362, 0.01469653], 2.12562, 5e-6),
        ({"offset": "F"}, [-1.79966257, -0.03431921, 0.61100350], 1.421446, 5e-7),
    ],
    ids=["weights", "offset"],
)
def test_beta_regression_of_betareg(shares, options, coefficients, precision, half_digit):
    """``betareg``, to the digits printed."""
    fit = eeqs.estimate(M.beta("Y", ["X", "Z"], **options), shares)
    np.testing.assert_allclose(fit.params.iloc[:3], coefficients, rtol=0, atol=5e-9)
    assert np.exp(fit.params["log(precision)"]) == pytest.approx(precision, abs=half_digit)
