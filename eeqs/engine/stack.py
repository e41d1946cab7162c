r"""Stacked estimating functions: nuisance models and what is computed from them, in one sandwich.

With blocks :math:`\theta = (\theta_1, \dots, \theta_K)` of which block k reads its own parameters and those of earlier
blocks, :math:`\psi_i(\theta) = (\psi_{i1}(\theta_1), \dots, \psi_{iK}(\theta_K; \theta_1, \dots, \theta_{K-1}))`, the
bread is block triangular. So the blocks can be solved one after the other, and the sandwich of the whole carries the
sampling error of the earlier blocks into the later ones (Newey & McFadden 1994, section 6; Stefanski & Boos 2002).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.blocks import Block, read_blocks
from eeqs.engine.door import as_theta
from eeqs.engine.errors import DataError, PsiError, Status
from eeqs.engine.evaluate import Problem
from eeqs.engine.psi import EstimatingFunction, PsiLike
from eeqs.engine.solve import solve_problem
from eeqs.engine.tree import leaves_of

__all__ = ["root_or_start", "stack"]


def stack(**blocks: PsiLike) -> EstimatingFunction:
    r"""Stack estimating functions; a block may use the parameters of the blocks before it by name.

    Parameters
    ----------
    **blocks : callable or EstimatingFunction
        In order. A plain ``psi(theta, data)`` has one parameter, named after its block; several are declared by
        ``eeqs.EstimatingFunction(psi, names=(...))`` and named ``block.name``. Further arguments of psi must be names
        of earlier blocks, and receive their parameter vectors: ``def psi(theta, data, propensity)``. The other
        functions of an `EstimatingFunction` may ask in the same way: ``start``, ``root`` and ``mean_jacobian`` for the
        parameters of earlier blocks, ``prepare`` for their prepared data, so that a design matrix is built once.

    Returns
    -------
    EstimatingFunction
        Its start, for one data set, is the root of the blocks solved one after the other, each from its own start
        (zeros where a block has none), so that a joint Newton has little left to do. Its Jacobian is assembled from
        those of the blocks that have one; everything else is differentiated in forward mode. Where a block has a root
        finder of its own, as a quantile does, the blocks are solved one after the other and nothing else.

    Raises
    ------
    PsiError
        If a block asks for a name that is not an earlier block, or returns another number of equations than it has
        parameters.

    Notes
    -----
    A later block must be continuous in the parameters of earlier ones, along which it is differentiated. One that
    jumps, as :math:`1\{y_i > q\}` does, has derivative zero wherever it has any, which is not that of its mean:
    `eeqs.induced_smoothing` is for such.

    Frequency weights on any block are weights of the rows, so they hold for all blocks.

    References
    ----------
    Stefanski & Boos (2002) The American Statistician 56; Newey & McFadden (1994) Handbook of Econometrics 4, ch. 36.

    Examples
    --------
    >>> import eeqs
    >>> def ate(theta, data, propensity):
    ...     probability = torch.sigmoid(propensity[0] + propensity[1] * data["x"])
    ...     weight = data["a"] / probability - (1 - data["a"]) / (1 - probability)
    ...     return weight * data["y"] - theta
    >>> psi = eeqs.stack(propensity=eeqs.moments.logit("a", ["x"]), ate=ate)
    """
    chain = _Chain(read_blocks(blocks))
    functions = [block.function for block in chain.blocks]
    counted = [block.label for block in chain.blocks if block.function.counts is not None]
    own_root = any(function.root is not None for function in functions)
    if counted and own_root:
        raise PsiError(
            f'block "{counted[0]}" has frequency weights and another block is a step function of its parameters, which '
            "takes none; repeat the rows instead."
        )
    return EstimatingFunction(
        chain.psi,
        chain.names,
        chain.columns,
        chain.prepare,
        lambda prepared: chain.solve(prepared)[0],
        chain.mean_jacobian,
        chain.solve if own_root else None,
        separable=all(function.separable for function in functions),
        encode=chain.encode if any(function.encode is not None for function in functions) else None,
        counts=chain.counts if counted else None,
        penalty=chain.penalty if any(function.penalty is not None for function in functions) else None,
        numerical=any(function.numerical for function in functions),
        require=chain.require,
    )


@dataclass(frozen=True)
class _Chain:
    """Blocks in order, as the functions of one `EstimatingFunction`; prepared data is a dict by block."""

    blocks: tuple[Block, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for block in self.blocks for name in block.names)

    @property
    def columns(self) -> tuple[str, ...] | None:
        found: dict[str, None] = {}
        for block in self.blocks:
            if block.columns is None:
                return None
            found |= dict.fromkeys(block.columns)
        return tuple(found)

    def encode(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, Mapping | pd.DataFrame):
            raise DataError(f"a formula needs named columns; pass a DataFrame, not a {type(data).__name__}.")
        return {name: column for block in self.blocks for name, column in block.encode(data).items()}

    def require(self, leaves: Any) -> None:
        for block in self.blocks:
            block.require(leaves)

    def prepare(self, leaves: Any) -> dict[str, Any]:
        prepared: dict[str, Any] = {}
        for block in self.blocks:
            prepared[block.label] = block.prepare(leaves, prepared)
        return prepared

    def psi(self, theta: Tensor, prepared: Mapping[str, Any]) -> Tensor:
        values = self._split(theta)
        return torch.cat([block.rows(values, prepared[block.label]) for block in self.blocks], dim=1)

    def mean_jacobian(self, theta: Tensor, prepared: Mapping[str, Any]) -> Tensor:
        values, rows = self._split(theta), []
        for block in self.blocks:
            found = block.jacobian(values, prepared[block.label])
            parts = [found.get(other.label, theta.new_zeros(block.size, other.size)) for other in self.blocks]
            rows.append(torch.cat(parts, dim=1))
        return torch.cat(rows)

    def solve(self, prepared: Mapping[str, Any]) -> tuple[Tensor, float]:
        """Roots (p,) of the blocks one after the other, and the largest residual."""
        values: dict[str, Tensor] = {}
        worst = 0.0
        for block in self.blocks:
            values[block.label], residual = root_or_start(block.alone(values), prepared[block.label])
            worst = max(worst, residual)
        return torch.cat(list(values.values())), worst

    def counts(self, prepared: Mapping[str, Any]) -> Tensor:
        """Frequency weights (n,) of the rows."""
        given = [(block.function.counts, prepared[block.label]) for block in self.blocks]
        weights = [counts(data) for counts, data in given if counts is not None]
        if any(not torch.equal(weights[0], other) for other in weights[1:]):
            raise DataError("two blocks have different frequency weights for the same rows; weight the stack instead.")
        return weights[0]

    def penalty(self, theta: Tensor) -> Tensor:
        """Concatenate what the penalised blocks subtract, zeros for the others (p,)."""
        values = self._split(theta)
        penalties = [(block.function.penalty, values[block.label]) for block in self.blocks]
        return torch.cat([torch.zeros_like(b) if penalty is None else penalty(b) for penalty, b in penalties])

    def _split(self, theta: Tensor) -> dict[str, Tensor]:
        return {block.label: theta[block.place] for block in self.blocks}


def root_or_start(psi: EstimatingFunction, prepared: Any) -> tuple[Tensor, float]:
    """Root (p,) and residual of psi on prepared data; where there is no root, its start and infinity."""
    leaf = next(leaves_of(prepared))
    problem = Problem(psi, prepared, leaf.shape[0], None, leaf.device)
    start = as_theta(problem, None)
    if problem.n < len(start):
        return start, torch.inf
    solution = solve_problem(problem, start)
    if solution.status is Status.CONVERGED:
        return solution.theta, solution.residual_norm
    return start, torch.inf
