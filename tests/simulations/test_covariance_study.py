"""The study ``covariance`` and its design: the grid, the rows, and roots against the closed form."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.stats import multivariate_normal

import eeqs
from eeqs.marginal import LinearGaussian, LowRank, Marginal, exact
from simulations.designs.over_factored import OverFactored, aligned_error, factor_score
from simulations.schema import CONVERGED, check_rows, complete
from simulations.seeds import replicate_seed, torch_generator
from simulations.studies.covariance import EXPECTED, ROOT, STUDY
from simulations.study import Cell, Preset, check_cells

MODELS = list(STUDY.designs)


def _cell(model: str, quantity: str = ROOT) -> Cell:
    design = STUDY.designs[model]
    wanted = {"quantity": quantity, "rank": design.rank, "columns": design.columns}
    cell = next(c for c in STUDY.cells(Preset.QUICK) if wanted.items() <= c.parameters.items())
    return replace(cell, replicates=min(cell.replicates, 4), batch=4)


def _run(cell: Cell, replicates: range) -> pd.DataFrame:
    return STUDY.run(cell, replicates, [replicate_seed(0, cell.stream, r) for r in replicates])


def _moment(data: dict[str, torch.Tensor]) -> np.ndarray:
    residual = (data["y"] - data["x"]).numpy()
    return residual.T @ residual / len(residual)


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells, size = STUDY.cells(preset), STUDY.sizes[preset]
    check_cells(STUDY.name, cells)
    roots = [cell for cell in cells if cell.parameters["quantity"] == ROOT]
    assert len(roots) == len(MODELS) * len(size.sizes)
    assert len({cell.stream for cell in roots}) == 2 * len(size.sizes)  # models of one rank share observations
    assert sum(n >= size.burn_in for n in size.sizes) >= 4
    assert size.level_from in size.sizes


@pytest.mark.parametrize("quantity", [ROOT, EXPECTED])
@pytest.mark.parametrize("model", MODELS)
def test_rows_pass_the_schema_and_do_not_depend_on_their_batch(model: str, quantity: str) -> None:
    cell = _cell(model, quantity)
    (batch,) = cell.batches()
    seeds = [replicate_seed(0, cell.stream, r) for r in batch.replicates]
    rows = STUDY.run(cell, batch.replicates, seeds)
    check_rows(complete(rows, batch, seeds, seconds=1.0), batch)
    alone = pd.concat([_run(cell, range(r, r + 1)) for r in batch.replicates], ignore_index=True)
    pd.testing.assert_frame_equal(rows, alone)
    assert (rows["status"] == CONVERGED).all()


@pytest.mark.parametrize("model", MODELS)
def test_root_is_the_maximum_likelihood_covariance_in_closed_form(model: str) -> None:
    design, cell = STUDY.designs[model], _cell(model)
    rows = _run(cell, range(4)).set_index(["replicate", "parameter"])["estimate"]
    for r in range(4):
        generator = torch_generator(replicate_seed(0, cell.stream, r))
        values, vectors = np.linalg.eigh(_moment(design.sample(int(cell.parameters["n"]), generator)))
        kept = np.clip(values - design.noise**2, 0, None) * (np.arange(3) >= 3 - design.columns)
        sigma = vectors * kept @ vectors.T
        found = [rows[(r, f"sigma[{j},{k}]")] for j in range(3) for k in range(j + 1)]
        np.testing.assert_allclose(found, sigma[np.tril_indices(3)], atol=1e-9)
        assert rows[(r, "sigma")] == pytest.approx(np.linalg.norm(sigma - design.sigma.numpy()), abs=1e-9)
        if design.rank == 1:
            _, outside = np.linalg.eigh(design.sigma.numpy())
            block = outside[:, :2].T @ sigma @ outside[:, :2]
            assert rows[(r, "surplus")] ** 2 == pytest.approx(np.trace(block), abs=1e-9)


def test_score_is_the_derivative_of_the_normal_log_density() -> None:
    generator = np.random.default_rng(0)
    factor, residual, h = generator.normal(size=(3, 2)), generator.normal(size=3), 1e-6
    found = factor_score(torch.from_numpy(factor), torch.from_numpy(np.outer(residual, residual)), 0.5)
    for j in range(3):
        for k in range(2):
            step = h * np.outer(np.eye(3)[j], np.eye(2)[k])
            above, below = (
                multivariate_normal(cov=b @ b.T + 0.25 * np.eye(3)).logpdf(residual)
                for b in (factor + step, factor - step)
            )
            assert float(found[j, k]) == pytest.approx((above - below) / (2 * h), rel=1e-6, abs=1e-7)


def test_score_is_that_of_the_marginal_model_by_quadrature() -> None:
    design = OverFactored(((0.7,),), 2)
    data = design.sample(50, torch.Generator().manual_seed(1))
    factor = torch.tensor([[0.6, -0.3]], dtype=torch.float64)
    kernel = LinearGaussian(torch.ones(1, dtype=torch.float64), 0.0, float(np.log(design.noise)))
    model = Marginal(LowRank(factor), kernel.requires_grad_(requires_grad=False))
    by_quadrature = model.psi(exact(40))(factor.flatten(), {"x": data["x"], "y": data["y"][:, 0]})
    torch.testing.assert_close(design.psi()(factor.flatten(), data), by_quadrature, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_expected_bread_at_the_truth(model: str) -> None:
    design = STUDY.designs[model]
    psi, theta, data = design.psi(), design.factor.flatten(), design.population()
    np.testing.assert_allclose(_moment(data), (design.sigma + design.noise**2 * torch.eye(3)).numpy(), atol=1e-12)
    assert float(psi(theta, data).mean(dim=0).abs().max()) < 1e-12
    bread = eeqs.bread(psi, theta, data)
    by_autodiff = torch.func.jacfwd(lambda b: psi(b, data).mean(dim=0))(theta)
    torch.testing.assert_close(bread, by_autodiff)
    found = _run(_cell(model, EXPECTED), range(1)).iloc[0]
    assert found["truth"] == found["estimate"] == 3 * design.columns - np.linalg.matrix_rank(by_autodiff, tol=1e-9)


def test_free_directions_are_rotations_and_columns_of_zero() -> None:
    assert [design.free_directions for design in STUDY.designs.values()] == [3, 12, 0, 6]


def test_aligned_error_is_that_of_the_orthogonal_procrustes_problem() -> None:
    factor, truth = np.random.default_rng(2).normal(size=(2, 3, 4))
    rotation = orthogonal_procrustes(factor, truth)[0]
    found = aligned_error(torch.from_numpy(factor), torch.from_numpy(truth))
    assert found == pytest.approx(np.linalg.norm(factor @ rotation - truth))
    assert aligned_error(torch.from_numpy(truth @ rotation), torch.from_numpy(truth)) == pytest.approx(0, abs=1e-12)


def test_entries_of_the_factor_are_refused_and_those_of_the_covariance_are_not() -> None:
    design = STUDY.designs["rank=3,q=6"]
    generator = torch.Generator().manual_seed(3)
    data = design.sample(500, generator)
    fit = eeqs.estimate(design.psi(), data, design.start(data, generator), tolerance=1e-12, minimum_norm=True)
    with pytest.raises(eeqs.NotEstimableError, match=r"factor\[0,0\]"):
        fit.delta(lambda theta: theta[0])
    derived = fit.delta(lambda theta: (theta.reshape(3, 6) @ theta.reshape(3, 6).mT)[0])
    residual = (data["y"] - data["x"]).numpy()
    # Inside the cone the estimate is a mean of products, whose standard error is known without a model.
    expected = (residual[:, [0]] * residual).std(axis=0) / 500**0.5
    np.testing.assert_allclose(derived.bse.to_numpy(), expected, rtol=1e-8)
