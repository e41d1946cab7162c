"""Contract of every perturbation family: a file in eeqs/marginal/perturbations needs one row here."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.func import functional_call, vmap

from eeqs.marginal import Contextual, Gaussian, Identity, Perturbation, perturbations

D = 3


@dataclass(frozen=True)
class Row:
    make: Callable[[], torch.nn.Module]
    identity: Callable[[], torch.nn.Module]  # a setting under which g(e, z) = e


FAMILIES = {
    "identity": Row(lambda: Identity(D), lambda: Identity(D)),
    "gaussian": Row(lambda: Gaussian(D, log_scale=[-0.5, 0.2, 0.0]), lambda: Gaussian(D, log_scale=-math.inf)),
    "contextual": Row(
        lambda: Contextual(
            D,
            bias=[-0.5, 0.2, 0.0],
            weight=[0.3, -0.2, 0.5],
            depends_on=[[True, False, False], [True, False, True], [False, False, False]],
        ),
        lambda: Contextual(D, bias=-math.inf, weight=0.3),
    ),
}


@pytest.fixture(params=FAMILIES)
def row(request):
    return FAMILIES[request.param]


def inputs(module, *lead, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    prefix = torch.randn(*lead, D, generator=generator, dtype=torch.float64)
    z = torch.randn(*lead, module.latent_dim, generator=generator, dtype=torch.float64)
    return prefix.to(dtype), z.to(dtype)


def test_every_file_has_a_row():
    files = {path.stem for path in Path(perturbations.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == set(FAMILIES)


def test_protocol(row):
    module = row.make()
    assert isinstance(module, Perturbation)
    assert module.dim == D


@pytest.mark.parametrize("lead", [(), (5,), (2, 4), (3, 2, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_shape_and_dtype_are_kept(row, lead, dtype):
    module = row.make().to(dtype)
    prefix, z = inputs(module, *lead, dtype=dtype)
    out = module(prefix, z)
    assert out.shape == prefix.shape
    assert out.dtype == dtype
    assert torch.isfinite(out).all()


def test_draws_broadcast_over_observations(row):
    module = row.make()
    prefix, _ = inputs(module, 5)
    _, z = inputs(module, 4, 5)
    out = module(prefix, z)
    assert out.shape == (4, 5, D)
    for k in range(4):
        torch.testing.assert_close(out[k], module(prefix, z[k]))


def test_identity_setting(row):
    module = row.identity()
    prefix, z = inputs(module, 2, 4)
    assert torch.equal(module(prefix, z), prefix)


def test_later_positions_do_not_reach_earlier_ones(row):
    module = row.make()
    prefix, z = inputs(module, 2, 6)
    other, other_z = inputs(module, 2, 6, seed=1)
    for t in range(6):
        later = torch.cat([prefix[:, : t + 1], other[:, t + 1 :]], dim=1)
        later_z = torch.cat([z[:, : t + 1], other_z[:, t + 1 :]], dim=1)
        assert torch.equal(module(later, later_z)[:, : t + 1], module(prefix, z)[:, : t + 1])


def test_first_and_second_derivatives(row):
    module = row.make()
    prefix, z = inputs(module, 4)
    names = [name for name, _ in module.named_parameters()]
    values = tuple(value.detach().requires_grad_() for value in module.parameters())

    def forward(e, *parameters):
        return functional_call(module, dict(zip(names, parameters, strict=True)), (e, z))

    arguments = (prefix.requires_grad_(), *values)
    assert torch.autograd.gradcheck(forward, arguments, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda *a: forward(*a).square(), arguments)


def test_vmap_equals_a_loop(row):
    module = row.make()
    prefix, z = inputs(module, 3, 4)
    looped = torch.stack([module(prefix[r], z[r]) for r in range(3)])
    torch.testing.assert_close(vmap(module)(prefix, z), looped)


def test_state_survives_a_round_trip(row):
    module, other = row.make(), row.make()
    with torch.no_grad():
        for value in other.parameters():
            value.zero_()
    other.load_state_dict(module.state_dict())
    prefix, z = inputs(module, 4)
    assert torch.equal(other(prefix, z), module(prefix, z))
