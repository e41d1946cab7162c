"""A context in which a transformer has right derivatives of second order in forward mode, in float64 throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from eeqs.engine.elementary import layer_norm

__all__ = ["twice_differentiable"]


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Compute attention, layer normalisation and SiLU from elementary operations.

    Fused attention has no derivative in forward mode, and SiLU no second one. Fused layer normalisation has one, but
    PyTorch (2.13) takes mean and scale for constants when that is differentiated again in forward mode, and silently
    returns a wrong number. Numbers in float64 stay so: many models normalise in float32, whose rounding is coarser than
    the differences by which the engine tells whether rows depend on each other.
    """
    with sdpa_kernel(SDPBackend.MATH), _Elementary():
        yield


class _Elementary(TorchFunctionMode):
    """Put elementary operations in the place of some functions of `torch.nn.functional`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let every other function pass."""
        del types
        kwargs = kwargs or {}
        if func in _CASTS and args[0].dtype == torch.float64:
            if func is not Tensor.to:
                return args[0]
            args = tuple(_double(value) for value in args)
            kwargs = {name: _double(value) for name, value in kwargs.items()}
        return _ELEMENTARY.get(func, func)(*args, **kwargs)


def _double(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value


def _silu(input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002, ARG001 - the arguments of the function
    return input * torch.sigmoid(input)


_CASTS = (Tensor.to, Tensor.float, Tensor.half, Tensor.bfloat16)
_ELEMENTARY: dict[Callable[..., Any], Callable[..., Any]] = {
    functional.layer_norm: layer_norm,
    functional.silu: _silu,
}
