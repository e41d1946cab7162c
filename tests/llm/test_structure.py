"""Perturbations as data: every family comes back the same, and nothing else can be built."""

import json

import pytest
import torch

from eeqs.llm.structure import describe, rebuild
from eeqs.marginal import (
    Affine,
    Contextual,
    Dropout,
    Flow,
    Gaussian,
    Hull,
    Identity,
    LowRank,
    NEFTune,
    PerToken,
    Pushforward,
    Rotation,
    UniformBall,
)

D = 6


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


TABLE = torch.randn(12, D, generator=_generator())
FAMILIES = [
    Identity(D), Gaussian(D, log_scale=-1.0), Gaussian(D, scale=[0.1] * D), PerToken(D, 5), LowRank(TABLE.T[:, :3]),
    Affine(D), Contextual(D, generator=_generator(), activation=torch.nn.functional.gelu, sequence=True),
    Pushforward(D, generator=_generator()), Flow(D, generator=_generator()), Hull(TABLE, 4), Rotation(D),
    UniformBall(D, 0.5), NEFTune(D, 5.0, 8), Dropout(D, 0.1),
    Gaussian(D, log_scale=0.0).requires_grad_(False),
]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_a_family_comes_back_the_same(family: torch.nn.Module) -> None:
    again = rebuild(json.loads(json.dumps(describe(family))))
    again.load_state_dict(family.state_dict())
    assert type(again) is type(family)
    assert [(n, p.requires_grad) for n, p in again.named_parameters()] == [
        (n, p.requires_grad) for n, p in family.named_parameters()
    ]
    assert again.latent_law is family.latent_law or again.latent_law.name == family.latent_law.name
    prefix = torch.randn(2, 5, D, generator=_generator(), dtype=torch.float64)
    z = family.latent_law.sample((2, 5, family.latent_dim), _generator(), torch.float64, torch.device("cpu"))
    torch.testing.assert_close(again(prefix, z), family(prefix, z), rtol=0, atol=0)


class Foreign(torch.nn.Module):
    """A family of somebody's own."""


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(TypeError, match="Foreign is not part of"):
        describe(Foreign())
    mine = Contextual(D, generator=_generator(), activation=lambda x: x)
    with pytest.raises(TypeError, match="attribute 'activation' is a function that cannot be written"):
        describe(mine)


@pytest.mark.parametrize(
    "change",
    [
        {"class": "os:system"},
        {"class": "builtins:eval"},
        {"class": "eeqs.marginal.laws:gauss_hermite"},
        {"class": "eeqs.marginal.perturbations.gaussian:nothing"},
        {"attributes": {"f": {"function": "system"}}},
        {"parameters": {"a": {"shape": [2], "dtype": "load"}}},
        {"parameters": None},
    ],
)
def test_a_description_builds_nothing_but_members_of_the_package(change: dict) -> None:
    with pytest.raises(ValueError, match=r"not a module of eeqs.marginal|damaged"):
        rebuild(describe(Gaussian(D)) | change)
