"""Nested mappings and tuples of tensors, the form of prepared data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

__all__ = ["leaves_of", "map_tree"]


def leaves_of(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested mappings and tuples."""
    if isinstance(tree, Tensor):
        yield tree
        return
    for branch in tree.values() if isinstance(tree, dict) else tree:
        yield from leaves_of(branch)


def map_tree(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Apply ``function`` to every tensor, keeping the nesting."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: map_tree(function, branch) for key, branch in tree.items()}
    return tuple(map_tree(function, branch) for branch in tree)
