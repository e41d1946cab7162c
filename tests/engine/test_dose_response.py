"""The log-logistic curve against finite differences, scipy's least squares, planted curves."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

import eeqs

PSI = eeqs.moments.log_logistic_curve("y", "dose")
NAMES = ["lower", "upper", "ED50", "hill"]
DOSES = np.array([0, 0.5, 1, 2, 4, 8, 16])


def _curve(theta, dose):
    """The formula as written, with the limit of the power at the dose zero."""
    lower, upper, middle, hill = theta
    with np.errstate(divide="ignore"):
        return lower + (upper - lower) / (1 + (dose / middle) ** hill)


def _data(seed, theta=(1.0, 9.0, 2.5, 1.8), noise=0.3, each=5, doses=DOSES):
    rng = np.random.default_rng(seed)
    dose = np.repeat(doses, each)
    return {"y": _curve(theta, dose) + noise * rng.normal(size=len(dose)), "dose": dose}


def _leaves(data):
    return {name: torch.from_numpy(np.asarray(column, dtype=float)) for name, column in data.items()}


@pytest.mark.parametrize("theta", [(1.2, 8.5, 2.0, 1.5), (1.2, 8.5, 2.0, -1.5), (8.5, 1.2, 0.3, 4.0)])
def test_psi_is_residual_times_finite_difference(theta):
    """Steps of 1e-6 leave 1e-9; dose zero included."""
    data, theta = _data(1), np.array(theta)
    gradient = [(_curve(theta + h, data["dose"]) - _curve(theta - h, data["dose"])) / 2e-6 for h in 1e-6 * np.eye(4)]
    expected = (data["y"] - _curve(theta, data["dose"]))[:, None] * np.column_stack(gradient)
    values = PSI(torch.from_numpy(theta), _leaves(data))
    np.testing.assert_allclose(values, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("hill", [1.5, -1.5, 0.02])
def test_dose_zero_has_finite_derivatives(hill):
    """log(0) is met by neither mode of differentiation, and the bread equals finite differences."""
    theta, data = torch.tensor([1.2, 8.5, 2.0, hill], dtype=torch.float64), _data(2)
    assert eeqs.check_jacobian(PSI, theta, data).passed
    zero = PSI.prepare(_leaves({"y": np.array([3.0]), "dose": np.array([0.0])}))
    for mode in (torch.func.jacfwd, torch.func.jacrev):
        jacobian = mode(lambda b: PSI.psi(b, zero))(theta)[0]
        # The curve is an asymptote there: its own parameter is left, with derivative -1 of the residual.
        expected = torch.zeros(4, 4, dtype=torch.float64)
        asymptote = 1 if hill > 0 else 0
        expected[asymptote, asymptote] = -1
        torch.testing.assert_close(jacobian, expected, rtol=0, atol=0)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize(("middle", "hill"), [(2.5, 1.8), (0.9, 3.0), (6.0, 1.0)])
def test_least_squares_of_scipy(direction, middle, hill):
    """Falling and rising curves; ``lower`` is the lower one, and the sign of ``hill`` says which."""
    data = _data(3, (1.0, 9.0, middle, direction * hill))
    fit = eeqs.estimate(PSI, data)
    best = optimize.least_squares(
        lambda theta: data["y"] - _curve(theta, data["dose"]),
        (1.0, 9.0, middle, direction * hill),
        x_scale="jac",
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
    )
    np.testing.assert_allclose(fit.params, best.x, rtol=1e-5)  # scipy stops some 1e-6 short
    assert list(fit.params.index) == NAMES
    assert fit.params["lower"] < fit.params["upper"]
    assert np.sign(fit.params["hill"]) == direction


def test_start_finds_wide_and_steep_curves():
    """Seven decades of dose, slopes from 0.7 to 3, a fifth of the range as noise: 60 replicates in one batch."""
    rng = np.random.default_rng(4)
    truth = [(2.0, 3.0, 10 ** rng.uniform(-1, 1), rng.choice([-1, 1]) * rng.uniform(0.7, 3)) for _ in range(60)]
    sets = [_data(k, theta, noise=0.05, each=6, doses=np.logspace(-3, 4, 15)) for k, theta in enumerate(truth)]
    data = {name: np.stack([one[name] for one in sets]) for name in ("y", "dose")}
    solution = eeqs.solve(PSI, data, PSI.start(PSI.prepare(_leaves(data))))
    assert solution.converged.all()
    loss = [((d["y"] - _curve(t, d["dose"])) ** 2).sum() for d, t in zip(sets, solution.theta.numpy(), strict=True)]
    planted = [((d["y"] - _curve(t, d["dose"])) ** 2).sum() for d, t in zip(sets, truth, strict=True)]
    assert (np.array(loss) < planted).all()
    alone = eeqs.solve(PSI, sets[5])
    np.testing.assert_allclose(alone.theta, solution.theta[5], rtol=1e-6)


@given(
    st.integers(0, 2**16),
    st.floats(-9, 9).map(lambda e: 10**e),
    st.floats(-9, 9).map(lambda e: 10**e),
    st.randoms(use_true_random=False),
)
def test_units_and_order_of_rows(seed, unit, scale, random):
    """ED50 has the unit of the dose, the asymptotes that of the response, hill none; rows have no order."""
    data = _data(seed)
    order = random.sample(range(len(data["y"])), len(data["y"]))
    other = eeqs.estimate(PSI, {"y": scale * data["y"][order], "dose": unit * data["dose"][order]})
    fit = eeqs.estimate(PSI, data)
    units = np.array([scale, scale, unit, 1.0])
    np.testing.assert_allclose(other.params, units * fit.params, rtol=1e-6)
    np.testing.assert_allclose(other.bse, units * fit.bse, rtol=1e-5)


def test_weights_stand_for_rows():
    data = _data(6) | {"w": np.arange(35) % 3 + 1}
    repeated = {name: np.repeat(data[name], data["w"]) for name in ("y", "dose")}
    fit = eeqs.estimate(eeqs.moments.log_logistic_curve("y", "dose", weights="w"), data)
    np.testing.assert_allclose(fit.params, eeqs.estimate(PSI, repeated).params, rtol=1e-6)


@pytest.mark.parametrize("y", [np.full(28, 3.0), np.tile([1.0, 2.0], 14)])
def test_flat_response_has_no_curve(y):
    with pytest.raises(eeqs.DataError, match='response "y" does not change with the dose'):
        eeqs.estimate(PSI, {"y": y, "dose": np.repeat(DOSES, 4)})


@pytest.mark.parametrize(
    ("dose", "message"),
    [
        ([-1.0, 0, 1, 2, 4], 'dose "dose" has negative values'),
        ([0.0, 0, 1, 2, 2], 'dose "dose" has 3 distinct value'),
        ([1.0, 1, 1, 1, 1], 'dose "dose" has 1 distinct value'),
    ],
)
def test_bad_doses_are_refused(dose, message):
    with pytest.raises(eeqs.DataError, match=message):
        eeqs.estimate(PSI, {"y": np.arange(5.0), "dose": dose})
