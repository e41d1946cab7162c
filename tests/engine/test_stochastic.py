"""Stochastic approximation: closed forms, a second implementation, laws, failures as values, bad input."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import eeqs
from eeqs.engine.errors import Status

STEP = eeqs.PowerStep(0.7, 0.6, delay=3)
METHODS = (eeqs.RandomScaling(), eeqs.PlugIn(every=3), eeqs.BatchMeans(growth=2.5))
LOGIT = eeqs.moments.logit("y", ["x"])


def _numbers(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _binary(n: int, seed: int = 0) -> dict[str, Tensor]:
    x = _numbers(n, seed)
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return {"y": (uniform < torch.sigmoid(0.5 - x)).double(), "x": x}


def _reference(y: np.ndarray, x: np.ndarray, size: int, burn_in: int) -> tuple[np.ndarray, np.ndarray]:
    """Iterates (T, 2) of the logistic score and their mean past the burn-in, as a loop over numpy slices."""
    theta, iterates = np.zeros(2), []
    for t, first in enumerate(range(0, len(y), size), start=1):
        design = np.column_stack([np.ones(size), x[first : first + size]])
        score = design.T @ (y[first : first + size] - 1 / (1 + np.exp(-design @ theta))) / size
        theta = theta + 0.7 * (t + 3) ** -0.6 * score
        iterates.append(theta)
    return np.array(iterates), np.mean(iterates[burn_in:], axis=0)


def test_the_recursion_is_that_of_a_loop_in_numpy() -> None:
    data = _binary(600)
    fit = eeqs.stochastic(LOGIT, eeqs.minibatches(data, 6), [0.0, 0.0], step=STEP, burn_in=20, covariance=())
    iterates, mean = _reference(data["y"].numpy(), data["x"].numpy(), 6, 20)
    np.testing.assert_allclose(fit.last, iterates[-1], rtol=1e-12)
    np.testing.assert_allclose(fit.theta, mean, rtol=1e-12)
    assert (fit.steps, fit.averaged, fit.names) == (100, 80, ("Intercept", "x"))


def test_with_steps_of_one_over_t_the_last_iterate_of_a_mean_is_the_mean() -> None:
    y = _numbers(200)
    fit = eeqs.stochastic(
        eeqs.moments.mean("y"), eeqs.minibatches({"y": y}, 1), [5.0], step=lambda t: 1 / t, covariance=()
    )
    assert fit.last.item() == pytest.approx(y.mean().item(), rel=1e-12)
    assert fit.theta.item() == pytest.approx((y.cumsum(0) / torch.arange(1, 201)).mean().item(), rel=1e-12)


def test_the_averaged_iterate_of_a_mean_in_closed_form() -> None:
    """Iterate t weighs observation s by the step s times what later steps leave of it."""
    y, steps = _numbers(50), np.array([STEP(t) for t in range(1, 51)])
    weights = np.zeros((50, 50))
    for t in range(50):
        for s in range(t + 1):
            weights[t, s] = steps[s] * np.prod(1 - steps[s + 1 : t + 1])
    kept = np.cumprod(1 - steps)
    expected = np.mean(2.0 * kept + weights @ y.numpy())
    fit = eeqs.stochastic(eeqs.moments.mean("y"), eeqs.minibatches({"y": y}, 1), [2.0], step=STEP, covariance=())
    assert fit.theta.item() == pytest.approx(expected, rel=1e-12)


def test_averaging_reaches_the_precision_of_the_sample_mean_and_the_last_iterate_does_not() -> None:
    """With 400 replicates the ratio of two standard deviations has a standard error below 5 %."""
    replicates, steps = 400, 2000
    generator = torch.Generator().manual_seed(3)
    batches = ({"y": torch.randn(replicates, 1, generator=generator, dtype=torch.float64)} for _ in range(steps))
    start = torch.zeros(replicates, 1)
    fit = eeqs.stochastic(eeqs.moments.mean("y"), batches, start, step=eeqs.PowerStep(1.0, 0.6), burn_in=100)
    ideal = fit.averaged**-0.5
    assert fit.theta.std().item() == pytest.approx(ideal, rel=0.2)
    assert fit.last.std().item() > 3 * ideal
    assert fit.converged.all()


def test_replicates_are_runs_of_their_own() -> None:
    data = [_binary(60, seed) for seed in (10, 20, 30)]
    stacked = {name: torch.stack([one[name] for one in data]).split(4, dim=1) for name in data[0]}
    batches = [{"y": y, "x": x} for y, x in zip(stacked["y"], stacked["x"], strict=True)]
    options = {"step": STEP, "covariance": METHODS, "burn_in": 2, "precondition": [[2.0, 0.5], [0.0, 3.0]], "clip": 0.4}
    together = eeqs.stochastic(LOGIT, iter(batches), torch.zeros(3, 2), **options)
    for r, one in enumerate(data):
        alone = eeqs.stochastic(LOGIT, eeqs.minibatches(one, 4), [0.0, 0.0], **options)
        torch.testing.assert_close(together.theta[r], alone.theta, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(together.residual_norm[r], alone.residual_norm, rtol=1e-10, atol=1e-12)
        for method in METHODS:
            torch.testing.assert_close(
                together.interval(0.9, method)[r], alone.interval(0.9, method), rtol=1e-8, atol=1e-10
            )


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(1, 39), burn_in=st.integers(0, 30))
def test_two_legs_give_the_bits_of_one_run(cut: int, burn_in: int) -> None:
    data = _binary(200)
    options = {"step": STEP, "covariance": METHODS, "burn_in": burn_in}
    whole = eeqs.stochastic(LOGIT, eeqs.minibatches(data, 5), [0.0, 0.0], **options)
    batches = eeqs.minibatches(data, 5)
    first = eeqs.stochastic(LOGIT, batches, [0.0, 0.0], steps=cut, **options)
    second = eeqs.stochastic(LOGIT, batches, resume=first.state, **options)
    assert second.state.keys() == whole.state.keys()
    assert all(torch.equal(value, whole.state[name]) for name, value in second.state.items())
    assert (first.steps, second.steps) == (cut, 40)


def test_the_state_is_plain_tensors_of_a_size_that_does_not_grow(tmp_path) -> None:
    fits = [
        eeqs.stochastic(LOGIT, eeqs.minibatches(_binary(n), 5), [0.0, 0.0], step=STEP, covariance=METHODS)
        for n in (50, 500)
    ]
    sizes = [{name: value.shape for name, value in fit.state.items()} for fit in fits]
    assert sizes[0] == sizes[1]
    storages = [value.untyped_storage().data_ptr() for value in fits[0].state.values()]
    assert len(set(storages)) == len(storages)  # as safetensors asks: no memory in common
    torch.save(fits[0].state, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    more = [eeqs.minibatches(_binary(50, 7), 5) for _ in range(2)]
    again = eeqs.stochastic(LOGIT, more[0], resume=loaded, step=STEP, covariance=METHODS)
    here = eeqs.stochastic(LOGIT, more[1], resume=fits[0].state, step=STEP, covariance=METHODS)
    assert torch.equal(again.interval(), here.interval())


@settings(max_examples=12, deadline=None)
@given(scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_least_squares_is_affine_equivariant(scale: float, shift: float) -> None:
    """Of y in other units, started at the moved start, iterates and intervals of all methods move along."""
    x, noise = _numbers(120, 1), _numbers(120, 2)
    psi = eeqs.moments.least_squares("y", ["x"])
    fits = []
    for a, b in ((1.0, 0.0), (scale, shift)):
        data = {"y": b + a * (1 + 2 * x + noise), "x": x}
        fits.append(eeqs.stochastic(psi, eeqs.minibatches(data, 4), [b, 0.0], step=STEP, covariance=METHODS))
    move = torch.tensor([shift, 0.0], dtype=torch.float64)
    torch.testing.assert_close(fits[1].theta, scale * fits[0].theta + move, rtol=1e-8, atol=1e-8)
    for method in METHODS:
        ends = scale * fits[0].interval(0.95, method) + move[:, None]
        torch.testing.assert_close(fits[1].interval(0.95, method), ends, rtol=1e-7, atol=1e-7)


def test_a_linear_change_of_parameters_with_its_preconditioner_changes_nothing_else() -> None:
    """For theta = M phi the recursion in phi with H = (M^T M)^-1 is that in theta with H = 1."""
    matrix = torch.tensor([[2.0, 1.0], [0.0, 0.5]], dtype=torch.float64)
    data = _binary(200)

    def moved(phi: Tensor, rows: tuple[Tensor, Tensor]) -> Tensor:
        return LOGIT.psi(matrix @ phi, rows) @ matrix

    psi = eeqs.EstimatingFunction(moved, LOGIT.names, LOGIT.columns, LOGIT.prepare)
    inverse = torch.linalg.inv(matrix)
    theta = eeqs.stochastic(LOGIT, eeqs.minibatches(data, 5), [0.0, 0.0], step=STEP, covariance=METHODS)
    phi = eeqs.stochastic(
        psi, eeqs.minibatches(data, 5), [0.0, 0.0], step=STEP, covariance=METHODS, precondition=inverse @ inverse.T
    )
    torch.testing.assert_close(matrix @ phi.theta, theta.theta, rtol=1e-10, atol=1e-12)
    for method in METHODS:
        expected = inverse @ theta.covariance(method) @ inverse.T
        torch.testing.assert_close(phi.covariance(method), expected, rtol=1e-7, atol=1e-10)


def test_a_run_that_leaves_the_bound_is_diverged_and_the_others_go_on() -> None:
    batches = ({"y": torch.ones(2, 1), "s": torch.tensor([[1.0], [-1.0]])} for _ in range(200))

    def psi(theta: Tensor, data: dict[str, Tensor]) -> Tensor:
        return (data["s"] * (data["y"] - theta))[:, None]

    fit = eeqs.stochastic(psi, batches, [[0.0], [0.0]], step=eeqs.PowerStep(3.0, 0.55), bound=1e3)
    assert fit.status == (Status.CONVERGED, Status.DIVERGED)
    assert fit.theta[0].item() == pytest.approx(1.0, abs=0.2)
    assert fit.theta[1].abs().item() <= 1e3
    assert fit.interval()[1].isnan().all()
    assert fit.interval()[0].isfinite().all()
    assert fit.converged.tolist() == [True, False]
    assert repr(fit) == "StochasticEstimate(2 replicates, steps=200, averaged=200, 1 failed)"


def test_one_run_stops_where_it_diverges_and_raises_on_request() -> None:
    batches = ({"y": torch.ones(1)} for _ in range(1000))
    options = {"step": lambda _: 2.5, "bound": 100.0}
    fit = eeqs.stochastic(eeqs.moments.mean("y"), batches, [0.0], **options)
    assert fit.status is Status.DIVERGED
    assert fit.steps < 30
    assert "lower the first step" in fit.status.text
    with pytest.raises(eeqs.SolverError, match=r"diverged: .*clip or project"):
        eeqs.stochastic(eeqs.moments.mean("y"), ({"y": torch.ones(1)} for _ in range(99)), [0.0], throw=True, **options)


def test_psi_that_is_not_finite_is_another_failure() -> None:
    batches = ({"y": torch.full((2, 1), 1.0)} for _ in range(50))
    start = torch.tensor([[1.0], [-1.0]])
    fit = eeqs.stochastic(lambda t, d: (d["y"] - torch.log(t))[:, None], batches, start)
    assert fit.status == (Status.CONVERGED if fit.residual_norm[0] <= 4 else Status.UNSETTLED, Status.NON_FINITE)
    assert torch.equal(fit.theta[1], start[1].double())


def test_a_run_that_still_drifts_is_unsettled() -> None:
    """From 100 standard deviations away the mean of psi stays of one sign; a preconditioner is the remedy named."""
    data = {"y": 100 + _numbers(400)}
    slow = eeqs.stochastic(eeqs.moments.mean("y"), eeqs.minibatches(data, 4), [0.0], step=eeqs.PowerStep(0.01))
    assert slow.status is Status.UNSETTLED
    assert slow.residual_norm > 9
    assert "precondition" in slow.status.text
    fast = eeqs.stochastic(
        eeqs.moments.mean("y"), eeqs.minibatches(data, 4), [0.0], step=eeqs.PowerStep(0.01), precondition=[100.0],
        burn_in=20,
    )  # fmt: skip
    assert fast.converged
    assert fast.residual_norm < 4


def test_projection_and_clipping_hold_an_iterate_back() -> None:
    data = {"y": 100 + _numbers(40)}
    psi, step = eeqs.moments.mean("y"), eeqs.PowerStep(1.0, 0.6)
    boxed = eeqs.stochastic(psi, eeqs.minibatches(data, 1), [0.0], step=step, project=lambda t: t.clamp(-5, 5))
    assert boxed.last.item() == 5
    clipped = eeqs.stochastic(psi, eeqs.minibatches(data, 1), [0.0], step=step, clip=0.25, steps=8)
    assert clipped.last.item() == pytest.approx(2.0)
    free = [eeqs.stochastic(psi, eeqs.minibatches(data, 1), [0.0], step=step, clip=c) for c in (1e6, float("inf"))]
    assert torch.equal(free[0].theta, free[1].theta)


def test_exactly_as_many_batches_are_taken_as_steps_are_made() -> None:
    taken = []
    batches = (taken.append(i) or {"y": [float(i)]} for i in range(100))
    eeqs.stochastic(eeqs.moments.mean("y"), batches, [0.0], steps=7)
    assert len(taken) == 7


def test_minibatches_hold_every_row_once_a_pass() -> None:
    data = pd.DataFrame({"a": np.arange(10.0), "b": np.arange(10.0) ** 2})
    plain = list(eeqs.minibatches(data, 4))
    assert [len(batch["a"]) for batch in plain] == [4, 4, 2]
    assert torch.cat([batch["a"] for batch in plain]).tolist() == list(range(10))
    shuffled = list(eeqs.minibatches(data, 4, generator=torch.Generator().manual_seed(0), passes=2))
    rows = torch.cat([batch["a"] for batch in shuffled]).split(10)
    assert [sorted(part.tolist()) for part in rows] == [list(range(10))] * 2
    assert rows[0].tolist() != rows[1].tolist() != list(range(10))
    assert all(torch.equal(batch["b"], batch["a"].square()) for batch in shuffled)
    assert isinstance(next(eeqs.minibatches((np.ones(3), np.ones(3)), 2)), tuple)


BAD: dict[str, tuple[type[Exception], str, dict]] = {
    "arrays": (eeqs.DataError, "eeqs.minibatches", {"batches": {"y": torch.ones(3)}}),
    "nothing": (eeqs.DataError, "no batches", {"batches": iter(())}),
    "not iterable": (eeqs.DataError, "pass an iterable", {"batches": 3}),
    "bad row": (eeqs.DataError, "in batch 1: .*NaN", {"batches": iter([{"y": [1.0]}, {"y": [float("nan")]}])}),
    "start length": (eeqs.PsiError, "length 2", {"start": [0.0, 0.0]}),
    "no start": (eeqs.PsiError, "theta0 is missing", {"psi": lambda t, d: (d["y"] - t)[:, None], "start": None}),
    "shape of psi": (eeqs.PsiError, "returned shape", {"psi": lambda t, d: (d["y"] - t).repeat(2)[:, None]}),
    "counts": (
        eeqs.PsiError,
        "frequency weights",
        {"psi": eeqs.weight(eeqs.moments.mean("y"), "w", kind="frequency")},
    ),
    "steps": (ValueError, "steps is 0", {"steps": 0}),
    "burn-in": (ValueError, "burn_in is -1", {"burn_in": -1}),
    "clip": (ValueError, "clip is 0", {"clip": 0.0}),
    "bound": (ValueError, "bound is -1", {"bound": -1.0}),
    "tolerance": (ValueError, "tolerance is nan", {"tolerance": float("nan")}),
    "negative step": (ValueError, r"step\(1\) is -1", {"step": lambda t: -t}),
    "preconditioner": (ValueError, r"shape \(2, 2\)", {"precondition": torch.eye(2)}),
    "projection": (ValueError, "project must return", {"project": lambda t: t.sum()}),
    "method twice": (ValueError, "a method twice", {"covariance": (eeqs.PlugIn(), eeqs.PlugIn())}),
    "start and resume": (ValueError, "leave start out", {"resume": {"theta": torch.zeros(1)}}),
    "empty state": (ValueError, "holds no theta", {"resume": {}, "start": None}),
    "other state": (ValueError, "the same covariance", {"resume": {"theta": torch.zeros(1)}, "start": None}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case: str) -> None:
    error, message, change = BAD[case]
    good = {"psi": eeqs.moments.mean("y"), "batches": iter([{"y": [1.0], "w": [1.0]}] * 3), "start": [0.0]}
    with pytest.raises(error, match=message):
        eeqs.stochastic(**(good | change))


def test_a_state_of_another_shape_is_refused() -> None:
    psi, batch = eeqs.moments.mean("y"), {"y": torch.ones(3, 1)}
    state = eeqs.stochastic(psi, iter([batch]), torch.zeros(3, 1)).state
    with pytest.raises(ValueError, match='"mean" of the state to resume'):
        eeqs.stochastic(psi, iter([batch]), resume=state | {"mean": torch.zeros(2, 1)})
    with pytest.raises(eeqs.DataError, match="2 replicates"):
        eeqs.stochastic(psi, iter([batch, {"y": torch.ones(2, 1)}]), torch.zeros(3, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: eeqs.PowerStep(1.0, 0.5), "exponent is 0.5"),
        (lambda: eeqs.PowerStep(1.0, 1.0), "exponent is 1.0"),
        (lambda: eeqs.PowerStep(-1.0), "first = -1.0"),
        (lambda: eeqs.PowerStep(1.0, delay=-1), "delay = -1"),
        (lambda: eeqs.minibatches({"y": [1.0]}, 0), "size = 0"),
        (lambda: eeqs.minibatches({"y": [1.0]}, 1, passes=0), "passes = 0"),
        (lambda: eeqs.minibatches({"y": ["a"]}, 1), "not numeric"),
    ],
)
def test_bad_settings_are_refused_when_they_are_made(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
