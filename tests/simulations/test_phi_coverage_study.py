"""The study ``phi_coverage``: its design, its rows, and covariances against sums written out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import eeqs
from eeqs.llm.perturbed import IGNORED
from simulations.designs.perturbed_text import PSEUDO_TRUE, KindsGaussian, PerturbedText
from simulations.runner import tabulate
from simulations.schema import CONVERGED
from simulations.seeds import replicate_seed
from simulations.studies.phi_coverage import STUDY, by_document, by_token
from simulations.study import Cell, Preset, check_cells


def _cell(design: str, replicates: int = 2) -> Cell:
    cell = next(c for c in STUDY.cells(Preset.QUICK) if c.parameters["design"] == design)
    return replace(cell, parameters={"design": design, "n": 40}, replicates=replicates, batch=replicates)


def _sample(design: PerturbedText, n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return design.sample(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.FULL])
def test_grid_of_a_preset(preset: Preset) -> None:
    cells = STUDY.cells(preset)
    check_cells(STUDY.name, cells)
    assert {c.parameters["design"] for c in cells} == set(STUDY.designs)
    streams = {(c.parameters["design"], c.parameters["n"]): c.stream for c in cells}
    for (design, n), stream in streams.items():
        assert (stream == streams["one_scale", n]) == (design in ("one_scale", "plug_in"))


@pytest.mark.parametrize("design", STUDY.designs)
def test_rows_of_a_design(design: str) -> None:
    cell = _cell(design)
    rows = tabulate(STUDY, [cell])
    names = STUDY.designs[design].names
    assert set(rows["parameter"]) == {f"{name}:{kind}" for name in names for kind in STUDY.meats}
    assert set(rows["truth"]) == set(STUDY.designs[design].truth)
    good = rows[rows["status"] == CONVERGED]
    assert len(good) > 0
    assert (good["se"] > 0).all()
    assert rows["estimate"].nunique() == cell.replicates * len(names)


def test_a_row_does_not_depend_on_its_batch() -> None:
    cell = _cell("styles")
    seeds = [replicate_seed(0, cell.stream, r) for r in range(2)]
    together = STUDY.run(cell, range(2), seeds)
    alone = pd.concat([STUDY.run(cell, range(r, r + 1), [seeds[r]]) for r in range(2)], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone)


def test_covariances_against_sums_written_out() -> None:
    design = STUDY.designs["two_scales"]
    data = _sample(design, 30)
    theta = torch.tensor(design.truth, dtype=torch.float64)
    tokens = design.token_values(theta, data).numpy()
    counts = (data["labels"] != IGNORED).sum(dim=1).numpy()
    sums = np.stack([part.sum(axis=0) for part in np.split(tokens, counts.cumsum()[:-1])])
    np.testing.assert_allclose(by_document(design, theta, data), 30 / 29 * sums.T @ sums / 30, rtol=1e-8)
    np.testing.assert_allclose(by_token(design, theta, data), tokens.T @ tokens / 30, rtol=1e-8)


def test_equations_share_documents_and_draws() -> None:
    one, other = (_sample(STUDY.designs[name], 20) for name in ("one_scale", "plug_in"))
    for name, leaf in one.items():
        assert torch.equal(leaf, other[name])


def test_documents_are_of_differing_length_and_labels_are_their_tokens() -> None:
    design = STUDY.designs["one_scale"]
    data = _sample(design, 400)
    lengths = 1 + (data["labels"] != IGNORED).sum(dim=1)
    assert lengths.unique().tolist() == list(range(design.length // 2 + 1, design.length + 1))
    kept = data["labels"] != IGNORED
    assert torch.equal(data["labels"][kept], data["input_ids"][kept])
    assert not bool(kept[:, 0].any())


def test_noise_of_two_kinds_of_tokens() -> None:
    noise = KindsGaussian(2, (0.0, float(np.log(2))))
    e = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    moved = noise(e, torch.ones(5, 2, 2, dtype=torch.float64))[0] - e
    np.testing.assert_allclose(moved.detach(), [[1, 1], [2, 2]])


def test_the_pseudo_true_scale_against_documents_of_its_own() -> None:
    """The mean of psi there is zero within 3.5 standard errors (false alarm 5e-4), and not at that of the texts."""
    design = STUDY.designs["styles"]
    assert design.truth == (PSEUDO_TRUE,)
    parts = [_sample(design, 500, seed) for seed in range(4)]

    def z(at: float) -> float:
        theta = torch.tensor([at], dtype=torch.float64)
        values = torch.cat([design.psi(theta, part)[:, 0] for part in parts])
        return float(values.mean() / values.std() * len(values) ** 0.5)

    assert abs(z(PSEUDO_TRUE)) < 3.5
    assert abs(z(design.noise[0])) > 5


def test_style_makes_the_tokens_of_a_document_dependent() -> None:
    """Its share of the variance is far from one where there is a style, and near it where the model holds."""
    ratios = {}
    for name in ("one_scale", "styles"):
        design = STUDY.designs[name]
        data, theta = _sample(design, 800), torch.tensor(design.truth, dtype=torch.float64)
        ratios[name] = float(by_document(design, theta, data) / by_token(design, theta, data))
    assert ratios["styles"] > 1.5
    assert abs(ratios["one_scale"] - 1) < 0.3


def test_a_singular_bread_gives_no_standard_error() -> None:
    flat = replace(STUDY, designs={"one_scale": _Flat()})
    rows = tabulate(flat, [_cell("one_scale", 1)])
    assert rows["se"].isna().all()
    assert (rows["status"] != CONVERGED).all()


class _Flat(PerturbedText):
    """Two scales of which only the sum counts."""

    @property
    def psi(self) -> eeqs.EstimatingFunction:
        psi = super().psi

        def psi_of_product(theta: torch.Tensor, data: tuple) -> torch.Tensor:
            return psi.psi(0 * theta, data) + 0 * theta

        return replace(psi, psi=psi_of_product, mean_jacobian=None)
