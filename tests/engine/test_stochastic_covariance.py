"""Online covariances: definitions summed over the whole path, published quantiles, simulated limits, planted errors."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

import eeqs
from eeqs.engine.online_covariance import OnlineCovariance
from eeqs.engine.pivotal import random_scaling_quantile, random_scaling_tail

STEP = eeqs.PowerStep(1.0, 0.6, delay=2)
# Abadir & Paruolo (1997), table I.
PUBLISHED = {0.9: 3.875, 0.95: 5.323, 0.975: 6.747, 0.99: 8.613}


def _path(steps: int, burn_in: int, size: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Iterates, scores and Jacobians of a least-squares run, in numpy."""
    rng = np.random.default_rng(4)
    design = np.stack([np.ones((steps, size)), rng.normal(size=(steps, size))], axis=-1)
    y = design @ [1.0, 2.0] + rng.normal(size=(steps, size))
    theta, iterates, scores, jacobians = np.zeros(2), [], [], []
    for t in range(steps):
        scores.append(design[t].T @ (y[t] - design[t] @ theta) / size)
        jacobians.append(-design[t].T @ design[t] / size)
        theta = theta + STEP(t + 1) * scores[-1]
        iterates.append(theta)
    fit = eeqs.stochastic(
        eeqs.moments.least_squares("y", ["x"]),
        ({"y": y[t], "x": design[t, :, 1]} for t in range(steps)),
        [0.0, 0.0],
        step=STEP,
        burn_in=burn_in,
        covariance=(RANDOM, EVERY, THIRD, BATCHES, LATER),
    )
    kept = slice(burn_in, None)
    return fit, np.array(iterates)[kept], np.array(scores)[kept], np.array(jacobians)[kept]


RANDOM, EVERY, THIRD = eeqs.RandomScaling(), eeqs.PlugIn(), eeqs.PlugIn(every=3)
BATCHES, LATER = eeqs.BatchMeans(growth=2.2), eeqs.BatchMeans(growth=1.5, first=2.5)


def test_random_scaling_is_the_sum_over_partial_means() -> None:
    fit, x, _, _ = _path(130, 10)
    count = np.arange(1, len(x) + 1)
    gaps = np.cumsum(x, axis=0) / count[:, None] - x.mean(axis=0)
    expected = (count[:, None] ** 2 * gaps).T @ gaps / len(x) ** 2
    np.testing.assert_allclose(fit.covariance(RANDOM) * len(x), expected, rtol=1e-9)
    half = PUBLISHED[0.975] * np.sqrt(np.diag(expected) / len(x))
    ends = np.stack([x.mean(axis=0) - half, x.mean(axis=0) + half], axis=1)
    np.testing.assert_allclose(fit.interval(0.95), ends, rtol=1e-4)


@pytest.mark.parametrize("method", [EVERY, THIRD], ids=["every step", "every third step"])
def test_plug_in_is_the_sandwich_of_running_means(method: eeqs.PlugIn) -> None:
    fit, x, scores, jacobians = _path(130, 10)
    inverse = np.linalg.inv(jacobians[:: method.every].mean(axis=0))
    expected = inverse @ (scores.T @ scores / len(x)) @ inverse.T / len(x)
    np.testing.assert_allclose(fit.covariance(method), expected, rtol=1e-10)
    half = stats.norm.ppf(0.95) * np.sqrt(np.diag(expected))
    np.testing.assert_allclose(fit.half_width(0.9, method), half, rtol=1e-10)


@pytest.mark.parametrize("method", [BATCHES, LATER], ids=["from one", "from another start"])
def test_batch_means_are_those_of_the_definition(method: eeqs.BatchMeans) -> None:
    fit, x, _, _ = _path(130, 10)
    starts = [int(np.floor(method.first * m**method.growth)) for m in range(1, 200)]
    products, lengths = np.zeros((2, 2)), 0
    for i in range(1, len(x) + 1):
        first = max([1] + [a for a in starts if a <= i])
        gap = x[first - 1 : i].sum(axis=0) - (i - first + 1) * x.mean(axis=0)
        products, lengths = products + np.outer(gap, gap), lengths + i - first + 1
    np.testing.assert_allclose(fit.covariance(method) * len(x), products / lengths, rtol=1e-9)


def test_a_path_far_from_zero_loses_no_digits() -> None:
    """The recursion is centred: around 1e6 the scale has the digits that the iterates have."""
    y = torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scales = []
    for level in (0.0, 1e6):
        batches = eeqs.minibatches({"y": level + y}, 1)
        scales.append(eeqs.stochastic(eeqs.moments.mean("y"), batches, [level], step=STEP).covariance())
    torch.testing.assert_close(scales[1], scales[0], rtol=1e-7, atol=0)


@pytest.mark.parametrize("probability", PUBLISHED)
def test_quantiles_are_the_published_ones(probability: float) -> None:
    assert random_scaling_quantile(probability) == pytest.approx(PUBLISHED[probability], abs=5e-4)
    assert random_scaling_tail(random_scaling_quantile(probability)) == pytest.approx(1 - probability, rel=1e-9)


def test_quantiles_by_simulation_of_the_limit() -> None:
    """Shares beyond the published quantiles in 20,000 walks of 400 steps, within 4 binomial standard errors."""
    walks = np.random.default_rng(0).normal(size=(20_000, 400)).cumsum(axis=1)
    end = walks[:, -1:]
    bridge = walks - end * np.arange(1, 401) / 400
    t = end[:, 0] / np.sqrt(400) / np.sqrt((bridge**2).mean(axis=1) / 400)
    for probability, quantile in PUBLISHED.items():
        tail = 2 * (1 - probability)
        assert np.mean(np.abs(t) > quantile) == pytest.approx(tail, abs=4 * np.sqrt(tail * (1 - tail) / 20_000))
    assert np.mean(np.abs(t) > stats.norm.ppf(0.975)) > 0.3  # what normal quantiles would do


def test_the_tail_starts_at_one_half_and_falls() -> None:
    tails = [random_scaling_tail(c) for c in (0.0, 1e-6, 0.5, 2.0, 10.0, 40.0)]
    assert tails[0] == 0.5
    assert tails[1] == pytest.approx(0.5, abs=1e-5)
    assert all(a > b > 0 for a, b in pairwise(tails))


@dataclass(frozen=True)
class NormalRandomScaling(eeqs.RandomScaling):
    """Planted error: the random scale taken for a variance."""

    @property
    def name(self) -> str:
        return "normal_random_scaling"

    def quantile(self, probability: float) -> float:
        return float(stats.norm.ppf(probability))


def _coverages(methods: tuple[OnlineCovariance, ...], replicates: int = 1000, steps: int = 1200) -> list[float]:
    """Coverage of a mean by the 95 % intervals of each method."""
    generator = torch.Generator().manual_seed(11)
    batches = ({"y": torch.randn(replicates, 1, generator=generator, dtype=torch.float64)} for _ in range(steps))
    fit = eeqs.stochastic(
        eeqs.moments.mean("y"), batches, torch.zeros(replicates, 1), step=eeqs.PowerStep(4.0, 0.51, delay=20),
        burn_in=100, covariance=methods,
    )  # fmt: skip
    ends = [fit.interval(0.95, method)[:, 0] for method in methods]
    return [float(((low < 0) & (high > 0)).double().mean()) for low, high in (end.unbind(-1) for end in ends)]


def test_intervals_cover_and_planted_normal_quantiles_do_not() -> None:
    """Within 4 standard errors of 95 % at 1,000 replicates; batch means, whose error falls slowly, are below."""
    random, plug_in, batch_means, planted = _coverages((RANDOM, EVERY, eeqs.BatchMeans(4.0), NormalRandomScaling()))
    error = np.sqrt(0.95 * 0.05 / 1000)
    assert random == pytest.approx(0.95, abs=4 * error)
    assert plug_in == pytest.approx(0.95, abs=4 * error)
    assert 0.7 < batch_means < 0.95 - 3 * error
    assert planted < 0.75


def test_a_singular_bread_is_named_for_one_run_and_nan_in_a_batch() -> None:
    def psi(theta: torch.Tensor, data: dict[str, torch.Tensor]) -> torch.Tensor:
        return (data["y"] - theta.sum())[:, None].expand(-1, 2)

    one = eeqs.stochastic(psi, ({"y": [float(i)]} for i in range(9)), [0.0, 0.0], covariance=(EVERY,))
    with pytest.raises(eeqs.SingularBreadError, match=r"theta\[0\], theta\[1\]"):
        one.interval()
    batches = ({"y": torch.full((2, 1), float(i))} for i in range(9))
    assert eeqs.stochastic(psi, batches, torch.zeros(2, 2), covariance=(EVERY,)).interval().isnan().all()


def test_questions_without_an_answer_are_refused() -> None:
    fit = eeqs.stochastic(eeqs.moments.mean("y"), ({"y": [float(i)]} for i in range(9)), [0.0])
    with pytest.raises(ValueError, match=r"did not keep PlugIn\(every=1\)"):
        fit.interval(method=EVERY)
    with pytest.raises(ValueError, match="level is 95"):
        fit.interval(95)
    bare = eeqs.stochastic(eeqs.moments.mean("y"), ({"y": [float(i)]} for i in range(9)), [0.0], covariance=())
    with pytest.raises(ValueError, match="kept no covariance"):
        bare.interval()
    early = eeqs.stochastic(eeqs.moments.mean("y"), ({"y": [float(i)]} for i in range(9)), [0.0], burn_in=20)
    assert early.status is eeqs.Status.UNSETTLED
    assert early.interval().isnan().all()
    assert torch.equal(early.theta, early.last)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: eeqs.BatchMeans(growth=1.0), "growth is 1.0"),
        (lambda: eeqs.BatchMeans(first=0.5), "first is 0.5"),
        (lambda: eeqs.PlugIn(every=0), "every is 0"),
        (lambda: random_scaling_quantile(0.5), "probability is 0.5"),
        (lambda: random_scaling_quantile(1.0), "probability is 1.0"),
        (lambda: random_scaling_tail(-1.0), "c is -1.0"),
    ],
)
def test_bad_settings_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
