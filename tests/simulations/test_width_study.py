"""The study ``width``: its grid and rows, the teacher's moments, and both learners against references."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from simulations.designs.network_path import NetworkPath
from simulations.designs.random_features import RandomFeatures
from simulations.designs.relu_teacher import ReluTeacher
from simulations.runner import tabulate
from simulations.seeds import replicate_seed, torch_generator
from simulations.studies.width import STUDY, Width
from simulations.study import Cell, Preset, check_cells

SMALL = replace(STUDY, learners={"network": NetworkPath(steps=20), "random_features": RandomFeatures()})
DIM = STUDY.design.dim


def _cell(learner: str, n: int = 40, ratio: float = 0.5, replicates: int = 3, batch: int = 3) -> Cell:
    return Cell(STUDY.name, {"learner": learner, "n": n, "ratio": ratio}, replicates, batch, stream=f"n={n}")


def _data(n: int, replicates: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = zip(*(STUDY.design.sample(n, torch.Generator().manual_seed(r)) for r in range(replicates)), strict=True)
    return torch.stack(x), torch.stack(y)


def _generators(replicates: int = 2) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(100 + r) for r in range(replicates)]


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells, size = STUDY.cells(preset), STUDY.sizes[preset]
    check_cells(STUDY.name, cells)
    grid = pd.DataFrame([cell.parameters for cell in cells])
    for learner in STUDY.learners:
        sweep = grid[(grid["learner"] == learner) & (grid["n"] == size.sweep_size)]
        assert sweep["ratio"].min() <= 0.1
        assert sweep["ratio"].max() == 50
    assert len([n for n in size.sizes if n >= size.burn_in]) >= 3
    assert {(cell.parameters["n"], cell.stream) for cell in cells} == {(n, f"n={n}") for n in set(grid["n"])}


@pytest.mark.parametrize("learner", list(STUDY.learners))
def test_rows_pass_the_schema_and_do_not_depend_on_their_batch(learner: str) -> None:
    together = tabulate(SMALL, [_cell(learner)])
    alone = tabulate(SMALL, [_cell(learner, batch=1)])
    assert list(together["parameter"].unique()) == ["regularised", "unregularised"]
    assert (together["status"] == "converged").all()
    assert together.groupby("parameter")["estimate"].nunique().eq(3).all()
    np.testing.assert_allclose(together["estimate"], alone["estimate"], rtol=1e-4 if learner == "network" else 1e-8)


def test_cells_of_one_size_share_their_observations() -> None:
    samples = []

    class Recording(NetworkPath):
        def fit(self, train, *rest):  # type: ignore[no-untyped-def]
            samples.append(train)
            return super().fit(train, *rest)

    study: Width = replace(SMALL, learners={"network": Recording(steps=1)})
    tabulate(study, [_cell("network", ratio=0.1), _cell("network", ratio=1.0)])
    assert all(torch.equal(one, other) for one, other in zip(*samples, strict=True))


def test_a_fit_that_is_not_finite_is_a_failure() -> None:
    study = replace(SMALL, learners={"network": NetworkPath(steps=200, rate=1e4)})
    table = tabulate(study, [_cell("network")])
    assert set(table.loc[table["parameter"] == "unregularised", "status"]) == {"diverged"}


def test_the_teacher_has_mean_zero_and_variance_one() -> None:
    x = torch.randn(400_000, DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    values = STUDY.design.target(x)
    # Four standard errors.
    assert abs(float(values.mean())) < 4 / len(x) ** 0.5
    assert abs(float(values.square().mean()) - 1) < 4 * float(values.square().std()) / len(x) ** 0.5


def test_responses_are_the_target_and_noise() -> None:
    x, y = STUDY.design.sample(100_000, torch.Generator().manual_seed(4))
    noise = y - STUDY.design.target(x)
    assert float(noise.std()) == pytest.approx(STUDY.design.noise, abs=4 * STUDY.design.noise / (2 * len(y)) ** 0.5)


def _network(points: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    with_one = torch.cat([points, torch.ones(len(points), 1, dtype=torch.float64)], dim=1)
    return (2 / len(weights[1])) ** 0.5 * (with_one @ weights[0]).relu() @ weights[1]


def test_one_update_is_a_gradient_step() -> None:
    """The path's first update against autograd on the function as the docstring writes it."""
    path, (x, y), width = NetworkPath(steps=1, momentum=0.0), _data(30), 8
    test = STUDY.design.test_inputs()[:50]
    _, last = path.fit((x, y), (x, y), test, width, _generators(), torch.lt)
    for r, generator in enumerate(_generators()):
        normals = torch.randn(DIM + 2, width // 2, generator=generator).double()
        hidden, output = normals[:-1] / (DIM + 1) ** 0.5, normals[-1]
        weights = [torch.cat([hidden, hidden], 1).requires_grad_(), torch.cat([output, -output]).requires_grad_()]
        gradients = torch.autograd.grad((_network(x[r], weights) - y[r]).square().mean() / 2, weights)
        moved = [part - path.rate * gradient for part, gradient in zip(weights, gradients, strict=True)]
        torch.testing.assert_close(last[r].double(), _network(test, moved).detach(), rtol=1e-4, atol=1e-5)


def test_a_network_starts_at_zero_and_fits_its_sample() -> None:
    x, y = _data(20)
    none, _ = NetworkPath(steps=0).fit((x, y), (x, y), x[0], 64, _generators(), torch.lt)
    assert float(none.abs().max()) < 1e-5
    _, end = NetworkPath(steps=2000).fit((x, y), (x, y), x[0], 256, _generators(), torch.lt)
    assert float((end[0] - y[0]).square().mean()) < 0.01 * float(y[0].square().mean())


@pytest.mark.parametrize("width", [5, 12, 40])
def test_random_features_are_least_squares_and_the_minimum_norm(width: int) -> None:
    (x, y), test = _data(12), STUDY.design.test_inputs()[:30]
    _, last = RandomFeatures().fit((x, y), (x, y), test, width, _generators(), torch.lt)
    for r, generator in enumerate(_generators()):
        first = torch.randn(DIM + 1, width, generator=generator, dtype=torch.float64).numpy() / (DIM + 1) ** 0.5
        design, points = (np.maximum(part.numpy() @ first[:-1] + first[-1], 0) / width**0.5 for part in (x[r], test))
        coefficients = np.linalg.pinv(design) @ y[r].numpy()
        np.testing.assert_allclose(last[r].numpy(), points @ coefficients, rtol=1e-5, atol=1e-6)


def test_the_chosen_penalty_has_the_least_validation_error() -> None:
    (x, y), held, width = _data(15, 1), _data(500, 1), 20
    held = held[0].flip(1), held[1].flip(1)
    errors = []
    for penalty in RandomFeatures().penalties:
        alone = RandomFeatures(penalties=(penalty, 0.0) if penalty else (0.0,))
        first, _ = alone.fit((x, y), held, held[0][0], width, _generators(1), lambda error, _: error < 0)
        errors.append(float((first - held[1]).square().mean()))
    chosen, last = RandomFeatures().fit((x, y), held, held[0][0], width, _generators(1), torch.lt)
    assert float((chosen - held[1]).square().mean()) == pytest.approx(min(errors), rel=1e-9)
    assert float((last - held[1]).square().mean()) == pytest.approx(errors[-1], rel=1e-9)
    assert 0 < int(np.argmin(errors)) < len(errors) - 1


def test_bad_input_is_refused() -> None:
    x, y = _data(10)
    for learner, width in ((NetworkPath(), 3), (NetworkPath(), 0), (RandomFeatures(), 0)):
        with pytest.raises(ValueError, match=f"width is {width}"):
            learner.fit((x, y), (x, y), x[0], width, _generators(), torch.lt)
    for penalties in ((), (1.0,), (0.0, 1.0), (1.0, 1.0, 0.0)):
        with pytest.raises(ValueError, match="penalties"):
            RandomFeatures(penalties=penalties)
    for bad in ({"dim": 0}, {"units": 0}, {"test_points": 0}, {"noise": 0.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ReluTeacher(**bad)


def test_seeds_of_replicates_give_different_samples() -> None:
    one, other = (STUDY.design.sample(5, torch_generator(replicate_seed(0, "n=5", r)))[0] for r in range(2))
    assert not torch.equal(one, other)
