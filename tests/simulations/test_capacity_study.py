"""The study ``capacity``: its grid and rows, the truth, and the batched training against the library's own model."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from eeqs.marginal import Score, cross_fitted, plug_in, single_draw
from simulations.designs.hidden_noise import HiddenNoise
from simulations.designs.joint_training import Equations, JointTraining
from simulations.designs.random_kernel import RandomKernel
from simulations.runner import tabulate
from simulations.seeds import replicate_seed, torch_generator
from simulations.studies.capacity import STUDY
from simulations.study import Cell, Preset, check_cells

SMALL = replace(STUDY, training=JointTraining(steps=8), design=HiddenNoise(test_points=40))
DESIGN = SMALL.design


def _cell(method: str, batch: int = 3, ratio: float = 0.5, n: int = 20) -> Cell:
    return Cell(STUDY.name, {"method": method, "n": n, "ratio": ratio}, 3, batch, stream=f"n={n}")


def _sample(n: int = 20, replicates: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = zip(*(DESIGN.sample(n, torch.Generator().manual_seed(r)) for r in range(replicates)), strict=True)
    return torch.stack(x), torch.stack(y)


def _generators(replicates: int = 2) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(50 + r) for r in range(replicates)]


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells, size = STUDY.cells(preset), STUDY.sizes[preset]
    check_cells(STUDY.name, cells)
    grid = pd.DataFrame([cell.parameters for cell in cells])
    for method in STUDY.methods:
        line = grid[(grid["method"] == method) & (grid["n"] == size.n)]
        assert line["ratio"].min() <= 0.05
        assert line["ratio"].max() == 20
    assert set(grid.loc[grid["n"] != size.n, "method"]) == {"in_sample"}
    assert {cell.stream for cell in cells} == {f"n={n}" for n in (size.n, *size.crossover_sizes)}


@pytest.mark.parametrize("method", list(STUDY.methods))
def test_rows_pass_the_schema_and_do_not_depend_on_their_batch(method: str) -> None:
    together, alone = (tabulate(SMALL, [_cell(method, batch)]) for batch in (3, 1))
    assert (together["status"] == "converged").all()
    np.testing.assert_allclose(together["estimate"], alone["estimate"], rtol=1e-4)
    scale, loss = (together[together["parameter"] == name] for name in ("scale", "loss"))
    assert (scale["truth"] == DESIGN.scale).all()
    assert (loss["truth"] == DESIGN.entropy).all()
    assert (loss["estimate"] > loss["truth"]).all()
    assert (scale["estimate"] == 0).all() == (method == "plain")


def test_training_that_leaves_the_numbers_is_a_failure() -> None:
    table = tabulate(replace(SMALL, training=JointTraining(steps=8, rate=math.inf)), [_cell("in_sample")])
    assert set(table["status"]) == {"diverged"}


def test_the_true_probabilities_agree_with_the_sampled_classes() -> None:
    x = DESIGN.test[0][:1].expand(60_000, -1)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    p = DESIGN.probabilities(x + DESIGN.scale * z)
    # Four standard errors of the Monte Carlo mean.
    assert ((p.mean(dim=0) - DESIGN.test[1][0]).abs() < 4 * p.std(dim=0) / len(p) ** 0.5).all()
    x, y = DESIGN.sample(60_000, torch.Generator().manual_seed(2))
    mean = DESIGN.probabilities(x + DESIGN.scale * z).mean(dim=0)
    share = torch.bincount(y, minlength=DESIGN.classes) / len(y)
    assert ((share - mean).abs() < 4 * (2 * mean * (1 - mean) / len(y)).sqrt()).all()


def test_entropy_is_the_loss_of_the_truth() -> None:
    _, q = DESIGN.test
    assert DESIGN.entropy == pytest.approx(float(-(q * q.log()).sum(dim=1).mean()))


def test_log_probabilities_are_those_of_each_kernel_alone() -> None:
    (x, _), generators = _sample(5), _generators()
    inner, scale = DESIGN.weights[0], torch.tensor([0.3, 0.7])
    kernel = RandomKernel.draw(inner, 6, generators)
    theta = torch.randn(2, DESIGN.classes, len(inner) + 6, generator=generators[0])
    z = torch.randn(2, 4, 5, DESIGN.dim, generator=generators[0])
    found = kernel.log_p(theta, x.float(), scale, z).unflatten(1, (2, 5))
    for r in range(2):
        e = x[r].float() + scale[r] * z[r]
        random = (2 / 6) ** 0.5 * (e @ kernel.weight[r] + kernel.bias[r]).relu()
        features = torch.cat([(e @ inner.float().mT).tanh() / len(inner) ** 0.5, random], dim=-1)
        torch.testing.assert_close(found[:, r], (features @ theta[r].mT).log_softmax(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("theta", [single_draw, cross_fitted])
@pytest.mark.parametrize("split", [False, True])
def test_the_first_update_follows_the_equations_on_their_folds(theta: Score, split: bool) -> None:
    """One step of theta, and the sign of Adam's first step of phi, from gradients of each replicate alone."""
    n, width, training = 20, 6, JointTraining(steps=1, scale_rate=0.01)
    sample, inner = _sample(n), DESIGN.weights[0]
    fit = training.fit(Equations(theta, cross_fitted, split), sample, DESIGN.test, inner, width, _generators())
    own, other = (slice(0, 10), slice(10, 20)) if split else (slice(0, n), slice(0, n))
    generators = _generators()
    kernel = RandomKernel.draw(inner, width, generators)
    z = torch.stack([torch.randn(training.draws, n, DESIGN.dim, generator=g) for g in generators])
    for r in range(2):
        alone = RandomKernel(kernel.inner, kernel.weight[r : r + 1], kernel.bias[r : r + 1])
        weights = torch.zeros(1, DESIGN.classes, len(inner) + width, requires_grad=True)
        log_scale = torch.tensor([math.log(training.start)], requires_grad=True)

        means = []
        for score, part in ((theta, own), (cross_fitted, other)):
            live = alone.log_p(weights, sample[0][r : r + 1, part].float(), log_scale.exp(), z[r : r + 1, :, part])
            log_weight = torch.full((training.draws,), -math.log(training.draws))
            means.append(score.loss(live, live.detach(), sample[1][r, part], log_weight).mean())
        (step,) = torch.autograd.grad(means[0], weights)
        (slope,) = torch.autograd.grad(means[1], log_scale)
        scale = (log_scale - training.scale_rate * slope.sign()).exp().detach()
        torch.testing.assert_close(fit.scale[r : r + 1], scale, rtol=1e-3, atol=1e-6)
        x, q = DESIGN.test
        latents = torch.randn(training.test_draws, *x.shape, generator=torch.Generator().manual_seed(0))
        moved = (weights - training.rate * step).detach()
        log_p = alone.log_p(moved, x[None].float(), scale, latents[None])
        expected = -(q * log_p.double().exp().mean(dim=0).log()).sum(dim=-1).mean()
        assert float(fit.loss[r]) == pytest.approx(float(expected), rel=1e-4)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="width is 0"):
        RandomKernel.draw(DESIGN.weights[0], 0, _generators())
    with pytest.raises(ValueError, match="plug_in averages over draws"):
        Equations(plug_in, None)
    for bad in ({"dim": 0}, {"units": 0}, {"classes": 1}, {"test_points": 0}, {"scale": 0.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            HiddenNoise(**bad)


def test_folds_of_a_split_are_disjoint_and_use_every_observation() -> None:
    own, other = Equations(single_draw, cross_fitted, split=True).folds(21)
    assert sorted([*range(21)[own], *range(21)[other]]) == list(range(21))
    whole = Equations(single_draw, cross_fitted).folds(21)
    assert whole == (slice(0, 21), slice(0, 21))


def test_replicates_have_samples_of_their_own() -> None:
    one, other = (DESIGN.sample(5, torch_generator(replicate_seed(0, "n=5", r)))[0] for r in range(2))
    assert not torch.equal(one, other)
