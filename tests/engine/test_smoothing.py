"""Induced smoothing of psi with jumps, against exact quantiles and simulated standard errors."""

import numpy as np
import pytest
import torch

import eeqs


def _median(theta, data):
    return (0.5 - (data["y"] <= theta).double())[:, None]


def _median_regression(theta, data):
    design = torch.stack([torch.ones_like(data["x"]), data["x"]], dim=1)
    return (0.5 - (data["y"] <= design @ theta).double())[:, None] * design


def _rank(theta, data):
    """Signed-rank score, whose root is the median of the Walsh averages (Hodges & Lehmann 1963)."""
    centred = data["y"] - theta
    return (centred.sign() * centred.abs().argsort().argsort().double())[:, None]


@pytest.fixture
def line(generator):
    x = torch.randn(800, generator=generator, dtype=torch.float64)
    noise = torch.randn(800, generator=generator, dtype=torch.float64)
    return {"x": x, "y": 1 + 2 * x + noise * (1 + 0.5 * x.abs())}


def test_agrees_with_the_exact_median_regression(line):
    """The smoothed root differs from the exact one at second order only: within a tenth of a standard error."""
    smooth = eeqs.estimate(eeqs.induced_smoothing(_median_regression, [0.0, 0.0], [1.0, 1.0]), line)
    exact = eeqs.estimate(eeqs.moments.quantile("y", 0.5, ["x"]), line)
    gap = np.abs(smooth.params.to_numpy() - exact.params.to_numpy())
    assert (gap < 0.2 * exact.bse.to_numpy()).all()
    assert smooth.solution.residual_norm == 0.0


@pytest.mark.parametrize("start", [-40.0, 0.1, 30.0])
def test_finds_the_median_from_far_away(generator, start):
    y = 3 + torch.randn(501, generator=generator, dtype=torch.float64)
    fit = eeqs.estimate(eeqs.induced_smoothing(_median, [start], [20.0], names=["median"]), {"y": y})
    assert abs(fit.params["median"] - float(y.median())) < 0.3 * fit.bse["median"]


def test_standard_errors_are_those_of_repeated_samples():
    """The median of n normals has variance pi / (2 n): 120 fits give its root to 7 %, and their mean to 2 %."""
    replicates, n = 120, 400
    rng = np.random.default_rng(3)
    psi = eeqs.induced_smoothing(_median, [0.0], [1.0])
    fits = [eeqs.estimate(psi, {"y": rng.normal(size=n)}) for _ in range(replicates)]
    errors = np.array([fit.bse.iloc[0] for fit in fits])
    truth = np.sqrt(np.pi / (2 * n))
    assert abs(errors.mean() - truth) < 4 * errors.std() / np.sqrt(replicates) + 0.03 * truth  # bias of order 1/sqrt(n)
    spread = np.std([fit.params.iloc[0] for fit in fits], ddof=1)
    assert abs(spread - truth) < 4 * truth / np.sqrt(2 * replicates)
    # A bread of the wrong size would be seen.
    assert abs(1.5 * errors.mean() - truth) > 4 * errors.std() / np.sqrt(replicates) + 0.03 * truth


def test_rank_score_gives_the_hodges_lehmann_estimate(generator):
    y = 1 + torch.randn(151, generator=generator, dtype=torch.float64)
    walsh = ((y[:, None] + y[None, :]) / 2)[torch.triu_indices(151, 151).unbind()]
    fit = eeqs.estimate(eeqs.induced_smoothing(_rank, [0.0], [1.0]), {"y": y})
    assert abs(fit.params.iloc[0] - float(walsh.median())) < 0.1 * fit.bse.iloc[0]


def test_units_do_not_matter(line):
    psi = eeqs.induced_smoothing(_median, [0.0], [1.0])
    scaled = eeqs.induced_smoothing(_median, [0.0], [1e6])
    one = eeqs.estimate(psi, {"y": line["y"]})
    other = eeqs.estimate(scaled, {"y": 1e6 * line["y"]})
    np.testing.assert_allclose(other.params / 1e6, one.params, rtol=1e-9)
    np.testing.assert_allclose(other.bse / 1e6, one.bse, rtol=1e-9)


def test_no_root_is_said():
    psi = eeqs.induced_smoothing(lambda t, d: 2.0 + (d["y"] <= t).double(), [0.0], [1.0])
    with pytest.raises(eeqs.SolverError, match="stalled"):
        eeqs.estimate(psi, {"y": np.arange(50.0)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0], [1.0, 1.0]), "start has 1 values and scale 2"),
        (([0.0], [0.0]), "scales above zero"),
        (([0.0], [1.0], 100), "n_nodes is 100"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    start, scale, *nodes = arguments
    with pytest.raises(eeqs.PsiError, match=message):
        eeqs.induced_smoothing(_median, start, scale, **({"n_nodes": nodes[0]} if nodes else {}))


def test_a_psi_with_its_own_root_finder_is_refused():
    with pytest.raises(eeqs.PsiError, match="root finder of its own"):
        eeqs.induced_smoothing(eeqs.moments.quantile("y"), [0.0], [1.0])
