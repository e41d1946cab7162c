"""Evaluation of psi on data: sums over blocks of rows, so that extra memory does not grow with n."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.data import Sample, as_sample, cluster_codes, text_columns
from eeqs.engine.derivative import jacobian_of_mean
from eeqs.engine.discover import discovered_jacobian
from eeqs.engine.errors import DataError, PsiError
from eeqs.engine.linear_index import weighted_products
from eeqs.engine.psi import EstimatingFunction
from eeqs.engine.stream import LabelCodes, Stream, batch_at
from eeqs.engine.tree import leaves_of, map_tree

__all__ = ["Moments", "Problem", "Rows", "read_batch"]

# Numbers of prepared data in a block of rows: 1 MiB, so that a block and its temporaries stay in cache.
_BLOCK_NUMBERS = 2**17
_FEWEST_ROWS = 256


class Rows(NamedTuple):
    """A block of consecutive rows: prepared data, frequency counts (b,) or None, and cluster codes (b,)."""

    data: Any
    n: int
    counts: Tensor | None
    codes: tuple[Tensor, ...] = ()


class Moments(NamedTuple):
    """Mean (q,), root mean square (q,) and mean Jacobian (q, p) or None of psi, as numpy arrays."""

    mean: np.ndarray
    rms: np.ndarray
    jacobian: np.ndarray | None


@dataclass(frozen=True)
class Problem:
    """An estimating function bound to validated, prepared data.

    Attributes
    ----------
    psi : EstimatingFunction
    data : Any
        What ``psi.prepare`` made of the data; a `Stream` where rows come in batches.
    n : int
        Rows (in each replicate).
    replicates : int or None
        None for one data set.
    device : torch.device
    index : Any
        Row labels of the data, or None.
    raw : Any
        What the user passed, for the columns that psi does not see.
    """

    psi: EstimatingFunction
    data: Any
    n: int
    replicates: int | None
    device: torch.device
    index: Any = None
    raw: Any = None
    _found: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def _map(self, function: Callable[[Tensor, Any], Tensor]) -> Callable[[Tensor, Any], Tensor]:
        return function if self.replicates is None else torch.func.vmap(function)

    @property
    def streamed(self) -> bool:
        """Whether rows come in batches that are read again for every pass."""
        return isinstance(self.data, Stream)

    def total(self) -> float:
        """Observations: rows, or the sum of their frequency weights."""
        if self.psi.counts is None:
            return self.n
        total = float(sum(rows.counts.sum() for rows in self.blocks() if rows.counts is not None))
        if total == 0:
            raise DataError("all frequency weights are zero.")
        return total

    def blocks(self, groups: tuple[Any, ...] = ()) -> Iterator[Rows]:
        """Blocks of rows in order, with the codes of the cluster labels in ``groups``."""
        if isinstance(self.data, Stream):
            yield from self._streamed(self.data, groups)
        else:
            codes = tuple(cluster_codes(self.raw, by).to(self.device) for by in groups)
            yield from self._sliced(self.data, self.n, codes)

    def _streamed(self, stream: Stream, groups: tuple[Any, ...]) -> Iterator[Rows]:
        encoders = [LabelCodes(by) for by in groups]
        seen = 0
        for batch in stream:
            with batch_at(seen):
                codes = tuple(encoder(batch).to(self.device) for encoder in encoders)
                sample = read_batch(self.psi, batch, groups)
                prepared = self.psi.prepare(sample.leaves)
            seen += sample.n
            yield from self._sliced(prepared, sample.n, codes)
        if seen != self.n:
            raise DataError(f"the stream gave {self.n} rows on the first pass and {seen} now; it must be repeatable.")
        for encoder in encoders:
            encoder.check()

    def _sliced(self, data: Any, n: int, codes: tuple[Tensor, ...]) -> Iterator[Rows]:
        counts = self.psi.counts
        for code in codes:
            if code.shape != (n,):
                raise DataError(f"cluster labels have shape {tuple(code.shape)}; the data has {n} rows.")
        size = self._block_rows(data, n)
        if size >= n:
            yield Rows(data, n, None if counts is None else counts(data), codes)
            return
        for start in range(0, n, size):
            stop = min(start + size, n)
            part = map_tree(lambda leaf: leaf[start:stop], data)  # noqa: B023 - called before the loop moves on
            weights = None if counts is None else counts(part)
            yield Rows(part, stop - start, weights, tuple(code[start:stop] for code in codes))

    def _block_rows(self, data: Any, n: int) -> int:
        if not self.psi.separable or self.psi.root is not None or n <= _FEWEST_ROWS:
            return n
        shapes = [tuple(leaf.shape) for leaf in leaves_of(data)]
        if any(shape[:1] != (n,) for shape in shapes):
            raise PsiError(
                f"prepare made tensors of shapes {shapes} from {n} rows, and they are read in blocks of rows; give "
                "each the leading axis n, or pass EstimatingFunction(psi, separable=False)."
            )
        width = sum(math.prod(shape[1:]) for shape in shapes)
        return max(_FEWEST_ROWS, _BLOCK_NUMBERS // max(1, width))

    def rows_of_psi(self, theta: Tensor, rows: Rows) -> Tensor:
        """Psi (b, q) of a block of rows."""
        values = self.psi.psi(theta, rows.data)
        if not isinstance(values, Tensor):
            raise PsiError(
                f"psi returned a {type(values).__name__}; write it in torch operations, or wrap a numpy psi in "
                "eeqs.from_numpy."
            )
        return values.unsqueeze(-1) if values.ndim == theta.ndim else values

    def values(self, theta: Tensor) -> Tensor:
        """Psi of every row: (n, q), or (R, n, q) for replicates."""
        if self.replicates is None:
            parts = [self.rows_of_psi(theta, rows) for rows in self.blocks()]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        values = self._map(self.psi.psi)(theta, self.data)
        if not isinstance(values, Tensor):
            raise PsiError(f"psi returned a {type(values).__name__}; write it in torch operations.")
        return values.unsqueeze(-1) if values.ndim == theta.ndim else values

    def jacobian(self, theta: Tensor) -> Tensor:
        """Mean Jacobian: (q, p), or (R, q, p) for replicates."""
        if self.replicates is None:
            total, weight = None, 0.0
            for rows in self.blocks():
                part = self._block_jacobian(theta, rows)
                total = part if total is None else total + part
                weight += rows.n if rows.counts is None else float(rows.counts.sum())
            assert total is not None  # noqa: S101 - data has rows
            return total / weight
        closed = self.psi.mean_jacobian
        if closed is not None:
            return self._map(closed)(theta, self.data)
        return self._map(lambda b, d: jacobian_of_mean(self.psi.psi, b, d))(theta, self.data)

    def _block_jacobian(self, theta: Tensor, rows: Rows) -> Tensor:
        """Sum over a block of d psi / d theta, each row times its count."""
        if self.psi.linear is not None:
            return self._linear_sums(theta, rows, jacobian=True)[2]
        if rows.counts is not None:
            if not bool(rows.counts.any()):  # a block of rows that stand for none
                return theta.new_zeros(self.rows_of_psi(theta, rows).shape[-1], len(theta))
            return jacobian_of_mean(self.psi.psi, theta, rows.data, rows.counts) * rows.counts.sum()
        closed = self.psi.mean_jacobian or self._discovered(theta, rows)
        if closed is not None:
            return closed(theta, rows.data) * rows.n
        return jacobian_of_mean(self.psi.psi, theta, rows.data) * rows.n

    def _discovered(self, theta: Tensor, rows: Rows) -> Callable[[Tensor, Any], Tensor] | None:
        """Jacobian through the linear indices of a plain psi, looked for once."""
        if not self.psi.separable:
            return None
        if "jacobian" not in self._found:
            self._found["jacobian"] = discovered_jacobian(self.psi.psi, theta, rows.data, rows.n)
        found: Callable[[Tensor, Any], Tensor] | None = self._found["jacobian"]
        return found

    def moments(self, theta: Tensor, *, jacobian: bool) -> Moments:
        """Mean, root mean square and mean Jacobian of psi over one data set, in one pass over its rows."""
        sums: list[Tensor] | None = None
        weight = 0.0
        for rows in self.blocks():
            part = self._sums(theta, rows, jacobian)
            sums = part if sums is None else [a + b for a, b in zip(sums, part, strict=True)]
            weight += rows.n if rows.counts is None else float(rows.counts.sum())
        assert sums is not None  # noqa: S101 - data has rows
        mean, square, *rest = (part.numpy(force=True) / weight for part in sums)
        if not np.isfinite(square).all() or ((square == 0) & (mean != 0)).any():
            return Moments(mean, self._safe_rms(theta, weight), rest[0] if rest else None)
        return Moments(mean, np.sqrt(square), rest[0] if rest else None)

    def _sums(self, theta: Tensor, rows: Rows, jacobian: bool) -> list[Tensor]:
        if self.psi.linear is not None:
            return self._linear_sums(theta, rows, jacobian=jacobian)
        values = self.rows_of_psi(theta, rows)
        if len(values) != rows.n:  # the first block was checked at the door
            raise PsiError(
                f"psi returned {len(values)} rows for a block of {rows.n}; it must return one a row of data."
            )
        counted = values if rows.counts is None else rows.counts[:, None] * values
        sums = [counted.sum(dim=0), (counted * values).sum(dim=0)]
        return [*sums, self._block_jacobian(theta, rows)] if jacobian else sums

    def _linear_sums(self, theta: Tensor, rows: Rows, *, jacobian: bool) -> list[Tensor]:
        """Sum psi (q,), its squares (q,) and, if asked, its Jacobian (q, p), from one set of residuals."""
        linear, counts, penalty = self.psi.linear, rows.counts, self.psi.penalty
        assert linear is not None  # noqa: S101 - the caller checked
        designs, instruments = linear.matrices(rows.data)
        if jacobian:
            residuals, slopes = linear.evaluate(theta, rows.data)
        else:
            residuals, slopes = linear.residuals(linear.indices(theta, rows.data), rows.data), ()
        counted = residuals if counts is None else tuple(counts * r for r in residuals)
        first = [z.mT @ r for z, r in zip(instruments, counted, strict=True)]
        second = [z.square().mT @ (c * r) for z, c, r in zip(instruments, counted, residuals, strict=True)]
        total, square = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (first, second))
        slope = [weighted_products(designs, instruments, slopes, counts)] if jacobian else []
        if penalty is None:
            return [total, square, *slope]
        shift, weight = penalty(theta), rows.n if counts is None else counts.sum()
        square = (square - 2 * shift * total + weight * shift.square()).clamp_min(0)
        slope = [part - weight * torch.func.jacfwd(penalty)(theta) for part in slope]
        return [total - weight * shift, square, *slope]

    def _safe_rms(self, theta: Tensor, weight: float) -> np.ndarray:
        """Root mean square where squares over- or underflow: the largest value of an equation is divided out."""
        largest: Tensor = torch.stack([self.rows_of_psi(theta, rows).abs().amax(0) for rows in self.blocks()]).amax(0)
        unit = torch.where(largest > 0, largest, 1.0)
        total = torch.zeros_like(unit)
        for rows in self.blocks():
            values = (self.rows_of_psi(theta, rows) / unit).square()
            total = total + (values if rows.counts is None else rows.counts[:, None] * values).sum(0)
        rms: np.ndarray = (largest * (total / weight).sqrt()).numpy(force=True)
        return rms

    def names(self, p: int) -> tuple[str, ...]:
        """Parameter names, made up where psi has none."""
        if not self.psi.names:
            return tuple(f"theta[{j}]" for j in range(p))
        if len(self.psi.names) != p:
            raise PsiError(f"psi names {len(self.psi.names)} parameters {list(self.psi.names)}, but theta has {p}.")
        return self.psi.names

    def rows(self, keep: Tensor) -> Problem:
        """Keep only the replicates in ``keep``."""
        data = map_tree(lambda leaf: leaf.index_select(0, keep), self.data)
        return Problem(self.psi, data, self.n, len(keep), self.device, self.index, self.raw)

    def squeeze(self) -> Problem:
        """View a batch of one replicate as one data set."""
        data = map_tree(lambda leaf: leaf[0], self.data)
        return Problem(self.psi, data, self.n, None, self.device, self.index, self.raw)


def read_batch(psi: EstimatingFunction, batch: Any, groups: tuple[Any, ...]) -> Sample:
    """Validate one batch of a stream for psi."""
    encoded = batch if psi.encode is None else psi.encode(batch)
    return as_sample(encoded, columns=psi.columns, skip=text_columns(groups, batch))
