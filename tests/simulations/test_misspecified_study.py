"""The study ``misspecified`` and its designs: grid, rows, pseudo-true values against independent references."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy import integrate, optimize, special

import eeqs
from simulations.designs.foreign_noise import ForeignNoise
from simulations.designs.grouped_lines import ClusteredLine, CrossedLine
from simulations.designs.wrong_regressions import bent_line, flipped_responses, overdispersed_counts
from simulations.runner import tabulate
from simulations.schema import CONVERGED
from simulations.seeds import replicate_seed, torch_generator
from simulations.studies.misspecified import STUDY
from simulations.study import Cell, Preset, check_cells

SMALL = {"crossed": 400, "clustered": 300}


def _cell(design: str) -> Cell:
    cell = next(c for c in STUDY.cells(Preset.QUICK) if c.parameters["design"] == design)
    n = SMALL.get(design, 250)
    return replace(cell, parameters={"design": design, "n": n}, replicates=3, batch=3, stream=f"small,n={n}")


def _sample(design: object, n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return design.sample(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells = STUDY.cells(preset)
    check_cells(STUDY.name, cells)
    grid = pd.DataFrame([cell.parameters for cell in cells])
    assert set(grid["design"]) == set(STUDY.designs) == set(STUDY.covariances)
    assert (grid.groupby("design")["n"].nunique() >= 2).all()
    streams = {(c.parameters["design"], c.parameters["n"]): c.stream for c in cells}
    for (design, n), stream in streams.items():
        assert (stream == streams.get(("exact", n))) == (design in ("exact", "cross_fitted"))


@pytest.mark.parametrize("design", STUDY.designs)
def test_rows_and_one_estimate_for_all_covariances(design: str) -> None:
    cell = _cell(design)
    rows = tabulate(STUDY, [cell])
    assert set(rows["parameter"]) == set(STUDY.covariances[design])
    assert (rows["truth"] == STUDY.designs[design].truth).all()
    assert (rows["status"] == CONVERGED).all()
    assert (rows["se"] > 0).all()
    assert (rows.groupby("replicate")["estimate"].std() == 0).all()
    assert rows["estimate"].nunique() == cell.replicates
    assert rows["se"].nunique() == len(rows)


@pytest.mark.parametrize("design", STUDY.designs)
def test_a_row_does_not_depend_on_its_batch(design: str) -> None:
    cell = _cell(design)
    seeds = [replicate_seed(0, cell.stream, r) for r in range(3)]
    together = STUDY.run(cell, range(3), seeds).sort_values(["replicate", "parameter"], ignore_index=True)
    alone = pd.concat([STUDY.run(cell, range(r, r + 1), [seeds[r]]) for r in range(3)])
    alone = alone.sort_values(["replicate", "parameter"], ignore_index=True)
    exactly = ["replicate", "parameter", "truth", "status"]
    pd.testing.assert_frame_equal(together[exactly], alone[exactly])
    for column in ("estimate", "se"):
        np.testing.assert_allclose(together[column], alone[column], rtol=1e-7)


@pytest.mark.parametrize(
    ("design", "family"),
    [
        ("poisson", sm.families.Poisson()),
        ("logit", sm.families.Binomial()),
        ("least_squares", sm.families.Gaussian()),
    ],
)
def test_covariances_equal_those_of_statsmodels(design: str, family: sm.families.Family) -> None:
    cell = _cell(design)
    rows = tabulate(STUDY, [replace(cell, replicates=1)]).set_index("parameter")
    data = STUDY.designs[design].sample(250, torch_generator(replicate_seed(0, cell.stream, 0)))
    model = sm.GLM(data["y"].numpy(), sm.add_constant(data["x"].numpy()), family=family)
    for kind, cov_type in (("model_based", "nonrobust"), ("sandwich", "HC0")):
        fit = model.fit(cov_type=cov_type, tol=1e-12)
        assert rows.loc[kind, "estimate"] == pytest.approx(fit.params[1], rel=1e-3)
        assert rows.loc[kind, "se"] == pytest.approx(fit.bse[1], rel=1e-3)


def test_pseudo_true_coefficients_against_adaptive_quadrature() -> None:
    """Counts have a log-linear mean; a symmetric parabola does not move the slope; the logit has its own root."""
    np.testing.assert_allclose(overdispersed_counts().coefficients, [0.5, 0.5], atol=1e-9)
    np.testing.assert_allclose(bent_line(curvature=0.3).coefficients, [0.3, 1.0], atol=1e-9)

    def moment(slope: float) -> float:
        def integrand(x: float) -> float:
            return x * (0.03 + 0.94 * special.expit(8 * x) - special.expit(slope * x))

        return integrate.quad(integrand, 0, 3**0.5, epsabs=1e-13)[0]

    slope = optimize.brentq(moment, 0.1, 8)
    np.testing.assert_allclose(flipped_responses(share=0.03, slope=8.0).coefficients, [0, slope], atol=1e-8)


@pytest.mark.parametrize("draws", [0, 2, 4])
def test_pseudo_true_scale_against_a_large_sample(draws: int) -> None:
    """The mean of psi at the root is zero within its Monte Carlo error, and is not a tenth away."""
    design = ForeignNoise(draws=draws)
    data, psi = _sample(design, 100_000), design.psi
    parts = [
        dict(zip(data, part, strict=True)) for part in zip(*(leaf.split(10_000) for leaf in data.values()), strict=True)
    ]

    def z(phi: float) -> float:
        at = torch.tensor([phi], dtype=torch.float64)
        values = torch.cat([psi(at, part)[:, 0] for part in parts])
        return float(values.mean() / values.std() * len(values) ** 0.5)

    assert abs(z(design.truth)) < 3.5
    assert abs(z(design.truth + 0.1)) > 3.5


def test_the_pseudo_true_scale_depends_on_the_equation() -> None:
    """The draws of cross_fitted move it, away from that of the score the fewer they are; a true model has one root."""
    found = [ForeignNoise(draws=k, points=16).truth for k in (0, 4, 3, 2)]
    assert all(after - before > 0.01 for before, after in pairwise(found))
    for draws in (0, 2, 3):
        assert ForeignNoise(draws=draws, centre=0.0, spreads=(0.7, 0.7)).truth == pytest.approx(np.log(0.7), abs=1e-3)


def test_quadrature_of_the_pseudo_true_scale_has_converged() -> None:
    fine, coarse = (ForeignNoise(draws=4, points=points).truth for points in (24, 20))
    assert abs(fine - coarse) < 5e-4


def test_draws_share_the_observations() -> None:
    plain, drawn = (_sample(ForeignNoise(draws=k), 50) for k in (0, 4))
    assert torch.equal(plain["x"], drawn["x"])
    assert torch.equal(plain["y"], drawn["y"])
    assert drawn["z"].shape == (50, 4, 1)


def test_cluster_design_is_a_line_with_shared_effects() -> None:
    design = ClusteredLine()
    data = _sample(design, 40_000)
    assert torch.bincount(data["cluster"].long()).tolist() == [10] * 4000
    residual = (data["y"] - design.truth * data["x"]).reshape(-1, 10)
    between = residual.mean(dim=1).var() - (0.49 + 1 / 10)
    assert abs(float(between)) < 4 * 0.59 * (2 / 4000) ** 0.5
    rows, columns = (_sample(CrossedLine(), 2000)[name].long() for name in ("cluster", "column"))
    assert torch.bincount(rows).tolist() == torch.bincount(columns).tolist() == [20] * 100
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == 2000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClusteredLine().sample(95, torch.Generator()), "n is 95: clusters have 10 members"),
        (lambda: CrossedLine().sample(390, torch.Generator()), "n is 390: use a multiple of 20"),
        (lambda: CrossedLine().sample(200, torch.Generator()), "n is 200: use a multiple of 20, and at least 400"),
        (lambda: ForeignNoise(draws=8), "draws is 8: use 0 for quadrature, or 2 to 4"),
    ],
)
def test_bad_designs_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_negative_two_way_variance_is_absent() -> None:
    """Row effects removed: inclusion and exclusion go below zero in the intercept, and nothing is made up."""
    side = 20
    index = torch.arange(side, dtype=torch.float64)
    row, column = index.repeat_interleave(side), index.repeat(side)
    sign = (-1.0) ** (row + column)
    data = {"y": sign, "x": torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}
    data |= {"cluster": row, "column": column}
    batch = {name: leaf[None] for name, leaf in data.items()}
    found = STUDY.meats["two_way"](CrossedLine(), torch.zeros(1, 2, dtype=torch.float64), batch)
    assert found.isnan().all()
    with pytest.raises(eeqs.DataError, match="negative variance"):
        eeqs.meat(CrossedLine().psi, [0.0, 0.0], data, eeqs.TwoWay("cluster", "column"))
