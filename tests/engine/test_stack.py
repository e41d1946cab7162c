"""Stacked blocks against joint equations written by hand, closed forms and two separate fits."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import eeqs
from eeqs import moments


def weighting(theta, data, propensity):
    """Horvitz-Thompson contrast under a logistic propensity in x."""
    p = torch.sigmoid(propensity[0] + propensity[1] * data["x"])
    return (data["binary"] / p - (1 - data["binary"]) / (1 - p)) * data["y"] - theta


def by_hand(theta, data):
    """The stack of `weighting` on a logit, written as one psi."""
    design = torch.stack([torch.ones_like(data["x"]), data["x"]], dim=1)
    score = (data["binary"] - torch.sigmoid(design @ theta[:2]))[:, None] * design
    return torch.cat([score, weighting(theta[2:], data, theta[:2])[:, None]], dim=1)


def weighted_stack():
    return eeqs.stack(propensity=moments.logit("binary", ["x"]), ate=weighting)


def assert_same_fit(one, other, rtol=1e-9):
    np.testing.assert_allclose(one.params, other.params, rtol=rtol)
    scale = np.outer(other.bse, other.bse)
    np.testing.assert_allclose(one.cov_params() / scale, other.cov_params() / scale, rtol=0, atol=rtol)


class Batches:
    """Consecutive rows of a frame, as often as they are asked for."""

    def __init__(self, frame, size):
        self._frame, self._size = frame, size

    def __iter__(self):
        for start in range(0, len(self._frame), self._size):
            yield self._frame.iloc[start : start + self._size]


@pytest.fixture
def numbers(frame):
    return frame.drop(columns="firm")


def test_stack_is_the_joint_equation(numbers):
    fit = eeqs.estimate(weighted_stack(), numbers)
    assert fit.names == ("propensity.Intercept", "propensity.x", "ate")
    assert_same_fit(fit, eeqs.estimate(by_hand, numbers, np.zeros(3)))
    assert fit.solution.iterations == 0  # solved block by block at the start


def test_nuisance_parameters_count(numbers):
    """The standard error with the propensity taken as known is another one: leaving the block out is an error."""
    numbers = numbers.assign(y=numbers["y"] + 3 * numbers["x"])
    fit = eeqs.estimate(weighted_stack(), numbers)
    known = fit.solution.theta[:2]
    alone = eeqs.estimate(lambda theta, data: weighting(theta, data, known), numbers, [0.0])
    assert alone.params.iloc[0] == pytest.approx(fit.params["ate"], rel=1e-9)
    assert abs(alone.bse.iloc[0] / fit.bse["ate"] - 1) > 0.05


def test_mean_then_variance_is_the_moment_psi(numbers):
    psi = eeqs.stack(m=moments.mean("y"), v=lambda theta, data, m: (data["y"] - m).square() - theta)
    assert_same_fit(eeqs.estimate(psi, numbers), eeqs.estimate(moments.variance("y"), numbers))


@given(seed=st.integers(0, 2**16))
def test_blocks_that_read_nothing_are_separate_fits(seed):
    """Law: marginals are those of the blocks alone, and a block in another place is the same block."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, 60))
    data = {"x": x, "z": z, "y": x + rng.normal(size=60), "c": rng.poisson(np.exp(0.3 * z)).astype(float)}
    blocks = {"one": moments.least_squares("y", ["x"]), "two": moments.poisson("c", ["z"])}
    fit = eeqs.estimate(eeqs.stack(**blocks), data)
    turned = eeqs.estimate(eeqs.stack(two=blocks["two"], one=blocks["one"]), data)
    np.testing.assert_allclose(turned.params[list(fit.names)], fit.params, rtol=1e-8)
    np.testing.assert_allclose(turned.bse[list(fit.names)], fit.bse, rtol=1e-8)
    for name, block in blocks.items():
        alone = eeqs.estimate(block, data)
        own = [f"{name}.{parameter}" for parameter in alone.names]
        np.testing.assert_allclose(fit.params[own], alone.params, rtol=1e-8)
        np.testing.assert_allclose(fit.cov_params().loc[own, own], alone.cov_params(), rtol=1e-7, atol=1e-12)


def test_several_parameters_and_a_start_from_earlier_blocks(numbers):
    """Logarithm of a variance and kurtosis-like ratio, which start from the mean before them."""

    def psi(theta, data, m):
        centred = data["y"] - m
        return torch.stack([centred.square() - theta[0].exp(), centred**4 - theta[1] * theta[0].exp() ** 2], dim=1)

    def start(data, m):
        return torch.stack([(data["y"] - m).square().mean().log(), torch.tensor(3.0, dtype=torch.float64)])

    block = eeqs.EstimatingFunction(psi, names=("log", "ratio"), columns=("y",), start=start)
    fit = eeqs.estimate(eeqs.stack(m=moments.mean("y"), shape=block), numbers)
    assert fit.names == ("m.mean[y]", "shape.log", "shape.ratio")
    y = numbers["y"] - numbers["y"].mean()
    np.testing.assert_allclose(fit.params["shape.log"], np.log((y**2).mean()), rtol=1e-9)
    np.testing.assert_allclose(fit.params["shape.ratio"], (y**4).mean() / (y**2).mean() ** 2, rtol=1e-9)
    assert eeqs.check_jacobian(eeqs.stack(m=moments.mean("y"), shape=block), fit.params, numbers).passed


def test_data_prepared_by_an_earlier_block_is_shared(numbers):
    calls = []

    def build(leaves):
        calls.append("design")
        return {"y": leaves["y"], "design": torch.stack([torch.ones_like(leaves["x"]), leaves["x"]], dim=1)}

    first = eeqs.from_linear_index(
        lambda index, data: data["y"] - index,
        lambda data: data["design"],
        names=("a", "b"),
        columns=("x", "y"),
        prepare=build,
        start=lambda data: data["design"].new_zeros(2),
    )
    second = eeqs.EstimatingFunction(
        lambda theta, data, line: (data["y"] - data["design"] @ line).square() - theta,
        columns=(),
        prepare=lambda _, line: line,
        mean_jacobian=lambda _theta, _data, line: line.new_full((1, 1), -1.0),
    )
    fit = eeqs.estimate(eeqs.stack(line=first, noise=second), numbers)
    assert calls == ["design"]
    ols = eeqs.estimate(moments.least_squares("y", ["x"]), numbers)
    residual = numbers["y"] - ols.params["Intercept"] - ols.params["x"] * numbers["x"]
    assert fit.params["noise"] == pytest.approx((residual**2).mean(), rel=1e-10)
    plain = lambda theta, data, line: (data["y"] - line[0] - line[1] * data["x"]).square() - theta  # noqa: E731
    assert_same_fit(fit, eeqs.estimate(eeqs.stack(line=first, noise=plain), numbers))


def test_a_quantile_is_solved_first_and_never_differentiated(numbers):
    """Mean absolute deviation from the median: A = [[-f, 0], [E sign(m - y), -1]] with the kernel density f."""
    psi = eeqs.stack(q=moments.quantile("y"), mad=lambda theta, data, q: (data["y"] - q).abs() - theta)
    fit = eeqs.estimate(psi, numbers)
    assert psi.root is not None
    assert fit.params["q.Intercept"] == pytest.approx(np.median(numbers["y"]), abs=0.05)
    alone = eeqs.estimate(moments.quantile("y"), numbers)
    y, q, mad = numbers["y"].to_numpy(), *fit.params
    bread = np.array([[alone.bread.item(), 0.0], [np.sign(q - y).mean(), -1.0]])
    values = np.column_stack([0.5 - (y <= q), np.abs(y - q) - mad])
    influence = np.linalg.solve(bread, values.T).T
    np.testing.assert_allclose(fit.covariance, influence.T @ influence / len(y) ** 2, rtol=1e-9)
    assert fit.bse.iloc[0] == pytest.approx(alone.bse.iloc[0], rel=1e-9)


def test_replicates_are_solved_in_one_batch():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(4, 80))
    data = {"x": x, "binary": (rng.uniform(size=(4, 80)) < 0.5).astype(float), "y": x + rng.normal(size=(4, 80))}
    together = eeqs.solve(weighted_stack(), data, np.zeros((4, 3)))
    assert bool(together.converged.all())
    bread = eeqs.bread(weighted_stack(), together.theta, data)
    for r in range(4):
        one = {name: column[r] for name, column in data.items()}
        fit = eeqs.estimate(weighted_stack(), one)
        np.testing.assert_allclose(together.theta[r], fit.params, rtol=1e-8)
        np.testing.assert_allclose(bread[r], fit.bread, rtol=1e-7, atol=1e-9)


def test_batches_of_rows_and_rows_in_blocks():
    """A stream starts from the fit to its first batch; 1e5 rows are read in blocks either way."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=100_000)
    binary = (rng.uniform(size=x.size) < 0.4).astype(float)
    data = pd.DataFrame({"x": x, "binary": binary, "y": x + binary})
    fit = eeqs.estimate(weighted_stack(), data)
    assert_same_fit(eeqs.estimate(weighted_stack(), Batches(data, 30_000)), fit, 1e-8)
    assert_same_fit(fit, eeqs.estimate(by_hand, data, np.zeros(3)), 1e-8)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(numbers, unit):
    scaled = numbers.assign(y=unit * numbers["y"], x=numbers["x"] / unit)
    fit, reference = eeqs.estimate(weighted_stack(), scaled), eeqs.estimate(weighted_stack(), numbers)
    factors = [1.0, unit, unit]
    np.testing.assert_allclose(fit.params / factors, reference.params, rtol=1e-8)
    np.testing.assert_allclose(fit.bse / factors, reference.bse, rtol=1e-8)


def test_a_block_without_a_root_is_a_status(numbers):
    separated = numbers.assign(binary=(numbers["x"] > 0).astype(float))
    solution = eeqs.solve(weighted_stack(), separated)
    assert solution.status is not eeqs.Status.CONVERGED
    with pytest.raises(eeqs.SolverError):
        eeqs.estimate(weighted_stack(), separated)
    step = eeqs.stack(slope=moments.logit("binary", ["x"]), q=moments.quantile("y"))
    assert eeqs.solve(step, separated).status is eeqs.Status.STALLED


def test_frequency_weights_of_a_block_are_those_of_the_rows(numbers):
    repeated = numbers.loc[numbers.index.repeat(numbers["w"])]
    one = eeqs.stack(
        propensity=eeqs.weight(moments.logit("binary", ["x"]), "w", kind="frequency"),
        ate=weighting,
    )
    whole = eeqs.weight(weighted_stack(), "w", kind="frequency")
    reference = eeqs.estimate(weighted_stack(), repeated)
    for psi in (one, whole):
        fit = eeqs.estimate(psi, numbers)
        assert fit.nobs == len(repeated)
        assert_same_fit(fit, reference, 1e-8)


def test_conflicting_frequency_weights_are_refused(numbers):
    def counted(psi, column):
        return eeqs.weight(psi, column, kind="frequency")

    data = numbers.assign(v=1 + numbers["w"])
    with pytest.raises(eeqs.DataError, match="different frequency weights"):
        eeqs.solve(eeqs.stack(one=counted(moments.mean("y"), "w"), two=counted(moments.mean("x"), "v")), data)
    with pytest.raises(eeqs.PsiError, match='block "one" has frequency weights'):
        eeqs.stack(one=counted(moments.mean("y"), "w"), two=moments.quantile("x"))


def test_penalties_of_blocks_are_kept_apart_from_weights(numbers):
    ridge = eeqs.ridge(moments.least_squares("y", ["x", "z"]), 0.3)
    inside = eeqs.stack(line=eeqs.weight(ridge, "w"), m=eeqs.weight(moments.mean("x"), "w"))
    outside = eeqs.weight(eeqs.stack(line=ridge, m=moments.mean("x")), "w")
    one, other = eeqs.estimate(inside, numbers), eeqs.estimate(outside, numbers)
    assert_same_fit(one, other)
    alone = eeqs.estimate(eeqs.weight(ridge, "w"), numbers)
    np.testing.assert_allclose(one.params.iloc[:3], alone.params, rtol=1e-9)
    assert abs(one.params["line.x"] / eeqs.estimate(inside_without_penalty(), numbers).params["line.x"] - 1) > 0.05


def inside_without_penalty():
    return eeqs.stack(line=eeqs.weight(moments.least_squares("y", ["x", "z"]), "w"))


def test_a_numpy_block_can_come_first(numbers):
    line = eeqs.from_numpy(lambda theta, data: data["x"][:, None] - theta, names=("mean",), columns=("x",))
    psi = eeqs.stack(m=line, v=lambda theta, data, m: (data["x"] - m).square() - theta)
    assert psi.numerical
    assert_same_fit(eeqs.estimate(psi, numbers), eeqs.estimate(moments.variance("x"), numbers))


def test_formulas_side_by_side(frame):
    """Both formulas call their response the same; a text column stays away from the plain block."""
    labelled = frame.assign(half=np.where(frame["z"] > 0, "up", "down"))
    psi = eeqs.stack(
        propensity=moments.logit.from_formula("binary ~ x + C(half)", labelled),
        line=moments.least_squares.from_formula("y ~ x", labelled),
        gap=lambda theta, data, line: (data["y"] - line[0] - line[1] * data["x"]).square() - theta,
    )
    fit = eeqs.estimate(psi, labelled)
    coded = labelled.assign(up=(frame["z"] > 0).astype(float)).drop(columns=["firm", "half"])
    plain = eeqs.stack(
        propensity=moments.logit("binary", ["x", "up"]),
        line=moments.least_squares("y", ["x"]),
        gap=lambda theta, data, line: (data["y"] - line[0] - line[1] * data["x"]).square() - theta,
    )
    assert_same_fit(fit, eeqs.estimate(plain, coded))
    assert fit.names[2] == "propensity.C(half)[T.up]"
    with pytest.raises(eeqs.DataError, match='block "m" reads the unknown column "q"'):
        eeqs.estimate(eeqs.stack(line=psi, m=moments.mean("q")), labelled)
    with pytest.raises(eeqs.DataError, match="a formula needs named columns"):
        eeqs.estimate(psi, (frame["x"].to_numpy(),))


def test_stacks_nest(numbers):
    nested = eeqs.stack(first=weighted_stack(), share=moments.mean("binary"))
    fit = eeqs.estimate(nested, numbers)
    assert fit.names == ("first.propensity.Intercept", "first.propensity.x", "first.ate", "share.mean[binary]")
    np.testing.assert_allclose(fit.bse.iloc[:3], eeqs.estimate(weighted_stack(), numbers).bse, rtol=1e-9)
