"""Every status by a real example, and roots of equations that are hard to solve."""

import numpy as np
import pytest
import torch
from scipy import optimize

import eeqs
from eeqs import Status

TWO_PI = 2 * np.pi


@pytest.fixture
def noise(generator):
    """200 centred errors with mean exactly zero up to rounding."""
    e = torch.randn(200, generator=generator, dtype=torch.float64)
    return e - e.mean()


def test_newton_on_a_linear_equation_takes_one_step(noise):
    solution = eeqs.solve(lambda t, d: d["e"] + 3 - t, {"e": noise}, [50.0])
    assert solution.status is Status.CONVERGED
    assert solution.converged
    assert solution.iterations == 1
    assert solution.theta.item() == pytest.approx(3, rel=1e-14)
    assert solution.condition == 1
    assert solution.residual_norm < 1e-9


def _no_real_root(theta, data):
    return theta**2 + 1 + 0.1 * data["e"]


def _separated(noise):
    return eeqs.moments.logit("y", ["x"]), {"y": (noise > 0).double(), "x": noise}, None


def _duplicated(noise):
    data = {"y": 1 + noise.square(), "x": noise, "copy": noise}
    return eeqs.moments.least_squares("y", ["x", "copy"]), data, None


FAILURES = {
    Status.MAX_ITERATIONS: lambda e: (lambda t, d: torch.atan(t - d["e"]), {"e": e}, [50.0]),
    Status.STALLED: lambda e: (_no_real_root, {"e": e}, [3.0]),
    Status.SINGULAR: _duplicated,
    Status.DEGENERATE: _separated,
}


@pytest.mark.parametrize("status", FAILURES, ids=str)
def test_failure_is_a_status_and_an_error_on_request(noise, status):
    psi, data, theta0 = FAILURES[status](noise)
    limit = 3 if status is Status.MAX_ITERATIONS else 100
    assert eeqs.solve(psi, data, theta0, max_iterations=limit).status is status
    with pytest.raises(eeqs.SolverError, match=rf"{status}: .*; .*\."):
        eeqs.solve(psi, data, theta0, max_iterations=limit, throw=True)


@pytest.mark.parametrize("status", list(Status), ids=str)
def test_status_text_names_cause_and_remedy(status):
    assert status.text == f"{status.label}: {status.cause}; {status.remedy}."


def test_psi_that_breaks_in_one_replicate_is_non_finite(noise):
    data = {"e": torch.stack([noise, noise, noise])}
    solution = eeqs.solve(lambda t, d: torch.log(t) - d["e"], data, [[1.0], [-1.0], [2.0]])
    assert solution.status == (Status.CONVERGED, Status.NON_FINITE, Status.CONVERGED)
    with pytest.raises(eeqs.SolverError, match="1 of 3 replicates failed; non_finite"):
        eeqs.solve(lambda t, d: torch.log(t) - d["e"], data, [[1.0], [-1.0], [2.0]], throw=True)


def test_singular_is_said_of_a_root_only(noise):
    """The Jacobian is singular at the start (0, 0) and regular at the root (2, 1)."""

    def psi(theta, data):
        level = theta[0] + theta[1] - 3
        return torch.stack([level + data["e"], level + theta[0].square() * (theta[0] - 2) + data["e"]], dim=1)

    solution = eeqs.solve(psi, {"e": noise}, [0.0, 0.0])
    assert solution.residual_norm < 1e-6 or solution.status not in (Status.CONVERGED, Status.SINGULAR)


@pytest.mark.parametrize("unit", [1e-140, 1e-30, 1e30, 1e140])
def test_converged_is_said_of_a_root_only(noise, unit):
    """Steps of 1e-140 are solved to full relative accuracy."""
    solution = eeqs.solve(eeqs.moments.least_squares("y", ["x"]), {"y": unit * (2 + noise), "x": noise})
    assert solution.status is Status.CONVERGED
    torch.testing.assert_close(solution.theta / unit, torch.tensor([2.0, 1.0]).double(), rtol=1e-12, atol=0)


def test_perfect_fit_converges(noise):
    psi = eeqs.moments.least_squares("y", ["x"])
    for slope in (2.0, 0.0, 1e-100):
        solution = eeqs.solve(psi, {"y": slope * (1 + noise), "x": noise})
        assert solution.status is Status.CONVERGED
        torch.testing.assert_close(solution.theta, torch.full((2,), slope, dtype=torch.float64), rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    ("scale", "unit"),
    [(1e-300, 1.0), (1e-160, 1.0), (1e160, 1.0), (1e300, 1.0), (1.0, 1e-100), (1.0, 1e100), (1e150, 1e-150)],
)
def test_units_of_psi_and_theta_do_not_matter(noise, scale, unit):
    def psi(theta, data):
        return scale * (data["e"].exp() - (theta / unit).exp())

    solution = eeqs.solve(psi, {"e": noise}, [2.0 * unit])
    assert solution.status is Status.CONVERGED
    assert solution.theta.item() / unit == pytest.approx(noise.exp().mean().log().item(), rel=1e-9)


def _plain_newton(psi, data, theta, steps=50):
    for _ in range(steps):
        mean, slope = torch.func.jvp(lambda t: psi(t, data).mean(0), (theta,), (torch.ones_like(theta),))
        theta = theta - mean / slope
    return theta


@pytest.mark.parametrize("start", [-20.0, 3.0, 50.0])
def test_damping_solves_where_plain_newton_diverges(noise, start):
    def psi(theta, data):
        return torch.atan(theta - data["e"])

    data = {"e": noise}
    assert not _plain_newton(psi, data, torch.tensor([start], dtype=torch.float64)).abs() < 1e6
    solution = eeqs.solve(psi, data, [start])
    root = optimize.brentq(lambda t: float(torch.atan(t - noise).mean()), -5, 5, xtol=1e-14)
    assert solution.status is Status.CONVERGED
    assert solution.theta.item() == pytest.approx(root, abs=1e-10)


def _rosenbrock(t):
    return [10 * (t[1] - t[0] ** 2), 1 - t[0]]


def _helical_valley(t):
    angle = torch.atan2(t[1], t[0]) / TWO_PI
    return [10 * (t[2] - 10 * angle), 10 * ((t[0] ** 2 + t[1] ** 2).sqrt() - 1), t[2]]


@pytest.mark.parametrize(
    ("system", "start", "root"),
    [
        (_rosenbrock, [-1.2, 1.0], [1, 1]),
        (_rosenbrock, [-120.0, 100.0], [1, 1]),
        (_helical_valley, [-1.0, 0.1, 0.0], [1, 0, 0]),
    ],
    ids=["rosenbrock", "rosenbrock far", "helical valley"],
)
def test_classic_systems(noise, system, start, root):
    """More, Garbow & Hillstrom (1981), ACM TOMS 7: systems 1 and 7."""

    def psi(theta, data):
        return torch.stack([level + data["e"] for level in system(theta)], dim=1)

    solution = eeqs.solve(psi, {"e": noise}, start, max_iterations=200)
    assert solution.status is Status.CONVERGED
    torch.testing.assert_close(solution.theta, torch.tensor(root, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_loss_without_a_cheap_jacobian_agrees_with_scipy(generator):
    n = 200
    x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    y = 3 + x @ torch.tensor([2.0, -1.0]).double() + torch.randn(n, generator=generator, dtype=torch.float64)

    def loss(theta, data):
        error = data["y"] - theta[0] - data["x"] @ theta[1:3]
        return error.cosh().log()

    psi = eeqs.from_loss(loss)
    data = {"x": x, "y": y}
    start = [0.0, 0.0, 0.0]
    solution = eeqs.solve(psi, data, start)
    scipy = optimize.root(lambda t: psi(torch.from_numpy(t), data).mean(0).numpy(), start, method="hybr", tol=1e-13)
    assert solution.status is Status.CONVERGED
    assert scipy.success
    # The solver stops at 1e-9 standard errors of psi; scipy's root is better than that.
    np.testing.assert_allclose(solution.theta, scipy.x, rtol=1e-8)


def test_batch_with_mixed_outcomes_leaves_every_replicate_alone(noise):
    """Root, no root, no finite value, root and separation, side by side and one by one."""

    def psi(theta, data):
        kind, e = data["kind"], data["e"]
        branches = [e - theta, theta**2 + 1 + 0.1 * e, e - theta + torch.inf, e.exp() - theta.exp(), (-theta).exp()]
        value = branches[0]
        for k, branch in enumerate(branches):
            value = torch.where(kind == k, branch, value)
        return value

    kinds = torch.arange(5.0).double()[:, None].expand(5, 200)
    data = {"e": noise.expand(5, 200), "kind": kinds}
    together = eeqs.solve(psi, data, torch.full((5, 1), 2.0))
    wanted = (Status.CONVERGED, Status.STALLED, Status.NON_FINITE, Status.CONVERGED, Status.DEGENERATE)
    assert together.status == wanted
    assert together.converged.tolist() == [s is Status.CONVERGED for s in wanted]
    for r in range(5):
        row = {name: leaf[r : r + 1] for name, leaf in data.items()}
        alone = eeqs.solve(psi, row, torch.full((1, 1), 2.0))
        assert alone.status[0] is wanted[r]
        torch.testing.assert_close(alone.theta[0], together.theta[r], rtol=1e-12, atol=1e-13)
        assert alone.iterations[0] == together.iterations[r]


def test_inputs_are_not_changed(noise):
    data, start = {"e": noise.clone()}, torch.tensor([5.0], dtype=torch.float64)
    eeqs.solve(lambda t, d: d["e"] - t, data, start)
    assert torch.equal(data["e"], noise)
    assert start.item() == 5.0


def test_start_at_the_root_takes_no_step():
    solution = eeqs.solve(lambda t, d: d["y"] - t, {"y": [1.0, 2.0, 3.0]}, [2.0])
    assert solution.iterations == 0
    assert solution.theta.tolist() == [2.0]


def test_tighter_tolerance_leaves_a_smaller_residual(noise):
    loose, tight = (
        eeqs.solve(lambda t, d: d["e"].exp() - t.exp(), {"e": noise}, [2.0], tolerance=tolerance)
        for tolerance in (1e-1, 1e-9)
    )
    assert tight.residual_norm <= 1e-9 < loose.residual_norm <= 1e-1
    assert tight.iterations > loose.iterations


def test_a_step_to_where_psi_is_exactly_zero_everywhere_is_degenerate(noise):
    """Underflow at a far parameter makes the mean zero in one jump; that is no root."""
    psi = lambda t, d: torch.exp(t) * (2 + d["e"]).clamp_min(0.1)  # noqa: E731
    solution = eeqs.solve(psi, {"e": noise}, [-700.0])
    assert solution.status is Status.DEGENERATE


@pytest.mark.parametrize("options", [{"tolerance": -1.0}, {"tolerance": np.nan}, {"max_iterations": 0}])
def test_limits_that_cannot_be_met_are_refused(noise, options):
    with pytest.raises(ValueError, match="both must be positive"):
        eeqs.solve(lambda t, d: d["e"] - t, {"e": noise}, [0.0], **options)


def test_a_psi_in_single_precision_is_refused(noise):
    with pytest.raises(eeqs.PsiError, match="float32"):
        eeqs.solve(lambda t, d: (d["e"] - t).float(), {"e": noise}, [0.0])
