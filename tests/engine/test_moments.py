"""Moments: closed forms, doors, and quantiles solved exactly."""

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from scipy import optimize, stats

import eeqs
from eeqs.engine.moments.quantile import hall_sheather

M = eeqs.moments


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: M.mean("a", "b"), ("mean[a]", "mean[b]")),
        (lambda: M.variance("a", "b"), ("mean[a]", "mean[b]", "variance[a]", "variance[b]")),
        (lambda: M.least_squares("y", ["x", "z"]), ("Intercept", "x", "z")),
        (lambda: M.logit("y", ["x"], intercept=False), ("x",)),
        (lambda: M.poisson("y", ("x",)), ("Intercept", "x")),
        (lambda: M.quantile("y", 0.3), ("Intercept",)),
        (lambda: M.quantile("y", 0.3, ["x"], intercept=False), ("x",)),
    ],
)
def test_parameters_are_named(make, names):
    assert make().names == names


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (M.mean, "name at least one column"),
        (M.variance, "name at least one column"),
        (lambda: M.least_squares("y", [], intercept=False), "needs a regressor or an intercept"),
        (lambda: M.least_squares("y", "x"), r'x is the string "x"; pass a list of column names, such as \["x"\]'),
        (lambda: M.quantile("y", 0.5, "x"), r'x is the string "x"'),
        (lambda: M.quantile("y", 0.0), "tau is 0.0"),
        (lambda: M.quantile("y", 1.0), "tau is 1.0"),
        (lambda: M.quantile("y", np.nan), "tau is nan"),
        (lambda: eeqs.solve(M.logit("y", []), {"y": [0.0, 2.0]}), r'"y" has values outside \[0, 1\]'),
        (lambda: eeqs.solve(M.logit("y", []), {"y": [0.0, -1.0]}), r'"y" has values outside \[0, 1\]'),
        (lambda: eeqs.solve(M.poisson("y", []), {"y": [1.0, -1.0]}), '"y" has negative values'),
        (lambda: eeqs.solve(M.poisson("y", []), {"y": [0.0, 0.0]}), '"y" is zero throughout'),
        (lambda: eeqs.solve(M.logit("y", ["x"]), {"y": [0.0, 1.0], "x": [[1.0], [2.0]]}), '"x" has shape .* is flat'),
        (lambda: eeqs.solve(M.logit("y", ["x"]), {"y": [[0.0], [1.0]], "x": [1.0, 2.0]}), '"y" has shape .* is flat'),
        (lambda: eeqs.solve(M.mean("y", "x"), {"y": [0.0, 1.0], "x": [[1.0], [2.0]]}), '"x" has shape .* is flat'),
        (
            lambda: eeqs.solve(M.ratio("y", "x"), {"y": np.ones((2, 3)), "x": np.ones((2, 2))}),
            '"y" has shape .* is flat',
        ),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("model", ["least_squares", "logit", "poisson"])
def test_psi_is_residual_times_design(frame, model):
    response = {"least_squares": "y", "logit": "binary", "poisson": "count"}[model]
    beta = np.array([0.3, -0.5])
    index = beta[0] + beta[1] * frame["x"].to_numpy()
    fitted = {"least_squares": index, "logit": 1 / (1 + np.exp(-index)), "poisson": np.exp(index)}[model]
    residual = frame[response].to_numpy() - fitted
    leaves = {name: torch.tensor(frame[name].to_numpy(), dtype=torch.float64) for name in (response, "x")}
    psi = getattr(M, model)(response, ["x"])(torch.from_numpy(beta), leaves)
    np.testing.assert_allclose(psi, np.column_stack([residual, residual * frame["x"]]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_poisson_starts_well_in_any_units(frame, unit):
    """A start of zero would overflow exp for a regressor in large units and a large response."""
    data = frame.assign(x=unit * (frame["x"] + 3), count=1e6 * frame["count"])
    fit = eeqs.estimate(M.poisson("count", ["x"]), data)
    base = eeqs.estimate(M.poisson("count", ["x"]), frame.assign(x=frame["x"] + 3))
    assert fit.params["x"] * unit == pytest.approx(base.params["x"], rel=1e-8)
    assert fit.params["Intercept"] == pytest.approx(base.params["Intercept"] + np.log(1e6), rel=1e-8)


def test_logit_of_proportions(frame):
    """Grouped successes weighted by their group sizes are the ungrouped logit."""
    grouped = frame.assign(side=(frame["x"] > 0).astype(float)).groupby("side")["binary"].agg(["mean", "size"])
    data = {"y": grouped["mean"].to_numpy(), "side": grouped.index.to_numpy(), "size": grouped["size"].to_numpy()}
    fit = eeqs.solve(eeqs.weight(M.logit("y", ["side"]), "size"), data)
    log_odds = np.log(grouped["mean"] / (1 - grouped["mean"])).to_numpy()
    np.testing.assert_allclose(fit.theta, [log_odds[0], log_odds[1] - log_odds[0]], rtol=1e-9)


def test_ratio_of_means(frame):
    """The ratio, and the linearised variance of survey sampling (Cochran 1977, eq. 6.13)."""
    data = frame.assign(size=np.exp(frame["x"]))
    fit = eeqs.estimate(M.ratio("count", "size"), data)
    y, x = data["count"], data["size"]
    theta = y.mean() / x.mean()
    assert fit.params["ratio[count/size]"] == pytest.approx(theta, rel=1e-14)
    assert fit.bse.iloc[0] == pytest.approx(np.sqrt(((y - theta * x) ** 2).mean() / len(data)) / x.mean(), rel=1e-12)
    assert eeqs.solve(M.ratio("count", "size"), data).iterations == 0
    assert eeqs.estimate(M.ratio("size", "size"), data).params.iloc[0] == 1.0


@pytest.mark.parametrize("tau", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("y", [[4.0], [1.0, 2.0], [3.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0, 7.0], [-5.0, 0.0, 0.0, 5.0]])
def test_quantile_minimises_the_check_loss(y, tau):
    solution = eeqs.solve(M.quantile("y", tau), {"y": y})
    y = np.array(y)

    def loss(b):
        return np.sum((tau - (y < b)) * (y - b))

    assert solution.status is eeqs.Status.CONVERGED
    assert loss(solution.theta.item()) <= min(loss(value) for value in y) + 1e-12


@pytest.mark.parametrize("tau", [0.05, 0.5, 0.8])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_quantile_regression_is_the_linear_program(frame, tau, unit):
    data = frame.assign(x=unit * frame["x"])
    solution = eeqs.solve(M.quantile("y", tau, ["x", "z"]), data)
    x = np.column_stack([np.ones(len(frame)), frame["x"], frame["z"]])
    n = len(x)
    program = optimize.linprog(
        np.concatenate([np.zeros(3), tau * np.ones(n), (1 - tau) * np.ones(n)]),
        A_eq=np.hstack([x, np.eye(n), -np.eye(n)]),
        b_eq=frame["y"],
        bounds=[(None, None)] * 3 + [(0, None)] * (2 * n),
    )
    residual = frame["y"] - x @ (solution.theta.numpy() * [1, unit, 1])
    assert solution.status is eeqs.Status.CONVERGED
    assert np.sum(residual * (tau - (residual < 0))) == pytest.approx(program.fun, rel=1e-10)


def test_quantile_in_a_batch_is_the_loop(generator):
    y, x = (torch.randn(4, 60, generator=generator, dtype=torch.float64) for _ in range(2))
    psi = M.quantile("y", 0.3, ["x"])
    together = eeqs.solve(psi, {"y": y, "x": x}, torch.zeros(4, 2))
    assert together.converged.all()
    for r in range(4):
        one = eeqs.solve(psi, {"y": y[r], "x": x[r]})
        assert torch.equal(one.theta, together.theta[r])
        torch.testing.assert_close(
            eeqs.bread(psi, together.theta, {"y": y, "x": x})[r], eeqs.bread(psi, one.theta, {"y": y[r], "x": x[r]})
        )


def test_quantile_errors_cover(generator):
    """Median regression with scale 0.2 + |x|: the kernel sandwich covers where the homoskedastic one does not."""
    replicates, n = 300, 400
    x = torch.randn(replicates, n, generator=generator, dtype=torch.float64)
    data = {"y": 1 + x + (0.2 + x.abs()) * torch.randn(replicates, n, generator=generator, dtype=torch.float64), "x": x}
    covered = {}
    for homoskedastic in (False, True):
        psi = M.quantile("y", 0.5, ["x"], homoskedastic=homoskedastic)
        theta = eeqs.solve(psi, data, torch.zeros(replicates, 2)).theta
        bread = eeqs.bread(psi, theta, data)
        design = torch.stack([torch.ones_like(x), x], dim=-1)
        meat = 0.25 * design.mT @ design / n
        error = eeqs.sandwich(bread, meat, n)[:, 1, 1].sqrt()
        covered[homoskedastic] = float(((theta[:, 1] - 1).abs() < stats.norm.ppf(0.975) * error).double().mean())
    monte_carlo_error = np.sqrt(0.95 * 0.05 / replicates)
    assert abs(covered[False] - 0.95) < 4 * monte_carlo_error
    assert covered[True] < 0.95 - 4 * monte_carlo_error


@pytest.mark.parametrize("shape", ["flat", "peaked"])
def test_density_takes_the_smaller_spread(shape):
    """Standard deviation for a flat response, quartiles for a peaked one, as statsmodels does."""
    y = np.linspace(-1, 1, 41) ** (1 if shape == "flat" else 5)
    reference = sm.QuantReg(y, np.ones(41)).fit(q=0.4, kernel="epa", bandwidth="hsheather")
    bread = eeqs.bread(M.quantile("y", 0.4, homoskedastic=True), reference.params, {"y": y})
    assert bread.item() == pytest.approx(-1 / reference.sparsity, rel=1e-9)


def test_hall_sheather_bandwidth():
    """n = 235 at 0.75: 0.1090401 as printed by Stata."""
    assert hall_sheather(235, 0.75) == pytest.approx(0.1090401129546568, rel=1e-12)
