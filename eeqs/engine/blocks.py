"""One block of a stack: an estimating function and what its functions ask of the blocks before it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.data import text_columns
from eeqs.engine.derivative import jacobian_of_mean
from eeqs.engine.errors import DataError, PsiError
from eeqs.engine.psi import EstimatingFunction, PsiLike, as_psi

__all__ = ["Block", "read_blocks"]

# The functions of an estimating function that may ask for earlier blocks, and the arguments they have anyway.
_ROLES = {"psi": 2, "mean_jacobian": 2, "prepare": 1, "start": 1, "root": 1}


@dataclass(frozen=True)
class _Given:
    """A function together with the earlier blocks that its signature names."""

    function: Callable[..., Any]
    needs: tuple[str, ...]

    def at(self, values: Mapping[str, Any]) -> Callable[..., Any]:
        """Put in what belongs to the earlier blocks."""
        return partial(self.function, **{label: values[label] for label in self.needs}) if self.needs else self.function


@dataclass(frozen=True)
class Block:
    """A block and its place in theta.

    Attributes
    ----------
    label : str
        Name of the block.
    function : EstimatingFunction
    names : tuple of str
        Its parameters, as the stack names them.
    place : slice
        Where they are in theta.
    given : dict of str to callable
        Its functions by role.
    """

    label: str
    function: EstimatingFunction
    names: tuple[str, ...]
    place: slice
    given: dict[str, _Given]

    @property
    def size(self) -> int:
        """Parameters."""
        return len(self.names)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Columns of the stack that it reads: those it encodes itself carry its label."""
        names = self.function.columns
        return names if names is None or self.function.encode is None else tuple(map(self._labelled, names))

    def _labelled(self, name: str) -> str:
        return f"{self.label}.{name}"

    def encode(self, data: pd.DataFrame | Mapping[str, Any]) -> dict[str, Any]:
        """Columns of the stack from what the user passed."""
        if self.function.encode is not None:
            return {self._labelled(name): column for name, column in self.function.encode(data).items()}
        wanted = self.function.columns
        if wanted is None:
            text = text_columns(tuple(data.keys()), data)
            wanted = tuple(name for name in data.keys() if name not in text)  # noqa: SIM118 - a DataFrame too
        return {name: data[name] for name in wanted if name in data}  # a missing one is reported by prepare

    def prepare(self, leaves: Any, prepared: Mapping[str, Any]) -> Any:
        """Prepare its data, given the prepared data of earlier blocks."""
        return self.given["prepare"].at(prepared)(self._own(leaves))

    def require(self, leaves: Any) -> None:
        """Check what must hold of all rows together."""
        if self.function.require is not None:
            self.function.require(self._own(leaves))

    def _own(self, leaves: Any) -> Any:
        own, columns = leaves, self.columns
        if columns is not None:
            missing = [name for name in columns if not isinstance(leaves, dict) or name not in leaves]
            if missing:
                known = f"the data has {list(leaves)}" if isinstance(leaves, dict) else "pass named columns"
                raise DataError(f'block "{self.label}" reads the unknown column "{missing[0]}"; {known}.')
            own = dict(zip(self.function.columns or (), (leaves[name] for name in columns), strict=True))
        elif self.function.encode is not None:
            mark = self._labelled("")
            own = {name.removeprefix(mark): leaf for name, leaf in leaves.items() if name.startswith(mark)}
        return own

    def rows(self, values: Mapping[str, Tensor], data: Any) -> Tensor:
        """Psi (n, q) at the parameters ``values`` of this block and of earlier ones."""
        result = self.given["psi"].at(values)(values[self.label], data)
        if not isinstance(result, Tensor):
            raise PsiError(f'block "{self.label}" returned a {type(result).__name__}; write it in torch operations.')
        result = result.unsqueeze(-1) if result.ndim == 1 else result
        if result.ndim != 2 or result.shape[-1] != self.size:
            raise PsiError(
                f'block "{self.label}" returned shape {tuple(result.shape)} and has {self.size} parameter(s) '
                f"{list(self.names)}; return (n, {self.size}), or name as many parameters as there are equations by "
                "eeqs.EstimatingFunction(psi, names=(...))."
            )
        return result

    def alone(self, values: Mapping[str, Tensor]) -> EstimatingFunction:
        """View this block as an estimating function of its own, the earlier parameters held at ``values``."""
        bound: dict[str, Any] = {role: given.at(values) for role, given in self.given.items() if role != "prepare"}
        bound["psi"] = lambda theta, data: self.rows({**values, self.label: theta}, data)
        bound.setdefault("start", lambda _: torch.zeros(self.size, dtype=torch.float64))
        return replace(self.function, names=self.names, **bound)

    def jacobian(self, values: Mapping[str, Tensor], data: Any) -> dict[str, Tensor]:
        """Mean Jacobians (q, p_b) along its own parameters and those of the earlier blocks it reads, by label."""
        closed = self._closed(values, data)
        found = {} if closed is None else {self.label: closed}
        wanted = (*self.given["psi"].needs, *(() if found else (self.label,)))
        if wanted:
            sizes = [len(values[label]) for label in wanted]

            def along(flat: Tensor, rows: Any) -> Tensor:
                return self.rows({**values, **dict(zip(wanted, flat.split(sizes), strict=True))}, rows)

            joint = jacobian_of_mean(along, torch.cat([values[label] for label in wanted]), data)
            found.update(zip(wanted, joint.split(sizes, dim=1), strict=True))
        return found

    def _closed(self, values: Mapping[str, Tensor], data: Any) -> Tensor | None:
        """Jacobian along its own parameters where the block brings one."""
        if "mean_jacobian" in self.given:
            closed: Tensor = self.given["mean_jacobian"].at(values)(values[self.label], data)
            return closed
        linear = self.function.linear
        if linear is None or self.function.penalty is not None:
            return None
        return linear.mean_jacobian(values[self.label], data)


def read_blocks(blocks: Mapping[str, PsiLike]) -> tuple[Block, ...]:
    """Blocks with their places in theta and what they ask of earlier ones.

    Raises
    ------
    PsiError
        If there is none, or one asks for a name that is not an earlier block.
    """
    if not blocks:
        raise PsiError("name at least one block, as in eeqs.stack(propensity=..., ate=...).")
    read: list[Block] = []
    stop = 0
    for label, psi in blocks.items():
        function = as_psi(psi)
        names = tuple(f"{label}.{name}" for name in function.names) or (label,)
        place = slice(stop, stop := stop + len(names))
        earlier = tuple(block.label for block in read)
        parts = {role: getattr(function, role) for role in _ROLES}
        given = {
            role: _Given(part, _needs(part, _ROLES[role], f'{role} of block "{label}"', earlier))
            for role, part in parts.items()
            if part is not None
        }
        read.append(Block(label, function, names, place, given))
    return tuple(read)


def _needs(function: Callable[..., Any], leading: int, what: str, earlier: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the earlier blocks in the signature of a function, after its ``leading`` arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in function without a signature takes theta and data only
        return ()
    named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)][leading:]
    for name in named:
        if name not in earlier:
            known = f"the earlier blocks are {list(earlier)}" if earlier else "there is no earlier block"
            raise PsiError(
                f'{what} asks for "{name}"; {known}. Arguments after the first {leading} name the blocks whose values '
                "it receives."
            )
    return tuple(named)
