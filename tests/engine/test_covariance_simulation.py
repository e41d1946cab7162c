"""Sampling and simulation parts of the variance of simulated psi with a known split."""

import numpy as np
import pytest
import torch

import eeqs

N = 1500


def _psi(theta, data):
    """Two equations on y and a draw z: the first has simulation variance 0.49 of 1.49, the second has none."""
    first = data["y"] + 0.7 * data["z"] - theta[0]
    return torch.stack([first, data["y"] ** 3 - theta[1]], dim=1)


def _redraw(data, generator):
    return {**data, "z": torch.randn(len(data["y"]), generator=generator, dtype=torch.float64)}


@pytest.fixture(scope="module")
def data():
    y = torch.randn(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return {"y": y, "z": torch.zeros(N, dtype=torch.float64)}


@pytest.fixture(scope="module")
def split(data):
    return eeqs.simulation_share(_psi, [0.0, 0.0], data, _redraw)


def _exact(data):
    """Sampling part given the observations, whose conditional means are known."""
    means = np.column_stack([data["y"], data["y"] ** 3])
    return means.T @ means / N


def test_parts_are_the_known_ones(split, data):
    error = split.sampling_error + 1e-12
    assert (np.abs(split.sampling - _exact(data)) < 4 * error).all(axis=None)
    assert abs(split.simulation.iloc[0, 0] - 0.49) < 4 * split.simulation_error.iloc[0, 0]
    assert split.simulation.iloc[1, 1] < 1e-25
    truth = 0.49 / (0.49 + _exact(data)[0, 0])
    assert abs(split.share.iloc[0] - truth) < 4 * split.share_error.iloc[0]
    assert split.share.iloc[1] == pytest.approx(0, abs=1e-25)


def test_parts_sum_to_the_meat_over_draws(split, data):
    """B of the two parts is the mean of the meats of the draws, exactly."""
    generator = torch.Generator().manual_seed(0)
    meats = [eeqs.meat(_psi, [0.0, 0.0], _redraw(data, generator)).numpy() for _ in range(20)]
    np.testing.assert_allclose(split.sampling + split.simulation, np.mean(meats, axis=0), rtol=1e-10)


def test_unbiased_with_the_reported_error():
    """Over 200 seeds the mean error is within 4 standard errors of zero, and its spread is the reported one.

    The spread of 200 values has relative error 1 / sqrt(400) = 5 %, and the jackknife of 5 draws a bias beside it.
    """
    small = {"y": torch.linspace(-1.5, 1.5, 80, dtype=torch.float64), "z": torch.zeros(80, dtype=torch.float64)}
    psi = lambda theta, data: data["y"] * (1 + data["z"]) - theta  # noqa: E731
    exact = float((small["y"] ** 2).mean())
    splits = [eeqs.simulation_share(psi, [0.0], small, _redraw, 5, seed=seed) for seed in range(200)]
    for part, error in (("sampling", "sampling_error"), ("simulation", "simulation_error")):
        off = np.array([getattr(one, part).iloc[0, 0] - exact for one in splits])
        reported = np.sqrt(np.mean([getattr(one, error).iloc[0, 0] ** 2 for one in splits]))
        assert abs(off.mean()) < 4 * off.std() / np.sqrt(200)
        assert reported / off.std() == pytest.approx(1, abs=0.3)


def test_planted_bias_of_the_naive_estimate_is_seen(data):
    """Without the correction by simulation / K the sampling part would be off by many standard errors."""
    split = eeqs.simulation_share(_psi, [0.0, 0.0], data, _redraw, 3)
    naive = split.sampling + split.simulation / 3
    assert naive.iloc[0, 0] - _exact(data)[0, 0] > 4 * split.sampling_error.iloc[0, 0]


def test_no_sampling_part_is_reported_as_positive_semi_definite():
    """Only noise: the unbiased sampling part falls below zero for some seeds, and the share never leaves [0, 1]."""
    data = {"y": torch.zeros(30, dtype=torch.float64), "z": torch.zeros(30, dtype=torch.float64)}
    psi = lambda t, d: torch.stack([d["z"] - t[0], 1e6 * d["z"] ** 3 - t[1]], 1)  # noqa: E731
    splits = [eeqs.simulation_share(psi, [0.0, 0.0], data, _redraw, 4, seed=seed) for seed in range(12)]
    lowest = [np.linalg.eigvalsh(one.sampling / np.outer([1, 1e6], [1, 1e6])).min() for one in splits]
    assert min(lowest) < -0.01
    for one in splits:
        clean = one.sampling_psd / np.outer([1, 1e6], [1, 1e6])
        assert np.linalg.eigvalsh(clean).min() > -1e-12
        assert one.share.between(0, 1).all()


def test_clusters_are_summed_first(data):
    """With pairs of rows that share y and draw anew, sampling doubles and simulation does not."""
    pairs = {"y": data["y"].repeat_interleave(2), "z": torch.zeros(2 * N, dtype=torch.float64)}
    by = np.arange(2 * N) // 2
    split = eeqs.simulation_share(_psi, [0.0, 0.0], pairs, _redraw, by=by)
    assert abs(split.sampling.iloc[0, 0] - 2 * _exact(data)[0, 0]) < 4 * split.sampling_error.iloc[0, 0]
    assert abs(split.simulation.iloc[0, 0] - 0.49) < 4 * split.simulation_error.iloc[0, 0]


def test_more_draws_leave_less_to_simulation():
    """An average of K draws has simulation variance 1 / K."""
    generator = torch.Generator().manual_seed(3)
    y = torch.randn(400, generator=generator, dtype=torch.float64)

    def split(draws):
        def redraw(data, source):
            return {**data, "z": torch.randn(400, draws, generator=source, dtype=torch.float64)}

        psi = lambda theta, data: (data["y"] - theta)[:, None] + data["z"].mean(1, keepdim=True)  # noqa: E731
        return eeqs.simulation_share(psi, [0.0], {"y": y, "z": y[:, None]}, redraw)

    few, many = split(2), split(8)
    assert few.simulation.iloc[0, 0] / many.simulation.iloc[0, 0] == pytest.approx(4, rel=0.25)


def _shrink(data, generator):
    size = int(torch.randint(5, 500, (1,), generator=generator))
    return {name: leaf[:size] for name, leaf in _redraw(data, generator).items()}


@pytest.mark.parametrize(
    ("redraw", "draws", "message"),
    [
        (_redraw, 2, "n_draws is 2"),
        (lambda data, generator: data, 5, "psi is the same under all draws"),  # noqa: ARG005
        (_shrink, 5, "it may change the draws only"),
    ],
)
def test_unusable_draws(data, redraw, draws, message):
    with pytest.raises(ValueError, match=message):
        eeqs.simulation_share(_psi, [0.0, 0.0], data, redraw, draws)
