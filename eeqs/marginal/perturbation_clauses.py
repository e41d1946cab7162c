"""Clauses of the contract of a perturbation; `eeqs.marginal.contract.check_perturbation` says what each asks for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from eeqs.marginal.laws import LatentLaw
from eeqs.marginal.module_clauses import CLAUSES as SMOOTHNESS
from eeqs.marginal.module_clauses import DTYPES, require
from eeqs.marginal.protocols import Perturbation

__all__ = ["CLAUSES", "Clause", "Subject"]

# Draws among which a coordinate or parameter must matter once, and from which the moments of a law are compared.
_SOME, _MANY = 64, 20_000


@dataclass(frozen=True)
class Subject:
    """A perturbation with what it takes to make arguments for it."""

    module: Any
    identity: Any
    sequence: bool
    embeddings: Tensor | None
    extreme: float
    length: int
    generator: torch.Generator

    def prefix(self, *lead: int) -> Tensor:
        """Draw embeddings (*lead, d)."""
        if self.embeddings is None:
            return torch.randn(*lead, self.module.dim, generator=self.generator, dtype=torch.float64)
        return self.embeddings[torch.randint(len(self.embeddings), lead, generator=self.generator)]

    def latent(self, *lead: int) -> Tensor:
        """Draw latents (*lead, q) from the declared law."""
        shape = (*lead, self.module.latent_dim)
        return self.module.latent_law.sample(shape, self.generator, torch.float64, torch.device("cpu"))

    def arguments(self, *lead: int) -> tuple[Tensor, Tensor]:
        """Draw a prefix and latents with the same leading axes."""
        return self.prefix(*lead), self.latent(*lead)


Clause: TypeAlias = Callable[[Subject], None]
"""``clause(subject)`` raises an exception that says what is wrong."""


class _AtDraws(nn.Module):
    """The perturbation as a map of embeddings (T, d) alone, at draws that stay as they are."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.perturbation = subject.module
        self.dim = self.n_classes = subject.module.dim
        self.z = subject.latent(subject.length)

    def forward(self, e: Tensor) -> Tensor:
        out: Tensor = self.perturbation(e, self.z[: e.shape[-2]])
        return out


def _close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def _slopes(module: Any, prefix: Tensor, z: Tensor) -> dict[str, Tensor]:
    """Differentiate a weighted sum of the result in the prefix and in every parameter."""
    weight = torch.arange(1, module.dim + 1).to(prefix)

    def total(e: Tensor, values: dict[str, Tensor]) -> Tensor:
        return (functional_call(module, values, (e, z)) @ weight).sum()

    values = {name: value.detach() for name, value in module.named_parameters()}
    by_prefix, by_parameter = grad(total, argnums=(0, 1))(prefix, values)
    return {"prefix": by_prefix, **by_parameter}


def _protocol(s: Subject) -> None:
    known = isinstance(s.module, nn.Module) and isinstance(s.module, Perturbation)
    require(known, "not a torch module with dim, latent_dim and latent_law")
    require(s.module.dim >= 1 and s.module.latent_dim >= 0, f"dim {s.module.dim}, latent_dim {s.module.latent_dim}")
    require(isinstance(s.module.latent_law, LatentLaw), f"latent_law is a {type(s.module.latent_law).__name__}")


def _purity(s: Subject) -> None:
    prefix, z = s.arguments(3, s.length)
    given, before = (prefix.clone(), z.clone()), torch.get_rng_state()
    require(torch.equal(s.module(prefix, z), s.module(prefix, z)), "two evaluations differ")
    require(torch.equal(torch.get_rng_state(), before), "it reads the global random state")
    require(torch.equal(prefix, given[0]) and torch.equal(z, given[1]), "it changes its arguments")


def _law(s: Subject) -> None:
    law = s.module.latent_law
    z, log_weight = law.quadrature(20, 1)
    drawn = law.sample((_MANY,), s.generator, torch.float64, torch.device("cpu"))
    grid = law.quantile((torch.arange(_MANY, dtype=torch.float64) + 0.5) / _MANY)
    for power in (1, 2):
        expected, spread = float(grid.pow(power).mean()), float(grid.pow(power).std())
        by_rule = float((log_weight.exp() * z[:, 0].pow(power)).sum())
        by_sample = float(drawn.pow(power).mean())
        what = f"E z^{power} is {expected:.4g} by quantile, {by_rule:.4g} by quadrature, {by_sample:.4g} by sample"
        require(abs(by_rule - expected) <= 1e-2 * spread + 1e-9, what)
        require(abs(by_sample - expected) <= 6 * spread / _MANY**0.5 + 1e-9, what)


def _shapes(s: Subject) -> None:
    positions = ((s.length,), (2, s.length), (3, 2, s.length), (2, 1))
    for lead in positions if s.sequence else ((), (5,), (2, 4), (3, 2, 4)):
        prefix, z = s.arguments(*lead)
        out = s.module(prefix, z)
        require(out.shape == prefix.shape, f"{tuple(prefix.shape)} and {tuple(z.shape)} give {tuple(out.shape)}")


def _broadcasting(s: Subject) -> None:
    prefix, z = s.prefix(5), s.latent(2, 4, 5)
    _close(s.module(prefix, z), torch.stack([torch.stack([s.module(prefix, one) for one in some]) for some in z]))
    _close(s.module(prefix, z[0, 0, :1]), s.module(prefix, z[0, 0, :1].expand(5, -1)))


def _latent(s: Subject) -> None:
    prefix, z = s.arguments(_SOME, s.length)
    other, coordinates = s.latent(_SOME, s.length), torch.arange(s.module.latent_dim)
    out = s.module(prefix, z)
    for j in coordinates:
        moved = s.module(prefix, torch.where(coordinates == j, other, z))
        require(not torch.equal(moved, out), f"coordinate {int(j)} of {len(coordinates)} in z changes nothing")


def _parameters(s: Subject) -> None:
    slopes = _slopes(s.module, *s.arguments(_SOME, s.length))
    for name, value in s.module.named_parameters():
        require(value.dtype == torch.float64, f'"{name}" is stored in {value.dtype}, not in float64')
        require((slopes[name] != 0).any(), f'the derivative in "{name}" is zero')


def _dtypes(s: Subject) -> None:
    prefix, z = s.arguments(3, s.length)
    for dtype in DTYPES:
        out = copy.deepcopy(s.module).to(dtype)(prefix.to(dtype), z.to(dtype))
        require(out.dtype == dtype, f"arguments and parameters in {dtype} give {out.dtype}")
        require(out.isfinite().all(), f"not finite in {dtype}")
    single = copy.deepcopy(s.module).float()(prefix.float(), z.float())
    torch.testing.assert_close(single.double(), s.module(prefix, z), rtol=1e-3, atol=1e-3)


def _causality(s: Subject) -> None:
    prefix, z = s.arguments(2, s.length)
    other, other_z = s.arguments(2, s.length)
    out = s.module(prefix, z)
    if not s.sequence:
        alone = [s.module(e, one) for e, one in zip(prefix.flatten(0, 1), z.flatten(0, 1), strict=True)]
        _close(out.flatten(0, 1), torch.stack(alone))
    for t in range(1, s.length):
        changed = torch.cat([prefix[:, :t], 10 * other[:, t:]], dim=1), torch.cat([z[:, :t], other_z[:, t:]], dim=1)
        for what, found in (
            ("changing", s.module(*changed)[:, :t]),
            ("cutting off", s.module(prefix[:, :t], z[:, :t])),
        ):
            gap = float((found - out[:, :t]).detach().abs().max())
            require(gap <= 1e-9, f"{what} what follows position {t - 1} moves the result up to there by {gap:.1e}")


def _derivatives(s: Subject) -> None:
    SMOOTHNESS["derivatives"](_AtDraws(s), s.generator)


def _vmap(s: Subject) -> None:
    SMOOTHNESS["vmap"](_AtDraws(s), s.generator)
    prefix, z = s.prefix(5), s.latent(3, 5)
    looped = torch.stack([s.module(prefix, one) for one in z])
    _close(vmap(s.module, in_dims=(None, 0))(prefix, z), looped)


def _identity(s: Subject) -> None:
    if s.identity is None:
        return
    prefix, z = s.prefix(2, s.length), s.latent(3, 2, s.length)
    gap = (s.identity(prefix, z) - prefix).detach().abs().max()
    require(gap == 0, f"the identity setting moves the prefix by {float(gap):.1e}")
    for name, slope in _slopes(s.identity, prefix, z).items():
        require(slope.isfinite().all(), f'the derivative in "{name}" is not finite at the identity')


def _extremes(s: Subject) -> None:
    signs = s.prefix(20).sign()
    prefix = torch.cat([s.extreme * signs, torch.eye(s.module.dim) * s.extreme, 0 * signs[:1]])[:, None]
    level = torch.tensor([2.0**-53, 1e-3, 0.5, 1 - 1e-3, 1 - 2.0**-53], dtype=torch.float64)
    order = torch.randint(5, (len(prefix), s.length, s.module.latent_dim), generator=s.generator)
    order[:2], order[-1, 0] = 2, 2  # every coordinate at its median, where a norm has a kink
    z = s.module.latent_law.quantile(level)[order]
    require(z.isfinite().all(), "the quantile function is not finite inside (0, 1)")
    for dtype in DTYPES:
        module = copy.deepcopy(s.module).to(dtype)
        arguments = prefix.expand(-1, s.length, -1).to(dtype), z.to(dtype)
        require(module(*arguments).isfinite().all(), f"a value is not finite in {dtype}")
        for name, slope in _slopes(module, *arguments).items():
            require(slope.isfinite().all(), f'a derivative in "{name}" is not finite in {dtype}')


def _state(s: Subject) -> None:
    other, arguments = copy.deepcopy(s.module), s.arguments(3, s.length)
    with torch.no_grad():
        for value in (*other.parameters(), *other.buffers()):
            value.zero_()
    other.load_state_dict(s.module.state_dict())
    require(torch.equal(other(*arguments), s.module(*arguments)), "its state does not restore it")


def _devices(s: Subject) -> None:
    # Meta tensors have no values, so the test needs no second device; mixing them with others is an error.
    arguments = (x.to("meta") for x in s.arguments(3, s.length))
    out = copy.deepcopy(s.module).to("meta")(*arguments)
    require(out.device.type == "meta", f"the result is on {out.device}")


CLAUSES: dict[str, Clause] = {
    "protocol": _protocol,
    "purity": _purity,
    "law": _law,
    "shapes": _shapes,
    "broadcasting": _broadcasting,
    "latent": _latent,
    "parameters": _parameters,
    "dtypes": _dtypes,
    "causality": _causality,
    "derivatives": _derivatives,
    "vmap": _vmap,
    "identity": _identity,
    "extremes": _extremes,
    "state": _state,
    "devices": _devices,
}
