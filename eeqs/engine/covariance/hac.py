"""Meat of one time series, whose observations are dependent across short lags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.covariance.kernels import BandwidthRule, Kernel, andrews, bartlett
from eeqs.engine.covariance.root import Root
from eeqs.engine.errors import DataError

__all__ = ["HAC"]


@dataclass(frozen=True)
class HAC:
    r"""Heteroskedasticity and autocorrelation consistent, for a single series in the order of time.

    .. math:: B = f \sum_{|l| < n} k(l / b)\, \Gamma_l, \qquad
              \Gamma_l = \frac1n \sum_t \psi_t \psi_{t-l}^\top = \Gamma_{-l}^\top

    Attributes
    ----------
    kernel : Kernel
        `bartlett` (Newey & West 1987), `parzen` or `quadratic_spectral`, of `eeqs.covariance`.
    bandwidth : float or callable
        b, or a rule that finds it: `andrews` or `newey_west`, both of `eeqs.covariance`.
    lags : int, optional
        Instead of a bandwidth, the largest lag with weight: b = lags + 1 (maxlags of statsmodels).
    order : str, optional
        Column by which rows are sorted; they are in order when left out.
    small_sample : bool
        Factor f = n / (n - p) instead of 1.

    Notes
    -----
    Rows in batches work with a kernel that has a last lag (Bartlett, Parzen): rows are kept across blocks up to it. The
    quadratic spectral kernel weights all n lags, which takes all rows.

    Raises
    ------
    TypeError
        If ``kernel`` is none.
    ValueError
        If a setting is out of range.
    DataError
        From `meat`: replicates, frequency weights, an ``order`` with ties or in batches, too many lags.
    """

    kernel: Kernel = bartlett
    bandwidth: float | BandwidthRule = andrews
    lags: int | None = None
    order: str | None = None
    small_sample: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.kernel, Kernel):
            raise TypeError(f"kernel is {self.kernel!r}; pass bartlett, parzen or quadratic_spectral, or lags by name.")
        if not callable(self.bandwidth) and not self.bandwidth > 0:
            raise ValueError(f"bandwidth is {self.bandwidth}; pass a positive number or a rule such as andrews.")
        if self.lags is not None and (self.lags < 0 or not self.kernel.compact):
            raise ValueError(f"lags is {self.lags}; pass 0 or more, and a bandwidth for the quadratic spectral kernel.")
        if self.lags is not None and self.bandwidth is not andrews:
            raise ValueError("lags and bandwidth are two names of one number; pass one of them.")

    @property
    def label(self) -> str:
        """Name for tables."""
        width = self.lags if self.lags is not None else getattr(self.bandwidth, "__name__", self.bandwidth)
        return f"HAC({self.kernel.name}, {width})"

    @property
    def groups(self) -> tuple[Any, ...]:
        """The column of time, which need not be one of psi."""
        return () if self.order is None else (self.order,)

    def meat(self, root: Root) -> Tensor:
        """Meat (p, p)."""
        self._check(root)
        n, p = root.n, root.theta.shape[-1]
        if self.lags is not None:
            width = self.lags + 1.0
        elif callable(self.bandwidth):
            width = self.bandwidth(self.kernel, lambda lags: self._own(root, lags), n)
        else:
            width = float(self.bandwidth)
        meat = self._compact(root, width) if self.kernel.compact else self._spectral(root, width)
        return meat * (n / (n - p) if self.small_sample else 1.0)

    def _check(self, root: Root) -> None:
        root.require_one_data_set(self.label)
        if root.problem.psi.counts is not None:
            raise DataError("HAC needs one row for every point of time, and frequency weights have no order.")
        if self.order is not None or not self.kernel.compact:
            root.require_memory(f"{self.label} with this kernel or an order column")
        if self.lags is not None and self.lags >= root.problem.n:
            raise DataError(f"{self.lags} lags need more than {root.problem.n} rows.")
        if self.small_sample and root.n <= root.theta.shape[-1]:
            raise DataError(f"small_sample divides by n - p, but n = {root.n:g} and p = {root.theta.shape[-1]}.")

    def _compact(self, root: Root, width: float) -> Tensor:
        """Sum up to the last lag with weight."""
        last = min(int(np.ceil(width)) - 1, root.problem.n - 1)
        gammas = _autocovariances(self._blocks(root), last)
        weights = torch.from_numpy(self.kernel.weight(np.arange(last + 1) / width)).to(gammas)
        half = torch.tensordot(weights[1:], gammas[1:], 1)
        return gammas[0] + half + half.mT

    def _spectral(self, root: Root, width: float) -> Tensor:
        r"""All lags, as :math:`n^{-1} \Psi^\top K \Psi` with the Toeplitz matrix K applied by Fourier transforms."""
        values = torch.cat(list(self._blocks(root)))
        n = len(values)
        weights = torch.from_numpy(self.kernel.weight(np.arange(n) / width)).to(values)
        circle = torch.cat([weights, weights.new_zeros(1), weights[1:].flip(0)])
        spectrum = torch.fft.rfft(circle)[:, None]
        smooth = torch.fft.irfft(spectrum * torch.fft.rfft(values, n=2 * n, dim=0), n=2 * n, dim=0)[:n]
        meat = values.mT @ smooth / n
        return (meat + meat.mT) / 2

    def _own(self, root: Root, lags: int) -> np.ndarray:
        """Autocovariances (L + 1, p) of every equation with itself."""
        gammas = _autocovariances(self._blocks(root), min(lags, root.problem.n - 1))
        own: np.ndarray = gammas.diagonal(dim1=1, dim2=2).numpy(force=True)
        return own

    def _blocks(self, root: Root) -> Iterator[Tensor]:
        """Psi (b, p) of consecutive blocks of rows in the order of time."""
        if self.order is None:
            for values, _ in root.blocks():
                yield values
            return
        times = np.asarray(root.problem.raw[self.order])
        position = np.argsort(times, kind="stable")
        ordered = times[position]
        ties = np.nonzero(~(ordered[1:] > ordered[:-1]))[0]  # a missing time is after nothing
        if len(ties):
            raise DataError(
                f'order column "{self.order}" has equal or missing times, at {ordered[ties[0]]} first; HAC is for one '
                "series. For a panel, cluster by unit, by time, or both."
            )
        yield root.values()[torch.from_numpy(position).to(root.theta.device)]


def _autocovariances(blocks: Iterator[Tensor], last: int) -> Tensor:
    """Autocovariances (L + 1, p, p) at lags 0 to L, keeping the last L rows from block to block."""
    gammas, tail, n = None, None, 0
    for values in blocks:
        seen = values if tail is None else torch.cat([tail, values])
        parts = []
        for lag in range(last + 1):
            pairs = max(0, min(len(values), len(seen) - lag))  # rows of this block that have one so far back
            end = len(seen) - lag
            parts.append(values[len(values) - pairs :].mT @ seen[max(0, end - pairs) : max(0, end)])
        part = torch.stack(parts)
        gammas = part if gammas is None else gammas + part
        tail, n = seen[max(0, len(seen) - last) :], n + len(values)
    assert gammas is not None  # noqa: S101 - data has rows
    return gammas / n
