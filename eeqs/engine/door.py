"""Where data, psi and starting values come in: everything is checked here, before anything is solved."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.data import Data, as_sample, text_columns
from eeqs.engine.errors import DataError, PsiError
from eeqs.engine.evaluate import Problem, read_batch
from eeqs.engine.psi import EstimatingFunction, PsiLike, as_psi
from eeqs.engine.stream import as_stream, batch_at, is_stream
from eeqs.engine.tree import leaves_of, map_tree

__all__ = ["as_problem", "as_theta", "check_psi"]

# Rows on which psi is evaluated whole and in halves before it is trusted with blocks.
_PROBE = 64


def as_problem(psi: PsiLike, data: Data, *, batched: bool = False, groups: tuple[Any, ...] = ()) -> Problem:
    """Validate ``data`` for ``psi`` and prepare it once; ``groups`` are cluster labels that psi need not see.

    Raises
    ------
    DataError, PsiError
        See `eeqs.engine.data.as_sample`; also if a psi that needs all rows at once is given batches.
    """
    function = as_psi(psi)
    if batched and function.counts is not None:
        raise PsiError("frequency weights are for one data set; use probability weights for replicates.")
    if is_stream(data):
        return _stream_problem(function, data, groups)
    sample = as_sample(
        data if function.encode is None else function.encode(data),
        columns=function.columns,
        skip=text_columns(groups, data),
        batched=batched,
    )
    first = next(iter(sample.leaves.values() if isinstance(sample.leaves, dict) else sample.leaves))
    if function.require is not None:
        function.require(sample.leaves)
    prepared = function.prepare(sample.leaves)
    return Problem(function, prepared, sample.n, sample.replicates, first.device, sample.index, data)


def _stream_problem(psi: EstimatingFunction, data: Any, groups: tuple[Any, ...]) -> Problem:
    if not psi.separable or psi.root is not None:
        raise PsiError("this psi needs all rows at once and cannot be read in batches; pass data that fit in memory.")
    wanted = None if psi.columns is None or psi.encode is not None else psi.columns
    labels = tuple(by for by in groups if isinstance(by, str))
    stream = as_stream(
        data,
        None if wanted is None else (*wanted, *labels),
        lambda batch: read_batch(psi, batch, groups).n,
    )
    batch = next(iter(stream), None)
    if batch is None:
        raise DataError("the batches were gone when they were read again; return a fresh iterator every time.")
    first = read_batch(psi, batch, groups)
    _check_prepare(psi, first.leaves)
    return Problem(psi, stream, stream.n, None, next(leaves_of(first.leaves)).device)


def _check_prepare(psi: EstimatingFunction, leaves: Any) -> None:
    """Compare half the rows prepared alone with the same rows of all prepared: every batch is prepared on its own."""
    with batch_at(0):
        whole = psi.prepare(leaves)
    half = next(leaves_of(leaves)).shape[0] // 2
    if half == 0:
        return
    try:
        part = psi.prepare(map_tree(lambda leaf: leaf[:half], leaves))
    except DataError:  # too few rows for it, which another batch may not have
        return
    pairs = zip(leaves_of(part), leaves_of(whole), strict=True)
    if not all(a.shape == b[:half].shape and torch.allclose(a, b[:half], rtol=1e-8, atol=0) for a, b in pairs):
        raise PsiError(
            "prepare makes a row of this psi depend on other rows of the data, and batches are prepared one by one; "
            "compute what is common to all rows before, or pass data that fit in memory."
        )


def as_theta(problem: Problem, theta: Any) -> Tensor:
    """Parameters as float64 on the data's device, with their shape checked against the problem."""
    own_start = theta is None
    if own_start:
        if problem.psi.start is None:
            raise PsiError("theta0 is missing and psi has no start of its own; pass starting values of length p.")
        theta = problem.psi.start(_first_rows(problem) if problem.streamed else problem.data)
    array = theta if isinstance(theta, Tensor) else torch.from_numpy(np.array(theta, dtype=np.float64))
    tensor = array.detach().to(device=problem.device, dtype=torch.float64, copy=True)
    expected = 1 if problem.replicates is None else 2
    if tensor.ndim != expected:
        if own_start:
            raise DataError(
                f"the start this psi computes from the data has shape {tuple(tensor.shape)}; a column of the data has "
                "a second axis: pass one-dimensional columns."
            )
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
    return tensor


def _first_rows(problem: Problem) -> Any:
    """Rows to start from: the first block with several for every parameter, or the longest there is."""
    longest = None
    for rows in problem.blocks():
        longest = rows if longest is None or rows.n > longest.n else longest
        if longest.n >= 10 * len(problem.psi.names):
            break
    assert longest is not None  # noqa: S101 - data has rows
    return longest.data


def check_psi(problem: Problem, theta: Tensor, *, equations: int | None) -> int:
    """Raise when psi at ``theta`` has the wrong type, shape or number of equations; return that number.

    Parameters
    ----------
    problem : Problem
    theta : Tensor of shape (p,) or (R, p)
    equations : int or None
        The number of equations asked for; None accepts any number from p upwards.
    """
    if problem.replicates is not None:
        values, n, lead = problem.values(theta), problem.n, tuple(theta.shape[:-1])
    else:
        rows = next(problem.blocks())
        values, n, lead = problem.rows_of_psi(theta, rows), rows.n, ()
    p = theta.shape[-1]
    if values.dtype != torch.float64:
        raise PsiError(f"psi returned {values.dtype}; compute it in float64, the dtype of theta and the data.")
    wanted = p if equations is None else equations
    expected = (*lead, n, wanted)
    q = values.shape[-1] if values.ndim else 0
    if tuple(values.shape[:-1]) != expected[:-1] or (q < p if equations is None else q != equations):
        extra = "; eeqs.gmm takes more equations than parameters" if q > p and equations is not None else ""
        raise PsiError(
            f"psi returned shape {tuple(values.shape)} for {n} observations and {p} parameters; "
            f"it must return {expected}: one row an observation, one column a parameter{extra}."
        )
    if problem.replicates is None:
        if not bool(torch.isfinite(values).all()):
            raise_not_finite(problem, theta)
        if n < problem.n or problem.streamed:
            _check_separable(problem, theta, rows.data if problem.streamed else problem.data)
    return q


def raise_not_finite(problem: Problem, theta: Tensor) -> None:
    """Raise `PsiError` naming the equation and the first row where psi is not finite, if there is one."""
    count, first, component = 0, -1, -1
    seen = 0
    for rows in problem.blocks():
        bad = ~torch.isfinite(problem.rows_of_psi(theta, rows))
        if component < 0 and bool(bad.any()):
            component = int(bad.any(dim=0).nonzero()[0])
            first = seen + int(bad[:, component].nonzero()[0])
        count += int(bad[:, component].sum()) if component >= 0 else 0
        seen += rows.n
    if component < 0:
        return
    labels = problem.names(len(theta)) if bad.shape[1] == len(theta) else [f"equation {j}" for j in range(bad.shape[1])]
    raise PsiError(
        f'psi is NaN or infinite for {count} observation(s) in the equation of "{labels[component]}", first at row '
        f"{first}, at theta = {theta.tolist()}; start from other values or guard the expression (log(0), division by "
        "zero)."
    )


def _check_separable(problem: Problem, theta: Tensor, data: Any) -> None:
    """Compare psi on a few rows with psi on their halves: rows are only read in blocks when they do not interact.

    The rows are spread over the data, for neighbours may be alike: in sorted data a mean is the same in both halves.
    """
    step = max(1, next(leaves_of(data)).shape[0] // (2 * _PROBE))
    probe = map_tree(lambda leaf: leaf[::step][: 2 * _PROBE], data)
    n = next(leaves_of(probe)).shape[0]
    if n == 1:
        return
    whole = problem.psi.psi(theta, probe)
    first = problem.psi.psi(theta, map_tree(lambda leaf: leaf[: n // 2], probe))
    second = problem.psi.psi(theta, map_tree(lambda leaf: leaf[n // 2 :], probe))
    size = whole.abs()
    if not bool(((whole - torch.cat([first, second])).abs() <= 1e-8 * size + 1e-10 * size.amax(dim=0)).all()):
        raise PsiError(
            "a row of psi depends on other rows of the data, which are read in blocks; compute what is common to all "
            "rows before, make it a parameter, or pass EstimatingFunction(psi, separable=False)."
        )
