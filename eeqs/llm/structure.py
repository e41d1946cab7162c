"""A perturbation as data: what to store beside its numbers so that it can be built again, without executing a file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from eeqs.marginal import laws
from eeqs.marginal.laws import LatentLaw

__all__ = ["describe", "rebuild"]

_PACKAGE = "eeqs.marginal."
_CONTAINERS = {kind.__name__: kind for kind in (nn.ModuleList, nn.ModuleDict, nn.ParameterList)}
_LAWS: dict[str, LatentLaw] = {law.name: law for law in vars(laws).values() if isinstance(law, LatentLaw)}
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": functional.relu, "gelu": functional.gelu,
    "silu": functional.silu, "softplus": functional.softplus, "elu": functional.elu,
}  # fmt: skip
_OWN = {"training", *vars(nn.Module())}


def describe(module: nn.Module) -> dict[str, Any]:
    """Describe the structure of a perturbation in values that JSON can hold; its numbers stay in the state dict.

    Parameters
    ----------
    module : torch.nn.Module
        A member of `eeqs.marginal`.

    Raises
    ------
    TypeError
        The module is not one of `eeqs.marginal`, or an attribute cannot be written as data.
    """
    kind = type(module)
    if kind.__name__ not in _CONTAINERS and not kind.__module__.startswith(_PACKAGE):
        raise TypeError(
            f"{kind.__module__}.{kind.__qualname__} is not part of eeqs.marginal, so a file cannot say how to build "
            "it; store its state_dict yourself and pass the module when you load."
        )
    tensors = {**module._parameters, **module._buffers}  # noqa: SLF001 - the public iterators skip entries of None
    return {
        "class": kind.__name__ if kind.__name__ in _CONTAINERS else f"{kind.__module__}:{kind.__qualname__}",
        "attributes": {name: _encode(name, value) for name, value in vars(module).items() if name not in _OWN},
        "parameters": {name: _shape(tensor) for name, tensor in module._parameters.items()},  # noqa: SLF001
        "buffers": {name: _shape(tensor) for name, tensor in module._buffers.items()},  # noqa: SLF001
        "frozen": [name for name, tensor in tensors.items() if tensor is not None and not tensor.requires_grad],
        "modules": {name: describe(child) for name, child in module.named_children()},
    }


def rebuild(description: dict[str, Any]) -> nn.Module:
    """Build a module from its description; its tensors are empty until a state dict is loaded.

    Only classes of `eeqs.marginal` and containers of torch are built, whatever the description says.

    Raises
    ------
    ValueError
        The description names anything else, or is damaged.
    """
    try:
        kind = _kind(description["class"])
        module = kind.__new__(kind)
        nn.Module.__init__(module)
        for name, value in description["attributes"].items():
            setattr(module, name, _decode(value))
        for name, shape in description["parameters"].items():
            grad = name not in description["frozen"]
            empty = None if shape is None else nn.Parameter(_empty(shape), requires_grad=grad)
            module.register_parameter(name, empty)
        for name, shape in description["buffers"].items():
            module.register_buffer(name, None if shape is None else _empty(shape))
        for name, child in description["modules"].items():
            module.add_module(name, rebuild(child))
    except (KeyError, AttributeError, ImportError, TypeError) as error:
        raise ValueError(f"the description of the perturbation is damaged ({error!r}); save it again.") from error
    return module


def _kind(name: str) -> type[nn.Module]:
    if name in _CONTAINERS:
        return _CONTAINERS[name]
    path, _, qualified = name.partition(":")
    kind = getattr(import_module(path), qualified) if path.startswith(_PACKAGE) else None
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
        raise ValueError(f"{name!r} is not a module of eeqs.marginal; the description is not one that eeqs wrote.")
    return kind


def _encode(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return {"sequence": [_encode(name, one) for one in value], "tuple": isinstance(value, tuple)}
    if isinstance(value, LatentLaw) and _LAWS.get(value.name) is value:
        return {"law": value.name}
    known = [key for key, function in _FUNCTIONS.items() if function is value]
    if known:
        return {"function": known[0]}
    raise TypeError(
        f"attribute {name!r} is a {type(value).__name__} that cannot be written as data; store the module's state_dict "
        f"yourself and pass the module when you load. Functions that can: {', '.join(_FUNCTIONS)}."
    )


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "sequence" in value:
        items = [_decode(one) for one in value["sequence"]]
        return tuple(items) if value["tuple"] else items
    return _LAWS[value["law"]] if "law" in value else _FUNCTIONS[value["function"]]


def _shape(tensor: Tensor | None) -> dict[str, Any] | None:
    return None if tensor is None else {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def _empty(shape: dict[str, Any]) -> Tensor:
    dtype = getattr(torch, shape["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{shape['dtype']} is no dtype")
    return torch.empty(shape["shape"], dtype=dtype)
