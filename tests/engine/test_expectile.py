"""Expectiles, and quantiles with weights, against direct minimisation and repeated rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

import eeqs


@pytest.mark.parametrize("tau", [0.02, 0.3, 0.5, 0.9])
def test_normal_expectile_closed_form(tau):
    """The tau-expectile e of a law solves tau E(Y - e)+ = (1 - tau) E(e - Y)+; on a grid of normal scores to 1e-3."""
    y = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    fit = eeqs.estimate(eeqs.moments.expectile("y", tau), {"y": y})

    def balance(e):
        upper = stats.norm.pdf(e) - e * stats.norm.sf(e)
        return tau * upper - (1 - tau) * (upper + e)

    assert fit.params["Intercept"] == pytest.approx(optimize.brentq(balance, -6, 6, xtol=1e-14), abs=1e-3)


def test_half_is_least_squares(frame):
    ours = eeqs.estimate(eeqs.moments.expectile("y", 0.5, ["x", "z"]), frame)
    mean = eeqs.estimate(eeqs.moments.least_squares("y", ["x", "z"]), frame)
    np.testing.assert_allclose(ours.params, mean.params, rtol=1e-12)
    np.testing.assert_allclose(ours.cov_params(), mean.cov_params(), rtol=1e-10)


def test_regression_minimises_the_asymmetric_square(frame):
    fit = eeqs.estimate(eeqs.moments.expectile("y", 0.8, ["x"]), frame)

    def loss(b):
        residual = frame["y"] - b[0] - b[1] * frame["x"]
        return (np.where(residual < 0, 0.2, 0.8) * residual**2).sum()

    found = optimize.minimize(loss, [0.0, 0.0], tol=1e-12).x
    np.testing.assert_allclose(fit.params, found, rtol=1e-5)


def test_standard_errors_are_those_of_repeated_samples():
    """Newey & Powell (1987): V = E[w^2 r^2] / (E w)^2 / n; 800 samples give a variance to 5 %."""
    rng = np.random.default_rng(8)
    psi = eeqs.moments.expectile("y", 0.9)
    fits = [eeqs.estimate(psi, {"y": rng.gumbel(size=250)}) for _ in range(800)]
    ratio = np.mean([fit.bse.iloc[0] ** 2 for fit in fits]) / np.var([fit.params.iloc[0] for fit in fits], ddof=1)
    assert abs(ratio - 1) < 4 * np.sqrt(2 / 800) + 0.02


@given(shift=st.floats(-100, 100), factor=st.floats(1e-6, 1e6), tau=st.floats(0.05, 0.95))
def test_equivariance(shift, factor, tau):
    y = np.random.default_rng(1).normal(size=50)
    base = eeqs.estimate(eeqs.moments.expectile("y", tau), {"y": y})
    moved = eeqs.estimate(eeqs.moments.expectile("y", tau), {"y": factor * y + shift})
    mirrored = eeqs.estimate(eeqs.moments.expectile("y", 1 - tau), {"y": -y})
    expected = factor * base.params.iloc[0] + shift
    assert moved.params.iloc[0] == pytest.approx(expected, rel=1e-9, abs=1e-9 * factor)
    assert moved.bse.iloc[0] == pytest.approx(factor * base.bse.iloc[0], rel=1e-7)
    assert mirrored.params.iloc[0] == pytest.approx(-base.params.iloc[0], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("tau", [0.0, 1.0, -0.1])
def test_levels_outside_are_refused(tau):
    with pytest.raises(ValueError, match="expectile level"):
        eeqs.moments.expectile("y", tau)


@pytest.mark.parametrize("make", [eeqs.moments.quantile, eeqs.moments.expectile])
def test_integer_weights_repeat_rows(frame, make):
    repeated = frame.loc[frame.index.repeat(frame["w"])]
    weighted = eeqs.estimate(make("y", 0.3, ["x"], weights="w"), frame)
    expected = eeqs.estimate(make("y", 0.3, ["x"]), repeated)
    np.testing.assert_allclose(weighted.params, expected.params, rtol=1e-9)


def test_quantile_weights_scale_out(frame):
    psi = eeqs.moments.quantile("y", 0.6, ["x"], weights="w")
    one = eeqs.estimate(psi, frame)
    other = eeqs.estimate(psi, frame.assign(w=7.5 * frame["w"]))
    np.testing.assert_allclose(other.params, one.params, rtol=1e-9)
    np.testing.assert_allclose(other.bse, one.bse, rtol=2 / 150)


def test_equal_quantile_weights_change_nothing(frame):
    """Rounding decides on which side of the step the two interpolated rows of 150 count in the meat."""
    plain = eeqs.estimate(eeqs.moments.quantile("y", 0.6, ["x"]), frame)
    equal = eeqs.estimate(eeqs.moments.quantile("y", 0.6, ["x"], weights="one"), frame.assign(one=3.0))
    np.testing.assert_allclose(equal.params, plain.params, rtol=1e-9)
    np.testing.assert_allclose(equal.bse, plain.bse, rtol=2 / 150)


@pytest.mark.parametrize("bad", [-1.0, 0.0])
def test_quantile_weights_are_checked(frame, bad):
    with pytest.raises(eeqs.DataError, match='weights "v" must be non-negative'):
        eeqs.estimate(eeqs.moments.quantile("y", 0.5, weights="v"), frame.assign(v=bad))
