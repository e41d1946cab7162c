"""Contract of every perturbation family: a file in eeqs/marginal/perturbations needs one row here."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eeqs.marginal import (
    LOG_EXPONENTIAL,
    Affine,
    Contextual,
    Dropout,
    Flow,
    Gaussian,
    Hull,
    Identity,
    LogLinear,
    LowRank,
    NEFTune,
    PerToken,
    Pushforward,
    Rotation,
    UniformBall,
    perturbations,
)
from eeqs.marginal.contract import check_perturbation

D = 3
ZERO = -math.inf  # the logarithm of it


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def generic(module):
    """Move a network off the zeros it starts at."""
    generator = rng(3)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator, dtype=value.dtype))
    return module


TABLE = torch.randn(20, D, generator=rng(1), dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module]
    identity: Callable[[], nn.Module]  # a setting under which g(e, z) = e
    options: dict[str, Any] = field(default_factory=dict)  # of check_perturbation


def both(make, identity):
    """Cases of a family that can read plain vectors and sequences."""
    return tuple(Case(lambda s=s: make(s), lambda s=s: identity(s), {"sequence": s}) for s in (False, True))


FAMILIES: dict[str, tuple[Case, ...]] = {
    "identity": (Case(lambda: Identity(D), lambda: Identity(D)),),
    "gaussian": (
        Case(lambda: Gaussian(D, -0.5), lambda: Gaussian(D, ZERO)),
        Case(lambda: Gaussian(D, [-0.5, 0.2, 0.0]), lambda: Gaussian(D, [ZERO] * D)),
        Case(lambda: Gaussian(D, scale=[0.4, 0.1, 0.2]), lambda: Gaussian(D, scale=0.0)),
    ),
    "per_token": (
        Case(lambda: PerToken(D, 1, -0.5), lambda: PerToken(D, 1, ZERO)),
        Case(lambda: PerToken(D, 6, [0.1 * t for t in range(6)]), lambda: PerToken(D, 8, ZERO), {"sequence": True}),
    ),
    "low_rank": (
        Case(lambda: LowRank(TABLE[:2].mT), lambda: LowRank(torch.zeros(D, 2))),
        Case(lambda: LowRank(TABLE[:5].mT), lambda: LowRank(torch.zeros(D, 5))),
    ),
    "affine": (Case(lambda: Affine(D, [-0.5, 0.2, 0.0], 0.2, [0.9, 1.0, 1.3]), lambda: Affine(D, ZERO)),),
    "log_linear": (
        Case(
            lambda: LogLinear(
                D,
                bias=[-0.5, 0.2, 0.0],
                weight=[0.3, -0.2, 0.5],
                depends_on=[[True, False, False], [True, False, True], [False, False, False]],
            ),
            lambda: LogLinear(D, bias=ZERO, weight=0.3),
            {"extreme": 100.0},  # exp(0.7 * 100) is a float32, exp of 700 is not
        ),
    ),
    "contextual": both(
        lambda s: generic(Contextual(D, (5,), generator=rng(), log_scale=-0.5, sequence=s)),
        lambda s: Contextual(D, (5,), generator=rng(), log_scale=ZERO, sequence=s),
    ),
    "pushforward": both(
        lambda s: Pushforward(D, (5,), generator=rng(), latent_dim=2, scale=0.5, sequence=s),
        lambda s: Pushforward(D, (5,), generator=rng(), latent_dim=2, scale=0.0, sequence=s),
    ),
    "flow": both(
        lambda s: generic(Flow(D, 3, (4,), generator=rng(), sequence=s)),
        lambda s: Flow(D, 3, (4,), generator=rng(), log_scale=ZERO, sequence=s),
    ),
    "hull": (
        Case(
            lambda: Hull(TABLE, 4, log_weight=[-0.5, -0.6, -1.0], log_scale=-0.3, log_temperature=0.5),
            lambda: Hull(TABLE, 4, log_weight=ZERO),
            {"embeddings": TABLE},
        ),
        Case(
            lambda: Hull(TABLE, 3, law=LOG_EXPONENTIAL),
            lambda: Hull(TABLE, 3, log_weight=ZERO, law=LOG_EXPONENTIAL),
            {"embeddings": TABLE},
        ),
    ),
    "rotation": (Case(lambda: Rotation(D, -0.5), lambda: Rotation(D, ZERO)),),
    "uniform_ball": (Case(lambda: UniformBall(D, 0.5), lambda: UniformBall(D, 0.0)),),
    "neftune": (Case(lambda: NEFTune(D, 5.0, 6), lambda: NEFTune(D, 0.0, 6)),),
    "dropout": (
        Case(lambda: Dropout(D, [0.1, 0.2, 0.3]), lambda: Dropout(D, 0.0)),
        Case(
            lambda: Dropout(D, 0.3, per_token=True, mask=TABLE[0], inverted=True),
            lambda: Dropout(D, 0.0, per_token=True, mask=TABLE[0], inverted=True),
        ),
        Case(lambda: Dropout(D, 0.3, temperature=0.0), lambda: Dropout(D, 0.0, temperature=0.0)),
    ),
}
CASES = [pytest.param(case, id=f"{name}-{i}") for name, row in FAMILIES.items() for i, case in enumerate(row)]


def test_every_file_has_a_row():
    files = {path.stem for path in Path(perturbations.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == set(FAMILIES)


def test_every_family_is_exported_and_has_a_row():
    made = {type(case.make()).__name__ for row in FAMILIES.values() for case in row}
    assert made == set(perturbations.__all__)


@pytest.mark.parametrize("case", CASES)
def test_contract(case):
    check_perturbation(case.make(), case.identity(), **case.options)
