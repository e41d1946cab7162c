"""One cell in many of the grid of claims; `unbiased_grid` runs all of it."""

import pytest
from unbiased_grid import FAMILIES, KERNELS, NETWORKS, every_cell, level_of_a_cell, verdict

from eeqs.marginal import (
    Identity,
    cross_fitted,
    kernels,
    perturbations,
    plug_in,
    quadratic,
    single_draw,
    two_sample,
)
from eeqs.marginal.protocols import Kernel

GRID, SIZE = every_cell(), 3000


def sample():
    """One cell of four draws for every family, with kernels, scores and designs taken in turn."""
    scores = [single_draw, plug_in, quadratic, cross_fitted, two_sample]
    for i, family in enumerate(FAMILIES):
        kernel = "quadratic" if family in NETWORKS else list(KERNELS)[i % len(KERNELS)]
        score = scores[i % len(scores)]
        found = [cell for cell in GRID if cell[:3] == (family, kernel, score) and len(cell[3] or ()) == 4]
        yield found[i % len(found)]


SAMPLE = list(sample())


def test_the_grid_has_every_family_and_kernel():
    assert len(FAMILIES) == len(perturbations.__all__)
    assert {type(make()) for make in FAMILIES.values()} == {getattr(perturbations, n) for n in perturbations.__all__}
    categorical = {getattr(kernels, name) for name in kernels.__all__} - {
        kernels.GaussianResponse,
        kernels.LinearGaussian,
    }
    assert {type(make()) for make in KERNELS.values()} == categorical
    assert all(isinstance(make(), Kernel) for make in KERNELS.values())


def test_the_sample_has_every_family_kernel_and_score():
    assert {family for family, *_ in SAMPLE} == set(FAMILIES)
    assert {kernel for _, kernel, *_ in SAMPLE} == set(KERNELS)
    assert {score.name for _, _, score, _ in SAMPLE} >= {
        "single_draw",
        "plug_in",
        "quadratic",
        "cross_fitted",
        "two_sample",
    }


@pytest.mark.parametrize("cell", SAMPLE, ids=lambda cell: f"{cell[0]}-{cell[1]}-{cell[2].name}-{cell[3]}")
def test_claims_hold(cell):
    score = cell[2]
    record = verdict(*cell, level_of_a_cell(GRID), seed=0, size=SIZE)
    assert record["outcome"] in ({"passed"} if score.unbiased else {"rejected", "bias too small to see"})


def test_a_false_claim_is_caught():
    """The plug-in score under the name of an unbiased one fails where its bias is large."""
    cell = next(
        cell for cell in GRID if cell[0] == "gaussian" and cell[2].name == "plug_in" and len(cell[3] or ()) == 4
    )
    assert verdict(*cell, level_of_a_cell(GRID), seed=0, size=SIZE)["outcome"] == "rejected"


def test_nothing_is_biased_without_noise():
    cell = next(cell for cell in GRID if cell[0] == "identity" and cell[2].name == "plug_in")
    assert FAMILIES["identity"]().latent_dim == Identity(2).latent_dim == 0
    assert verdict(*cell, level_of_a_cell(GRID), seed=0, size=SIZE)["outcome"] == "bias too small to see"
