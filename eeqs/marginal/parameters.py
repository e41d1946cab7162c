"""Learnable parameters of a module as one vector theta, and back."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

from eeqs.marginal.protocols import Labelled

__all__ = ["flatten", "labels", "learnable", "unflatten"]


def learnable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters with ``requires_grad``, in the module's order; these make up theta."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def labels(module: nn.Module) -> tuple[str, ...]:
    """One label an entry of theta, such as ``log_scale[0]`` or ``kernel.weight[2,1]``.

    Parameters of the submodule ``perturbation`` go without a prefix: they are what a marginal model is about.
    """
    found: list[str] = []
    for name, value in learnable(module).items():
        owner, _, leaf = name.rpartition(".")
        holder = module.get_submodule(owner)
        own = holder.parameter_labels() if isinstance(holder, Labelled) else {}
        prefix = name.removesuffix(leaf).removeprefix("perturbation.")
        found += [prefix + entry for entry in own.get(leaf, _indexed(leaf, value))]
    return tuple(found)


def _indexed(leaf: str, value: Tensor) -> list[str]:
    if value.ndim == 0:
        return [leaf]
    return [f"{leaf}[{','.join(map(str, index))}]" for index in product(*map(range, value.shape))]


def flatten(module: nn.Module) -> Tensor:
    """Join the current values of the learnable parameters, (p,) in float64."""
    values = [value.detach().flatten().to(torch.float64) for value in learnable(module).values()]
    return torch.cat(values) if values else torch.empty(0, dtype=torch.float64)


def unflatten(module: nn.Module, theta: Tensor) -> dict[str, Tensor]:
    """Cut ``theta`` (p,) into tensors by parameter name, each in the dtype of the parameter it stands for.

    Raises
    ------
    ValueError
        If theta has another length than the learnable parameters.
    """
    parameters = learnable(module)
    sizes = [value.numel() for value in parameters.values()]
    if theta.ndim != 1 or theta.shape[0] != sum(sizes):
        raise ValueError(f"theta has shape {tuple(theta.shape)}; the model has {sum(sizes)} learnable parameters.")
    pieces = theta.split(sizes)
    return {
        name: piece.reshape(value.shape).to(value.dtype)
        for (name, value), piece in zip(parameters.items(), pieces, strict=True)
    }
