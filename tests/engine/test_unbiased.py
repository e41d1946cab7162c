"""check_unbiased: its size, its power, what its columns mean, and the exact mode."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

import eeqs
from eeqs.engine.unbiased import _holm

SD = 2.0


def _normal(n, generator):
    return {"y": 3 + SD * torch.randn(n, generator=generator, dtype=torch.float64)}


def _pairs(n, generator):
    return {"pair": 3 + SD * torch.randn(n, 2, generator=generator, dtype=torch.float64)}


def _within_pair(denominator):
    """Variance from pairs: unbiased with denominator 1 = 2 - 1, half the variance with denominator 2."""

    def psi(theta, data):
        pair = data["pair"]
        centred = pair - pair.mean(-1, keepdim=True)
        return centred.square().sum(-1) / denominator - theta

    return psi


def _rejections(psi, theta, simulate, n, seeds, level):
    return sum(not eeqs.check_unbiased(psi, theta, simulate, n, level=level, seed=seed).passed for seed in seeds)


@pytest.mark.parametrize("p", [1, 6])
def test_size_is_at_most_the_level(p):
    """The overall and the component half share the level, so the size lies between half of it and all of it."""
    runs, level = 500, 0.1
    psi = eeqs.EstimatingFunction(lambda t, d: d["y"] - t)

    def simulate(n, generator):
        return {"y": torch.randn(n, p, generator=generator, dtype=torch.float64)}

    rejected = _rejections(psi, [0.0] * p, simulate, 400, range(runs), level)
    error = np.sqrt(level * (1 - level) * runs)
    assert level / 2 * runs - 4 * error < rejected < level * runs + 4 * error


def test_p_values_are_those_of_student_and_bonferroni():
    """One component: Hotelling is the t test. The two halves of the test share the level."""
    y = _normal(50, torch.Generator().manual_seed(3))["y"]
    report = eeqs.check_unbiased(eeqs.moments.mean("y"), [2.9], lambda n, g: {"y": y}, 50)  # noqa: ARG005
    student = stats.ttest_1samp(y.numpy(), 2.9)
    assert report.hotelling == pytest.approx(student.statistic**2, rel=1e-12)
    assert report.hotelling_p_value == pytest.approx(student.pvalue, rel=1e-10)
    assert report.table["z"].iloc[0] == pytest.approx(student.statistic, rel=1e-12)
    assert report.p_value == min(1, 2 * min(report.hotelling_p_value, report.table["p_adjusted"].min()))


def test_biased_psi_is_rejected_and_the_unbiased_twin_passes():
    assert eeqs.check_unbiased(_within_pair(1), [SD**2], _pairs).passed
    report = eeqs.check_unbiased(_within_pair(2), [SD**2], _pairs)
    assert not report.passed
    assert report.p_value < 1e-10
    assert "BIASED" in str(report)
    mean, error = report.table["mean"].iloc[0], report.table["mc_se"].iloc[0]
    assert abs(mean + SD**2 / 2) < 4 * error


def test_detectable_bias_is_found_nine_times_in_ten():
    n, runs = 400, 300
    # Each half of the test has level / 2: (z_{0.9875} + z_{0.9}) standard errors of the mean, with the true sd.
    exact = (2.2414 + 1.2816) * SD / np.sqrt(n)
    detectable = eeqs.check_unbiased(eeqs.moments.mean("y"), [3.0], _normal, 100 * n, level=0.05).table["detectable"]
    assert detectable.iloc[0] == pytest.approx(exact / 10, rel=4 / np.sqrt(2 * 100 * n))
    found = _rejections(eeqs.moments.mean("y"), [3.0 - exact], _normal, n, range(runs), 0.05)
    assert abs(found / runs - 0.9) < 4 * np.sqrt(0.9 * 0.1 / runs)
    half = _rejections(eeqs.moments.mean("y"), [3.0 - exact / 2], _normal, n, range(runs), 0.05)
    assert half / runs < 0.5


def test_implied_bias_is_the_bias_of_the_estimator():
    """psi = 2 (log y - theta) + 0.3 has bread -2, so its root is 0.15 above the mean of log y."""

    def simulate(n, generator):
        return {"y": torch.randn(n, generator=generator, dtype=torch.float64).exp()}

    def psi(theta, data):
        return 2 * (data["y"].log() - theta) + 0.3

    row = eeqs.check_unbiased(psi, [0.0], simulate).table.iloc[0]
    assert abs(row["implied_bias"] - 0.15) < 4 * row["implied_bias_se"]
    assert row["implied_bias_se"] == pytest.approx(1 / np.sqrt(100_000), rel=0.02)
    roots = [eeqs.solve(psi, simulate(1000, torch.Generator().manual_seed(s)), [0.0]).theta.item() for s in range(100)]
    assert abs(np.mean(roots) - row["implied_bias"]) < 4 * np.std(roots) / 10 + 4 * row["implied_bias_se"]


def test_implied_bias_is_missing_when_the_bread_is_singular():
    report = eeqs.check_unbiased(lambda t, d: d["y"] - 3 + 0 * t, [0.0], _normal, 1000)
    assert report.passed
    assert report.table["implied_bias"].isna().all()


def test_a_component_that_never_varies():
    """A constant zero is unbiased whatever the others do, and a constant one is not."""
    for constant, passed in ((0.0, True), (1e-12, False)):

        def psi(theta, data, constant=constant):
            return torch.stack([data["y"] - theta[0], 0 * data["y"] + constant], dim=1)

        assert eeqs.check_unbiased(psi, [3.0, 0.0], _normal, 2000).passed is passed


def test_collinear_components_are_tested_once():
    """Hotelling's statistic uses the directions in which psi varies."""

    def psi(theta, data):
        return torch.stack([data["y"] - theta[0], 2 * (data["y"] - theta[0])], dim=1)

    alone = eeqs.check_unbiased(eeqs.moments.mean("y"), [3.0], _normal, 2000)
    assert eeqs.check_unbiased(psi, [3.0, 0.0], _normal, 2000).hotelling == pytest.approx(alone.hotelling, rel=1e-9)


def test_chunks_change_memory_and_not_the_moments():
    """Every row is drawn from one generator in turn, so a chunked run sees the same numbers."""
    whole, chunked = (
        eeqs.check_unbiased(eeqs.moments.variance("y"), [3.0, SD**2], _sequential(), 3001, chunk=chunk)
        for chunk in (5000, 70)
    )
    np.testing.assert_allclose(chunked.table.to_numpy(), whole.table.to_numpy(), rtol=1e-9)
    assert chunked.hotelling == pytest.approx(whole.hotelling, rel=1e-9)
    assert chunked.n == whole.n == 3001


def _sequential():
    stream = iter(np.random.default_rng(5).normal(3, SD, size=3001))
    return lambda n, generator: {"y": np.array(list(itertools.islice(stream, n)))}  # noqa: ARG005


def test_seed_decides_the_numbers():
    one, same, other = (eeqs.check_unbiased(eeqs.moments.mean("y"), [3.0], _normal, 500, seed=s) for s in (1, 1, 2))
    assert one.table.equals(same.table)
    assert not one.table.equals(other.table)


def test_holm_adjustment():
    np.testing.assert_allclose(_holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(_holm(np.array([0.9, 0.8])), [1.0, 1.0])


def test_report_names_components():
    report = eeqs.check_unbiased(eeqs.moments.variance("y"), [3.0, SD**2], _normal, 1000)
    assert list(report.table.index) == ["mean[y]", "variance[y]"]
    for part in ("no bias found", "1000 simulated rows", "Hotelling T2", "variance[y]"):
        assert part in str(report)


DICE = {"y": torch.arange(1.0, 7.0)}
MULTINOMIAL = (
    {"y": [0.0, 1.0, 2.0], "x": [1.0, -1.0, 0.5]},
    [0.2, 0.3, 0.5],
)


@pytest.mark.parametrize(
    ("psi", "theta", "data", "probability", "unbiased"),
    [
        (eeqs.moments.mean("y"), [0.3], {"y": [0.0, 1.0]}, [0.7, 0.3], True),
        (eeqs.moments.mean("y"), [0.3 + 1e-9], {"y": [0.0, 1.0]}, [0.7, 0.3], False),
        (eeqs.moments.variance("y"), [3.5, 35 / 12], DICE, [1 / 6] * 6, True),
        (eeqs.moments.variance("y"), [3.5, 35 / 10], DICE, [1 / 6] * 6, False),
        (eeqs.moments.mean("y", "x"), [1.3, 0.15], *MULTINOMIAL, True),
        (eeqs.moments.logit("y", []), [np.log(3 / 7)], {"y": [0.0, 1.0]}, [0.7, 0.3], True),
        (eeqs.moments.quantile("y", 0.5), [3.0], DICE, [1 / 6] * 6, True),
        (eeqs.moments.mean("y"), [0.0], {"y": [0.0, 9.0]}, [1.0, 0.0], True),
    ],
)
def test_exact_mode_enumerates(psi, theta, data, probability, unbiased):
    report = eeqs.check_unbiased(psi, theta, eeqs.FiniteSupport(data, probability))
    assert report.passed is unbiased
    assert report.exact
    assert report.p_value == float(unbiased)
    assert f"by enumeration of {len(probability)} outcomes" in str(report)


@pytest.mark.parametrize("probability", [[0.5, 0.6], [1.5, -0.5], [[0.5, 0.5]], [np.nan, 1.0]])
def test_bad_probabilities_are_refused(probability):
    with pytest.raises(eeqs.DataError, match="probability must be a non-negative vector with sum 1"):
        eeqs.check_unbiased(eeqs.moments.mean("y"), [0.5], eeqs.FiniteSupport({"y": [0.0, 1.0]}, probability))


def test_support_and_probability_must_match():
    with pytest.raises(eeqs.DataError, match="2"):
        eeqs.check_unbiased(eeqs.moments.mean("y"), [0.5], eeqs.FiniteSupport({"y": [0.0, 1.0, 2.0]}, [0.5, 0.5]))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"level": 0}, "level is 0"), ({"level": 1.5}, "level is 1.5"), ({"n": 1}, "n = 1"), ({"chunk": 1}, "chunk = 1")],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        eeqs.check_unbiased(eeqs.moments.mean("y"), [3.0], _normal, **options)


def test_simulation_of_the_wrong_size():
    with pytest.raises(eeqs.DataError, match="499 rows where 500 were expected"):
        eeqs.check_unbiased(eeqs.moments.mean("y"), [3.0], lambda n, g: {"y": _normal(n, g)["y"][1:]}, 500)
