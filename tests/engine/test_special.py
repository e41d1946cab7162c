"""Special functions against arbitrary precision, with their derivatives."""

import mpmath
import numpy as np
import pytest
import torch

from eeqs.engine.moments.special import digamma_gap, digamma_remainder, inverse_mills, log_remainder

SHAPES = [1e-8, 1e-3, 0.5, 1.0, 1.46, 3.0, 9.9, 10.0, 10.1, 50.0, 1e3, 1e8, 1e15]
EXCESSES = [-0.999, -0.5, -0.11, -0.1, -0.09, -1e-3, -1e-9, 1e-9, 1e-3, 0.0999, 0.11, 1.0, 1e6]
INDICES = [-1e4, -1e3, -100.0, -30.1, -30.0, -29.9, -10.0, -1.0, 0.0, 1.0, 5.0, 25.0]


def _value_and_slope(function, points):
    points = torch.tensor(points, dtype=torch.float64)
    return torch.func.jvp(function, (points,), (torch.ones_like(points),))


def _exact(function, points):
    with mpmath.workdps(60):
        return np.array([float(function(mpmath.mpf(point))) for point in points])


@pytest.mark.parametrize(
    ("ours", "function", "derivative", "points", "rtol"),
    [
        # Where the argument is moderate the remainder is what is left of numbers 1e3 times as large.
        (
            digamma_remainder,
            lambda a: mpmath.log(a) - 1 / (2 * a) - mpmath.digamma(a),
            lambda a: 1 / a + 1 / (2 * a**2) - mpmath.polygamma(1, a),
            SHAPES,
            1e-12,
        ),
        (
            digamma_gap,
            lambda a: mpmath.log(a) - mpmath.digamma(a),
            lambda a: 1 / a - mpmath.polygamma(1, a),
            SHAPES,
            1e-14,
        ),
        (
            lambda t: log_remainder(t, t.log1p()),
            lambda t: mpmath.log1p(t) - t,
            lambda t: -t / (1 + t),
            EXCESSES,
            1e-14,
        ),
        (
            lambda index: inverse_mills(index)[0],
            lambda index: mpmath.npdf(index) / mpmath.ncdf(index),
            lambda index: -mpmath.npdf(index) / mpmath.ncdf(index) * (mpmath.npdf(index) / mpmath.ncdf(index) + index),
            INDICES,
            1e-12,
        ),
    ],
    ids=["digamma_remainder", "digamma_gap", "log_remainder", "inverse_mills"],
)
def test_values_and_derivatives(ours, function, derivative, points, rtol):
    value, slope = _value_and_slope(ours, points)
    np.testing.assert_allclose(value, _exact(function, points), rtol=rtol, atol=0)
    np.testing.assert_allclose(slope, _exact(derivative, points), rtol=rtol, atol=0)


def test_second_part_of_the_mills_ratio():
    gap = inverse_mills(torch.tensor(INDICES, dtype=torch.float64))[1]
    # Just above the continued fraction, 900 rounding errors of the index are left in the gap of 1 / index.
    np.testing.assert_allclose(
        gap, _exact(lambda index: mpmath.npdf(index) / mpmath.ncdf(index) + index, INDICES), rtol=2e-12
    )


def test_nothing_is_nan_far_out():
    for index in (-1e150, -1e9, 1e9, 1e150):
        value, slope = _value_and_slope(lambda eta: inverse_mills(eta)[0], [index])
        assert torch.isfinite(value).all()
        assert torch.isfinite(slope).all()
    assert float(inverse_mills(torch.tensor([-1e150], dtype=torch.float64))[0]) == 1e150
