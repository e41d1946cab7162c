"""Run a study until its intervals are as narrow as asked, or a budget of time ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil, isfinite

import pandas as pd

from simulations.manifest import Plan
from simulations.store import Store
from simulations.study import Cell

__all__ = ["Target", "rounds"]

GROWTH = 2.0
"""Largest factor by which one round adds replicates: the width of an interval is itself an estimate."""


@dataclass(frozen=True)
class Target:
    """When to stop.

    Parameters
    ----------
    width : float
        Width, high - low, that every interval of the verdict table is to have at most.
    seconds : float
        Wall time after which no further round is started.
    """

    width: float
    seconds: float

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.seconds > 0):
            raise ValueError(f"precision {self.width} and budget {self.seconds} s must be positive")


def rounds(
    store: Store, target: Target, judge: Callable[[], pd.DataFrame], clock: Callable[[], float] = time.monotonic
) -> Iterator[str]:
    """Extend the plan of a store round by round; run what it misses after each item.

    The width of an interval falls as the root of the number of replicates. Each round adds to every cell what the
    widest interval asks for, at most doubling, and at most what the time left allows at the pace so far. An interval
    without a finite width asks for a doubling.

    Stopping when intervals are narrow looks at widths only, never at where the intervals lie: coverage keeps its
    level asymptotically (Chow & Robbins 1965).

    Parameters
    ----------
    store : Store
        A finished run.
    target : Target
        When to stop.
    judge : callable
        Returns the verdict table of what the store holds.
    clock : callable
        Seconds, from any origin.

    Yields
    ------
    str
        What the next round does, and at the end why there is none.
    """
    start = clock()
    pace: float | None = None
    while True:
        verdicts = judge()
        width = (verdicts["high"] - verdicts["low"]).map(lambda w: w if isfinite(w) else float("inf"))
        wide = int((width > target.width).sum())
        left = target.seconds - (clock() - start)
        if not wide:
            yield f"every interval is at most {target.width:g} wide"
            return
        factor = min(GROWTH, (float(width.max()) / target.width) ** 2)
        if pace is not None:
            factor = min(factor, 1 + left / pace)
        plan = grown(store.plan, factor)
        added = _replicates(plan) - _replicates(store.plan)
        if left <= 0 or not added:
            yield f"the budget of {target.seconds:g} s ended with {wide} of {len(width)} intervals wider than asked"
            return
        store.extend(plan)
        before = clock()
        yield f"{wide} of {len(width)} intervals are wider than {target.width:g}: {added} more replicates"
        # Seconds that all the replicates before this round would take at the pace of this round.
        pace = (clock() - before) / added * _replicates(plan)


def whole_batches(plan: Plan) -> Plan:
    """Return the plan with every cell's replicates rounded up to whole batches.

    A batch that grows later would run again with other company, whose sums may differ in the last bit.
    """
    return replace(plan, cells=[_rounded(cell, cell.replicates) for cell in plan.cells])


def grown(plan: Plan, factor: float) -> Plan:
    """Return the plan with `factor` times the replicates in every cell, in whole batches."""
    return replace(plan, cells=[_rounded(cell, cell.replicates * factor) for cell in plan.cells])


def _rounded(cell: Cell, replicates: float) -> Cell:
    return replace(cell, replicates=cell.batch * ceil(replicates / cell.batch - 1e-9))


def _replicates(plan: Plan) -> int:
    return sum(cell.replicates for cell in plan.cells)
