"""Leave-one-out covariance by refitting."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.covariance.refit import refit, units
from eeqs.engine.covariance.root import Root
from eeqs.engine.errors import DataError, SolverError, Status

__all__ = ["Jackknife"]


@dataclass(frozen=True)
class Jackknife:
    r"""Jackknife over rows or clusters, with a refit for each of the G that is left out.

    .. math:: V = \frac{G - 1}{G} \sum_g (\hat\theta_{(g)} - c)(\hat\theta_{(g)} - c)^\top

    Attributes
    ----------
    by : str or array of shape (n,), optional
        Column of cluster labels, or the labels; every row on its own when left out.
    centre : {"estimate", "mean"}
        c is the estimate from all rows (CV3, the more conservative), or the mean of the G refits (CV3J).

    Notes
    -----
    CV3 and CV3J of MacKinnon, Nielsen & Webb (2023, J. Applied Econometrics 38). In least squares it is
    :math:`(G-1)/G` times CR3. Every refit starts at the estimate from all rows, and ends within 1e-9 standard errors of
    its root. A row with frequency weight w is left out w times, one observation at a time. The term of a penalty
    stays that of all rows.

    Raises
    ------
    ValueError
        If ``centre`` is unknown.
    DataError
        From `meat`: data in batches or replicates, unusable labels, fewer than two observations, a theta that is no
        root.
    SolverError
        From `meat`: refits that fail, naming what was left out. They are never dropped.
    """

    by: Any = None
    centre: str = "estimate"

    def __post_init__(self) -> None:
        if self.centre not in ("estimate", "mean"):
            raise ValueError(f'centre is "{self.centre}"; use "estimate" (CV3) or "mean" (CV3J).')

    @property
    def label(self) -> str:
        """Name for tables."""
        kind = "CV3" if self.centre == "estimate" else "CV3J"
        return f"{kind}({'rows' if self.by is None else self.by if isinstance(self.by, str) else 'labels'})"

    @property
    def groups(self) -> tuple[Any, ...]:
        """The one set of labels, or none."""
        return () if self.by is None else (self.by,)

    def meat(self, root: Root) -> Tensor:
        """Meat (p, p) that makes the sandwich the jackknife."""
        root.require_memory(self.label)
        drawn = units(root, self.by)
        left_out = drawn.sizes.nonzero()[:, 0]
        multiplicity = drawn.sizes[left_out]
        total = float(multiplicity.sum())
        if total < 2:
            raise DataError("the jackknife leaves out one observation of several, and there is only one.")

        def weights(start: int, stop: int) -> Tensor:
            kept = drawn.sizes.repeat(stop - start, 1)
            kept[torch.arange(stop - start), left_out[start:stop]] -= 1
            return drawn.row_weights(kept)

        theta, status = refit(root, len(left_out), weights)
        self._check(root, status, left_out)
        centre = root.theta if self.centre == "estimate" else multiplicity @ theta / total
        change = (theta - centre) @ root.bread.mT
        return root.n * (total - 1) / total * (change.mT @ (multiplicity[:, None] * change))

    def _check(self, root: Root, status: tuple[Status, ...], left_out: Tensor) -> None:
        failed = [k for k, one in enumerate(status) if one is not Status.CONVERGED]
        if not failed:
            return
        code = int(left_out[failed[0]])
        first = f"row {code}" if self.by is None else root.cluster_name(self.by, code)
        counts = ", ".join(f"{count} {kind}" for kind, count in Counter(status[k] for k in failed).items())
        raise SolverError(
            f"{len(failed)} of {len(status)} leave-one-out refits failed ({counts}), first without {first}: "
            f"{status[failed[0]].text}"
        )
