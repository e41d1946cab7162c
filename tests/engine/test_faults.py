"""What goes wrong in practice, each with an error or a status that says so."""

import mpmath
import numpy as np
import pytest
import torch
from scipy import special

import eeqs
from eeqs import Status


@pytest.fixture
def sample():
    rng = np.random.default_rng(9)
    x, z = rng.normal(size=(2, 200))
    return {"x": x, "z": z, "y": 1 + x - z + rng.normal(size=200), "b": (x + rng.normal(size=200) > 0).astype(float)}


def test_perfect_separation(sample):
    data = sample | {"b": (sample["x"] > 0).astype(float)}
    solution = eeqs.solve(eeqs.moments.logit("b", ["x"]), data)
    assert solution.status is Status.DEGENERATE
    with pytest.raises(eeqs.SolverError, match="separat"):
        eeqs.estimate(eeqs.moments.logit("b", ["x"]), data)


def test_duplicate_columns_are_named(sample):
    with pytest.raises(eeqs.SingularBreadError, match="x, copy are not separately identified") as caught:
        eeqs.estimate(eeqs.moments.least_squares("y", ["x", "z", "copy"]), sample | {"copy": sample["x"]})
    assert caught.value.parameters == ("x", "copy")


def _logit_by_columns(theta, data):
    residual = data["b"] - torch.sigmoid(theta[0] + theta[1] * data["x"] + theta[2] * data["near"])
    return torch.stack([residual, residual * data["x"], residual * data["near"]], dim=1)


NEAR = {
    "least squares": (eeqs.moments.least_squares("y", ["x", "near"]), "y"),
    "logit": (eeqs.moments.logit("b", ["x", "near"]), "b"),
    "plain": (eeqs.EstimatingFunction(_logit_by_columns, ("Intercept", "x", "near"), ("b", "x", "near")), "b"),
}


@pytest.mark.parametrize("gap", [1e-3, 1e-4, 1e-5, 3e-6, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14])
@pytest.mark.parametrize("model", NEAR)
def test_near_duplicate_columns_give_digits_or_an_error(sample, model, gap):
    """Against a fit in 50 digits (mpmath): what is reported keeps three digits, and an error names the columns.

    The normal matrix of columns that differ by g loses digits as g^-2, all of sixteen at g = 1e-8.
    """
    psi, response = NEAR[model]
    data = {name: column[:60] for name, column in sample.items()}
    data["near"] = data["x"] * (1 + gap * np.random.default_rng(1).normal(size=60))
    if eeqs.solve(psi, data, [0.0] * 3).status is Status.SINGULAR:
        assert gap < 1e-5
        with pytest.raises(eeqs.SingularBreadError, match="x, near are not separately identified"):
            eeqs.estimate(psi, data, [0.0] * 3)
        return
    assert gap > 1e-7
    fit = eeqs.estimate(psi, data, [0.0] * 3)
    params, errors = _in_fifty_digits(data, response)
    np.testing.assert_allclose(fit.bse, errors, rtol=1e-3)
    assert (np.abs(fit.params - params) <= 1e-3 * errors).all()


def _in_fifty_digits(data, response):
    """Newton and the HC0 sandwich of least squares ("y") or a logit ("b"), from the floats as they are."""
    with mpmath.workdps(50):
        rows = [[mpmath.mpf(1), mpmath.mpf(x), mpmath.mpf(z)] for x, z in zip(data["x"], data["near"], strict=True)]
        design, theta = mpmath.matrix(rows), mpmath.matrix(3, 1)
        for _ in range(1 if response == "y" else 9):
            theta += _information(design, theta, response) ** -1 * (design.T * _residual(design, theta, data, response))
        residual = _residual(design, theta, data, response)
        psi = mpmath.matrix([[row[j] * r for j in range(3)] for row, r in zip(rows, residual, strict=True)])
        inverse = _information(design, theta, response) ** -1
        covariance = inverse * (psi.T * psi) * inverse
        return np.array([[float(theta[j]), float(mpmath.sqrt(covariance[j, j]))] for j in range(3)]).T


def _residual(design, theta, data, response):
    means = [eta if response == "y" else 1 / (1 + mpmath.exp(-eta)) for eta in design * theta]
    return mpmath.matrix([mpmath.mpf(y) - mean for y, mean in zip(data[response], means, strict=True)])


def _information(design, theta, response):
    if response == "y":
        return design.T * design
    means = [1 / (1 + mpmath.exp(-eta)) for eta in design * theta]
    return design.T * mpmath.diag([mean * (1 - mean) for mean in means]) * design


@pytest.mark.parametrize("labels", [np.zeros(200), np.array(["one"] * 200)])
def test_one_cluster(sample, labels):
    with pytest.raises(eeqs.DataError, match="every observation has the same label"):
        eeqs.estimate(eeqs.moments.mean("y"), sample, cov=eeqs.Cluster(labels))


def test_constant_cluster_column(sample):
    with pytest.raises(eeqs.DataError, match='cluster column "firm": every observation has the same label'):
        eeqs.estimate(eeqs.moments.mean("y"), sample | {"firm": np.ones(200)}, cov=eeqs.Cluster("firm"))


@pytest.mark.parametrize("start", [0.1, 2.0, -3.0])
def test_a_step_function_never_converges_at_its_start(sample, start):
    """The derivative of a median psi is zero wherever it exists: Newton must say so and not return the start."""
    solution = eeqs.solve(lambda t, d: 0.5 - (d["y"] <= t).double(), {"y": sample["y"]}, [start])
    assert solution.status is Status.STALLED
    assert "step function" in solution.status.text
    assert "moments.quantile" in solution.status.text
    with pytest.raises(eeqs.EeqsError):
        eeqs.estimate(lambda t, d: 0.5 - (d["y"] <= t).double(), {"y": sample["y"]}, [start])
    exact = eeqs.estimate(eeqs.moments.quantile("y"), sample)
    middle = np.sort(sample["y"])[99:101]
    at_root = eeqs.solve(lambda t, d: 0.5 - (d["y"] <= t).double(), {"y": sample["y"]}, [middle.mean()])
    assert at_root.status is Status.SINGULAR  # half the values lie below, and the derivative is still zero
    assert middle[0] - 1e-12 <= exact.params.iloc[0] <= middle[1] + 1e-12


@pytest.mark.parametrize(
    ("psi", "start"),
    [
        (lambda t, d: d["y"] - 5 - t.square() + t**4, 0.0),  # a stationary point that is not a root
        (lambda t, d: 1 / (1 + (t - d["y"]).square()), 50.0),  # a plateau
    ],
    ids=["saddle", "plateau"],
)
def test_start_at_a_saddle_or_on_a_plateau(sample, psi, start):
    data = {"y": sample["y"]}
    for theta0 in ([start], [[start]]):
        batch = {"y": data["y"][None]} if np.ndim(theta0) == 2 else data
        solution = eeqs.solve(psi, batch, theta0)
        assert not bool(torch.as_tensor(solution.converged).any())
    with pytest.raises(eeqs.SolverError):
        eeqs.estimate(psi, data, [start])


def test_scipy_inside_a_torch_psi(sample):
    with pytest.raises(eeqs.PsiError, match=r"returned a ndarray.*eeqs.from_numpy"):
        eeqs.estimate(lambda t, d: d["b"].numpy() - special.expit(t.numpy()), {"b": sample["b"]}, [0.0])
    fit = eeqs.estimate(eeqs.from_numpy(lambda t, d: d["b"] - special.expit(t)), {"b": sample["b"]}, [0.0])
    assert special.expit(fit.params.iloc[0]) == pytest.approx(sample["b"].mean(), rel=1e-9)


@pytest.mark.parametrize(
    "psi",
    [lambda t, d: (d["y"] - t)[1:], lambda t, d: (d["y"] - t).sum(0, keepdim=True)],
    ids=["forgotten", "summed"],
)
def test_a_psi_that_loses_observations(sample, psi):
    with pytest.raises(eeqs.PsiError, match="200 observations and 1 parameters; it must return"):
        eeqs.estimate(psi, {"y": sample["y"]}, [0.0])


def test_integers_do_not_overflow():
    counts = np.array([200, 250, 130, 90] * 30, dtype=np.uint8)
    fit = eeqs.estimate(eeqs.moments.variance("y"), {"y": counts})
    np.testing.assert_allclose(fit.params, [counts.astype(float).mean(), counts.astype(float).var()], rtol=1e-13)
    large = np.array([2**31 - 1, 2**31 - 5, 7] * 20, dtype=np.int32)
    squares = eeqs.estimate(lambda t, d: d["y"].square() - t, {"y": large}, [1.0])
    assert squares.params.iloc[0] == pytest.approx((large.astype(float) ** 2).mean(), rel=1e-13)
    with pytest.raises(eeqs.DataError, match=r"beyond 2\*\*53"):
        eeqs.estimate(eeqs.moments.mean("y"), {"y": np.array([2**60, 1, 2])})


@pytest.mark.parametrize("kind", ["probability", "frequency"])
def test_weights_all_zero(sample, kind):
    with pytest.raises(eeqs.DataError, match='weights "w" must be non-negative, with at least one above zero'):
        eeqs.estimate(eeqs.weight(eeqs.moments.mean("y"), "w", kind=kind), sample | {"w": np.zeros(200)})


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_columns_beyond_the_squares_of_float64(sample, size):
    with pytest.raises(eeqs.DataError, match=r'column "x" has values of size .* change its unit'):
        eeqs.estimate(eeqs.moments.least_squares("y", ["x"]), sample | {"x": size * sample["x"]})


@pytest.mark.parametrize("size", [1e-300, 1e-140, 1e140, 1e300])
def test_scales_of_psi_do_not_matter(sample, size):
    fit = eeqs.solve(lambda t, d: size * (d["y"] - t), {"y": sample["y"]}, [0.0])
    assert fit.status is Status.CONVERGED
    assert float(fit.theta) == pytest.approx(sample["y"].mean(), rel=1e-12)


def test_the_same_faults_are_statuses_in_a_batch():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 100))
    b = (x + rng.normal(size=(3, 100)) > 0).astype(float)
    b[1] = x[1] > 0
    copy = rng.normal(size=(3, 100))
    copy[2] = x[2]
    data = {"x": x, "b": b, "copy": copy}
    solution = eeqs.solve(eeqs.moments.logit("b", ["x", "copy"]), data, torch.zeros(3, 3))
    assert solution.status[0] is Status.CONVERGED
    assert solution.status[1] is Status.DEGENERATE
    assert solution.status[2] is not Status.CONVERGED


def test_a_column_with_two_axes_is_named():
    with pytest.raises(eeqs.DataError, match=r"start this psi computes from the data has shape \(5, 1\); a column"):
        eeqs.estimate(eeqs.moments.mean("y"), {"y": np.ones((5, 2))})
