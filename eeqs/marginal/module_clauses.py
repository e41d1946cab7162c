"""Clauses that kernels of either kind keep, on a module from embeddings (..., d) to outputs (..., V)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap

from eeqs.marginal.layout import observations_last

__all__ = ["CLAUSES", "DTYPES", "Clause", "embeddings", "require"]

Clause: TypeAlias = Callable[[Any, torch.Generator], None]
"""``clause(kernel, generator)`` raises an exception that says what is wrong."""

Point: TypeAlias = tuple[Tensor, dict[str, Tensor]]
"""Embeddings, and parameters by name."""

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
_LEADS = ((), (5,), (3, 5), (2, 2, 3))


def require(condition: bool | Tensor, text: str) -> None:
    """Raise ValueError with ``text`` unless the condition holds."""
    if not bool(condition):
        raise ValueError(text)


def embeddings(kernel: Any, generator: torch.Generator, *lead: int) -> Tensor:
    """Draw standard normal embeddings (*lead, d), laid out as a marginal model passes them on."""
    e = torch.randn(*lead, kernel.dim, generator=generator, dtype=torch.float64, device=generator.device)
    return observations_last(e) if lead else e


def _shapes(kernel: Any, generator: torch.Generator) -> None:
    for lead in _LEADS:
        e = embeddings(kernel, generator, *lead)
        out = kernel(e)
        expected = (*lead, kernel.n_classes)
        require(tuple(out.shape) == expected, f"embeddings {tuple(e.shape)} give {tuple(out.shape)}, not {expected}")
    alone = torch.stack([kernel(row) for row in e.reshape(-1, kernel.dim)])
    torch.testing.assert_close(out.reshape(alone.shape), alone, rtol=1e-9, atol=1e-9)


def _dtypes(kernel: Any, generator: torch.Generator) -> None:
    e = embeddings(kernel, generator, 3, 50)
    for dtype in DTYPES:
        out = copy.deepcopy(kernel).to(dtype)(e.to(dtype))
        require(out.dtype == dtype, f"embeddings and parameters in {dtype} give {out.dtype}")
        require(out.isfinite().all(), f"not finite in {dtype}")
    single = copy.deepcopy(kernel).to(torch.float32)(e.to(torch.float32))
    torch.testing.assert_close(single.double(), kernel(e), rtol=1e-3, atol=1e-3)


def _scalar(kernel: Any, generator: torch.Generator, n: int) -> Callable[[Point], Tensor]:
    """Sum of all outputs at n embeddings with random weights, as a function of embeddings and parameters."""
    shape = (n, kernel.n_classes)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)

    def total(point: Point) -> Tensor:
        e, values = point
        return (functional_call(kernel, values, (e,)) * weight.to(e)).sum()

    return total


def _point(kernel: Any, e: Tensor) -> Point:
    return e, {name: value.detach() for name, value in kernel.named_parameters()}


def _direction(point: Point, generator: torch.Generator) -> Point:
    def like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=torch.float64, device=generator.device).to(x)

    return like(point[0]), {name: like(value) for name, value in point[1].items()}


def _along(f: Callable[[Point], Tensor], point: Point, way: Point) -> Callable[[Tensor], Tensor]:
    """Restriction of f to a line, a function of one number."""
    return lambda t: f((point[0] + t * way[0], {name: x + t * way[1][name] for name, x in point[1].items()}))


def _forward(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def slope(t: Tensor) -> Tensor:
        derivative: Tensor = jvp(f, (t,), (torch.ones_like(t),))[1]
        return derivative

    return slope


def _derivatives(kernel: Any, generator: torch.Generator) -> None:
    total = _scalar(kernel, generator, 4)
    point = _point(kernel, 0.5 * embeddings(kernel, generator, 4))
    zero, step = point[0].new_zeros(()), 1e-5
    for _ in range(3):
        f = _along(total, point, _direction(point, generator))
        expected = (f(zero + step) - f(zero - step)) / (2 * step)
        for first in (grad, _forward):
            slope = first(f)
            torch.testing.assert_close(slope(zero), expected, rtol=1e-5, atol=1e-6)
            curvature = (slope(zero + step) - slope(zero - step)) / (2 * step)
            for second in (grad, _forward):
                torch.testing.assert_close(second(slope)(zero), curvature, rtol=1e-5, atol=1e-6)


def _vmap(kernel: Any, generator: torch.Generator) -> None:
    e = embeddings(kernel, generator, 3, 5)
    torch.testing.assert_close(vmap(kernel)(e), torch.stack([kernel(row) for row in e]))
    total, point = _scalar(kernel, generator, 5), _point(kernel, e[0])
    way = _direction(point, generator)
    scale = torch.linspace(0, 0.1, 3, dtype=torch.float64, device=e.device)
    for function in (_along(total, point, way), grad(_along(total, point, way))):
        torch.testing.assert_close(vmap(function)(scale), torch.stack([function(t) for t in scale]))


def _extremes(kernel: Any, generator: torch.Generator) -> None:
    signs = embeddings(kernel, generator, 20).sign()
    axes = torch.eye(kernel.dim, dtype=torch.float64, device=signs.device)
    directions = torch.cat([signs, axes, -axes, torch.zeros_like(axes[:1])])
    for dtype in (torch.float64, torch.float32):
        moved = copy.deepcopy(kernel).to(dtype)
        for size in (10.0, 100.0, 1e4):
            e = (size * directions).to(dtype)
            require(moved(e).isfinite().all(), f"values are not finite at embeddings of size {size:g} in {dtype}")
            total, point = _scalar(moved, generator, len(e)), _point(moved, e)
            gradient, second = jvp(grad(total), (point,), (_direction(point, generator),))[:2]
            for part, what in ((gradient, "gradients"), (second, "second derivatives")):
                finite = all(bool(x.isfinite().all()) for x in (part[0], *part[1].values()))
                require(finite, f"{what} are not finite at embeddings of size {size:g} in {dtype}")


def _state(kernel: Any, generator: torch.Generator) -> None:
    other, e = copy.deepcopy(kernel), embeddings(kernel, generator, 5)
    with torch.no_grad():
        for value in other.parameters():
            value.zero_()
    other.load_state_dict(kernel.state_dict())
    require(torch.equal(other(e), kernel(e)), "its state does not restore it")


def _purity(kernel: Any, generator: torch.Generator) -> None:
    e = embeddings(kernel, generator, 5)
    before, given = torch.get_rng_state(), e.clone()
    require(torch.equal(kernel(e), kernel(e)), "two evaluations differ")
    require(torch.equal(before, torch.get_rng_state()), "it reads the global random state")
    require(torch.equal(e, given), "it changes its input")


CLAUSES: dict[str, Clause] = {
    "shapes": _shapes,
    "purity": _purity,
    "state": _state,
    "dtypes": _dtypes,
    "derivatives": _derivatives,
    "vmap": _vmap,
    "extremes": _extremes,
}
