"""Evaluation of psi on one data set or on a batch of replicates, checked at the door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.data import Data, as_sample
from eeqs.engine.derivative import jacobian_of_mean
from eeqs.engine.errors import DataError, PsiError
from eeqs.engine.psi import EstimatingFunction, PsiLike, as_psi

__all__ = ["Problem", "as_problem", "as_theta"]


@dataclass(frozen=True)
class Problem:
    """An estimating function bound to validated, prepared data.

    Attributes
    ----------
    psi : EstimatingFunction
    data : Any
        What ``psi.prepare`` made of the data.
    n : int
        Observations (in each replicate).
    replicates : int or None
        None for one data set.
    device : torch.device
    index : Any
        Row labels of the data, or None.
    """

    psi: EstimatingFunction
    data: Any
    n: int
    replicates: int | None
    device: torch.device
    index: Any = None

    def _map(self, function: Callable[[Tensor, Any], Tensor]) -> Callable[[Tensor, Any], Tensor]:
        return function if self.replicates is None else torch.func.vmap(function)

    def values(self, theta: Tensor) -> Tensor:
        """Psi of every observation: (n, p), or (R, n, p) for replicates."""
        values = self._map(self.psi.psi)(theta, self.data)
        if not isinstance(values, Tensor):
            raise PsiError(f"psi returned a {type(values).__name__}; write it in torch operations.")
        return values.unsqueeze(-1) if values.ndim == theta.ndim else values

    def jacobian(self, theta: Tensor) -> Tensor:
        """Mean Jacobian: (p, p), or (R, p, p) for replicates."""
        closed = self.psi.mean_jacobian
        if closed is not None:
            return self._map(closed)(theta, self.data)
        return self._map(lambda b, d: jacobian_of_mean(self.psi.psi, b, d))(theta, self.data)

    def names(self, p: int) -> tuple[str, ...]:
        """Parameter names, made up where psi has none."""
        if not self.psi.names:
            return tuple(f"theta[{j}]" for j in range(p))
        if len(self.psi.names) != p:
            raise PsiError(f"psi names {len(self.psi.names)} parameters {list(self.psi.names)}, but theta has {p}.")
        return self.psi.names

    def rows(self, keep: Tensor) -> Problem:
        """Keep only the replicates in ``keep``."""
        data = _map_tree(lambda leaf: leaf.index_select(0, keep), self.data)
        return Problem(self.psi, data, self.n, len(keep), self.device, self.index)

    def squeeze(self) -> Problem:
        """View a batch of one replicate as one data set."""
        return Problem(self.psi, _map_tree(lambda leaf: leaf[0], self.data), self.n, None, self.device, self.index)

    def check(self, theta: Tensor, values: Tensor) -> None:
        """Raise `PsiError` when psi at ``theta`` has the wrong type, shape or non-finite entries."""
        p = theta.shape[-1]
        if not isinstance(values, Tensor):
            raise PsiError(f"psi returned a {type(values).__name__}; write it in torch operations.")
        if values.dtype != torch.float64:
            raise PsiError(f"psi returned {values.dtype}; compute it in float64, the dtype of theta and the data.")
        expected = (*theta.shape[:-1], self.n, p)
        if tuple(values.shape) != expected:
            raise PsiError(
                f"psi returned shape {tuple(values.shape)} for {self.n} observations and {p} parameters; "
                f"it must return {expected}: one row an observation, one column a parameter."
            )
        if self.replicates is None and not bool(torch.isfinite(values).all()):
            bad = ~torch.isfinite(values)
            component = int(bad.any(dim=0).nonzero()[0])
            row = int(bad[:, component].nonzero()[0])
            raise PsiError(
                f"psi is NaN or infinite for {int(bad[:, component].sum())} observation(s) in the equation of "
                f'"{self.names(p)[component]}", first at row {row}, at theta = {theta.tolist()}; '
                "start from other values or guard the expression (log(0), division by zero)."
            )


def as_problem(psi: PsiLike, data: Data, *, batched: bool = False, skip: tuple[str, ...] = ()) -> Problem:
    """Validate ``data`` for ``psi`` and prepare it once."""
    function = as_psi(psi)
    sample = as_sample(data, columns=function.columns, skip=skip, batched=batched)
    first = next(iter(sample.leaves.values() if isinstance(sample.leaves, dict) else sample.leaves))
    prepared = function.prepare(sample.leaves)
    return Problem(function, prepared, sample.n, sample.replicates, first.device, sample.index)


def as_theta(problem: Problem, theta: Any) -> Tensor:
    """Parameters as float64 on the data's device, with their shape checked against the problem."""
    if theta is None:
        if problem.psi.start is None:
            raise PsiError("theta0 is missing and psi has no start of its own; pass starting values of length p.")
        theta = problem.psi.start(problem.data)
    array = theta if isinstance(theta, Tensor) else torch.from_numpy(np.array(theta, dtype=np.float64))
    tensor = array.detach().to(device=problem.device, dtype=torch.float64, copy=True)
    expected = 1 if problem.replicates is None else 2
    if tensor.ndim != expected:
        raise PsiError(f"theta has shape {tuple(tensor.shape)}; pass (p,), or (R, p) with data leaves (R, n, ...).")
    if problem.replicates is not None and tensor.shape[0] != problem.replicates:
        raise PsiError(f"theta has {tensor.shape[0]} rows but the data has {problem.replicates} replicates.")
    if problem.psi.names and tensor.shape[-1] != len(problem.psi.names):
        raise PsiError(
            f"theta has length {tensor.shape[-1]}, but psi has {len(problem.psi.names)} parameters: "
            f"{list(problem.psi.names)}."
        )
    if not bool(torch.isfinite(tensor).all()):
        raise PsiError("theta has NaN or infinite entries; pass finite starting values.")
    if problem.n < tensor.shape[-1]:
        raise DataError(
            f"{problem.n} observations cannot determine {tensor.shape[-1]} parameters; "
            "add observations or estimate fewer parameters."
        )
    return tensor


def _map_tree(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: _map_tree(function, branch) for key, branch in tree.items()}
    return tuple(_map_tree(function, branch) for branch in tree)
