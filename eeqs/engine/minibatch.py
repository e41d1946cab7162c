"""Batches for a stochastic approximation: cut from arrays, or read from a stream as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.data import Data, Leaves, as_sample
from eeqs.engine.errors import DataError, PsiError
from eeqs.engine.evaluate import Problem
from eeqs.engine.psi import EstimatingFunction
from eeqs.engine.tree import leaves_of, map_tree

__all__ = ["minibatches", "problems"]


def minibatches(
    data: Data, size: int, *, generator: torch.Generator | None = None, passes: int = 1
) -> Iterator[Leaves]:
    """Cut data that fit in memory into batches of rows.

    Parameters
    ----------
    data : DataFrame, mapping of columns, or tuple of arrays
        Numbers, with one leading axis n.
    size : int
        Rows of a batch; the last one of a pass holds what is left.
    generator : torch.Generator, optional
        Shuffles the rows anew in every pass; without it they keep their order.
    passes : int
        Times the data is gone through. Online intervals are for one pass: with more the iterates approach the root of
        this sample, and the intervals no longer cover the root in the population.

    Returns
    -------
    iterator
        Of mappings (or tuples) of float64 tensors with one leading axis.

    Raises
    ------
    DataError
        If the data are not valid, see `eeqs.engine.data.as_sample`.
    ValueError
        If ``size`` or ``passes`` is below one.
    """
    if size < 1 or passes < 1:
        raise ValueError(f"size = {size} and passes = {passes}; both must be at least 1.")
    return _cut(as_sample(data).leaves, size, generator, passes)


def _cut(leaves: Leaves, size: int, generator: torch.Generator | None, passes: int) -> Iterator[Leaves]:
    first = next(leaves_of(leaves))
    for _ in range(passes):
        if generator is None:
            order = torch.arange(len(first))
        else:
            order = torch.randperm(len(first), generator=generator, device=generator.device)
        for rows in order.to(first.device).split(size):
            yield map_tree(lambda leaf: leaf[rows], leaves)  # noqa: B023 - called before the loop moves on


def problems(psi: EstimatingFunction, batches: Any, most: int | None, *, batched: bool) -> Iterator[Problem]:
    """Validate and prepare batches one by one as they are asked for, ``most`` of them, and bind psi to each.

    Raises
    ------
    DataError
        If ``batches`` is data and not an iterable of batches; for a batch that is not valid, naming its number; and if
        the number of replicates changes.
    PsiError
        If psi has frequency weights.
    """
    if psi.counts is not None:
        raise PsiError("a batch has no frequency weights; repeat its rows, or use probability weights.")
    return _bound(psi, islice(_source(batches), most), batched)


def _source(batches: Any) -> Iterator[Any]:
    if isinstance(batches, Tensor | np.ndarray | pd.DataFrame | Mapping | list | tuple | str):
        raise DataError(
            f"batches is a {type(batches).__name__}; pass eeqs.minibatches(data, size, generator=...) for data in "
            "memory, or an iterator of batches."
        )
    source: Callable[[], Any] | Iterable[Any] = batches() if callable(batches) else batches
    if not isinstance(source, Iterable):
        raise DataError(f"batches is a {type(batches).__name__}; pass an iterable of batches, or a function of none.")
    return iter(source)


def _bound(psi: EstimatingFunction, batches: Iterator[Any], batched: bool) -> Iterator[Problem]:
    problem: Problem | None = None
    for number, batch in enumerate(batches):
        try:
            encoded = batch if psi.encode is None else psi.encode(batch)
            sample = as_sample(encoded, columns=psi.columns, batched=batched)
            prepared = psi.prepare(sample.leaves)
        except DataError as error:
            raise DataError(f"in batch {number}: {error}") from error
        if problem is None:
            device = next(leaves_of(sample.leaves)).device
            problem = Problem(psi, prepared, sample.n, sample.replicates, device)
        elif sample.replicates != problem.replicates:
            raise DataError(f"batch {number} has {sample.replicates} replicates, those before {problem.replicates}.")
        else:  # what was found about psi, such as its Jacobian, is kept
            problem = replace(problem, data=prepared, n=sample.n)
        yield problem
