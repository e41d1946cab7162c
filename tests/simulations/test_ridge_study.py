"""The study ``ridge``: its grid, its rows, and that what a theory forbids turns its verdicts to fails."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from eeqs.marginal import plug_in
from simulations.claims.ridge import rows_of
from simulations.designs.index_models import PerturbedLogit
from simulations.designs.ridge_lines import Line, theory_penalty
from simulations.runner import tabulate
from simulations.seeds import replicate_seed, torch_generator
from simulations.studies.ridge import STUDY, Ridge, Size
from simulations.study import Cell, Preset, check_cells
from simulations.verdicts import FAILS, HOLDS


def _small(lines: tuple[Line, ...], sizes: dict[int, int], dimension: int = 1200, **changes: object) -> Ridge:
    cut = tuple(replace(line, design=replace(line.design, dimension=dimension)) for line in lines)
    size = Size(least_squares=sizes, binary=sizes, max_width=0.5)
    return replace(STUDY, lines=cut, sizes=dict.fromkeys(Preset, size), **changes)


def _run(study: Ridge, cell: Cell, replicates: range) -> pd.DataFrame:
    return study.run(cell, replicates, [replicate_seed(0, cell.stream, r) for r in replicates])


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells = STUDY.cells(preset)
    check_cells(STUDY.name, cells)
    grid = pd.DataFrame([cell.parameters for cell in cells])
    for line in STUDY.lines:
        sizes = rows_of(grid, line)["n"]
        assert line.design.dimension >= 2.9 * sizes.max()
        assert (sizes >= line.burn_in).sum() >= 4
    settings = {(line.design.decay, line.design.source) for line in STUDY.lines if line.estimator == "least_squares"}
    assert len({decay * source for decay, source in settings}) >= 3


def test_cells_of_one_design_and_size_share_a_stream() -> None:
    streams = {}
    for cell in STUDY.cells(Preset.QUICK):
        key = tuple(cell.parameters[name] for name in ("decay", "source", "n"))
        assert streams.setdefault(cell.stream, key) == key
    assert len(streams) == len(set(streams.values()))


def test_rows_pass_the_schema() -> None:
    study = _small(STUDY.lines, {40: 2, 60: 2}, dimension=150)
    table = tabulate(study, study.cells(Preset.QUICK))  # checks every batch against the schema
    assert len(table) == 4 * len(STUDY.lines)
    assert (table["status"] == "converged").all()
    assert (table["estimate"] > 0).all()
    assert (table["truth"] == 0).all()
    assert table["se"].isna().all()


def test_a_row_does_not_depend_on_its_batch() -> None:
    study = _small(STUDY.lines, {50: 3}, dimension=150)
    for cell in study.cells(Preset.QUICK):
        together = _run(study, cell, range(3))
        alone = pd.concat([_run(study, cell, range(r, r + 1)) for r in range(3)], ignore_index=True)
        pd.testing.assert_frame_equal(together, alone, check_exact=True)
        assert together["estimate"].nunique() == 3


def test_excess_risk_of_least_squares_is_that_of_the_closed_form() -> None:
    study = _small(STUDY.lines[:1], {80: 1}, dimension=200)
    (cell,) = study.cells(Preset.QUICK)
    (line,) = study.lines
    found = float(_run(study, cell, range(1))["estimate"][0])
    generator = torch_generator(replicate_seed(0, cell.stream, 0))
    x = line.design.features(80, generator).double().numpy()
    y = line.model.sample(torch.from_numpy(x) @ line.design.coefficients, study.responses, generator)["y"].numpy()
    penalty = theory_penalty(line, 80)
    fitted = np.linalg.solve(x.T @ x / 80 + penalty * np.eye(200), x.T @ y.T / 80).T
    errors = fitted - line.design.coefficients.numpy()
    risks = np.sum(line.design.eigenvalues.numpy() * errors**2, axis=1)
    assert found == pytest.approx(risks.mean(), rel=1e-4)  # single precision of the features


def _verdicts(study: Ridge) -> pd.Series:
    verdicts = study.verdicts(tabulate(study, study.cells(Preset.QUICK)), Preset.QUICK)
    return verdicts.set_index("quantity")["verdict"]


def fixed_penalty(line: Line, _n: int) -> float:
    """The theory's penalty at n = 64, whatever n is: its bias does not fall."""
    return theory_penalty(line, 64)


def too_fast_penalty(line: Line, n: int) -> float:
    """A penalty that falls like n^-2 in place of the theory's exponent: the variance takes over."""
    return theory_penalty(line, 64) * (n / 64) ** -2.0


def test_penalties_at_another_rate_fail() -> None:
    right = _small(STUDY.lines[2:3], {64: 24, 128: 16, 256: 12, 512: 12}, dimension=800)
    assert (_verdicts(right).iloc[:2] == HOLDS).all()  # the slope and the level
    for penalty in (fixed_penalty, too_fast_penalty):
        wrong = _verdicts(replace(right, penalty=penalty))
        assert wrong["slope of mean excess risk in n >= 64"] == FAILS, penalty


def test_draws_shared_by_residual_and_instrument_fail() -> None:
    (line,) = (line for line in STUDY.lines if line.estimator == "perturbed_cross_fitted" and line.design.decay == 2.0)
    right = _small((line,), {128: 10, 256: 6, 512: 6}, dimension=800)
    assert isinstance(line.model, PerturbedLogit)
    biased = replace(line, model=replace(line.model, score=plug_in))
    wrong = replace(right, lines=(replace(biased, design=right.lines[0].design),))
    slope = f"slope of mean excess risk in n >= {line.burn_in}"
    assert _verdicts(right)[slope] == HOLDS
    assert _verdicts(wrong)[slope] == FAILS
