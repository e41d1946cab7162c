"""Run the missing batches of a study: one thread a worker, the same rows whatever the number of workers."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from simulations.executors import Execute, local
from simulations.memory import keep_freed_memory
from simulations.schema import check_rows, complete
from simulations.seeds import replicate_seed
from simulations.store import Store
from simulations.study import Batch, Cell, Study, check_cells


class BatchError(RuntimeError):
    """A batch raised, or returned rows that violate the schema; the message names its cell and replicates."""


@dataclass(frozen=True)
class Outcome:
    """What came of one batch: its rows, or the traceback of what it raised."""

    batch: Batch
    result: pd.DataFrame | str

    def rows(self) -> pd.DataFrame:
        """Return the rows.

        Raises
        ------
        BatchError
            The batch failed.
        """
        if isinstance(self.result, str):
            replicates = self.batch.replicates
            raise BatchError(
                f"cell {self.batch.cell.key}, replicates {replicates.start} to {replicates.stop - 1} failed:\n"
                f"{self.result}"
            )
        return self.result


def run(
    study: Study,
    store: Store,
    *,
    batches: Sequence[Batch] | None = None,
    execute: Execute | None = None,
    on_done: Callable[[Batch], None] = lambda _: None,
) -> None:
    """Run what a store misses.

    Parameters
    ----------
    study : Study
        The study whose plan the store holds.
    store : Store
        From `simulations.store.open_store`.
    batches : sequence of Batch, optional
        Some of ``store.missing()``, by default all.
    execute : callable, optional
        From `simulations.executors`; by default in this process.
    on_done : callable
        Called with each batch once it is on disk.

    Raises
    ------
    BatchError
        A batch failed. No further batch is started and those under way are stored first, so that a resumed
        run repeats only the failed one.
    """
    # The longest first: the last batch to end then keeps the other workers waiting least.
    pending = sorted(store.missing() if batches is None else batches, key=lambda batch: -batch.cost)
    failures: list[Outcome] = []

    def until_failure() -> Iterator[Batch]:
        for batch in pending:
            if failures:
                return
            yield batch

    for outcome in (execute or local())(partial(attempt, study, store.plan.seed), until_failure()):
        if isinstance(outcome.result, str):
            failures.append(outcome)
            continue
        store.write(outcome.batch, outcome.result)
        on_done(outcome.batch)
    for failure in failures:
        failure.rows()


def tabulate(study: Study, cells: Sequence[Cell], seed: int = 0) -> pd.DataFrame:
    """Run cells in this process and return their table, without a store.

    For a look at a design and for tests; a run that takes long belongs into a store, see `run`.

    Parameters
    ----------
    study : Study
        The study.
    cells : sequence of Cell
        Such as ``study.cells(Preset.QUICK)``, or some of them.
    seed : int
        Seed of the study.

    Raises
    ------
    BatchError
        A batch failed.
    """
    check_cells(study.name, cells)
    outcomes = (attempt(study, seed, batch) for cell in cells for batch in cell.batches())
    return pd.concat([outcome.rows() for outcome in outcomes], ignore_index=True)


def attempt(study: Study, seed: int, batch: Batch) -> Outcome:
    """Run one batch; an exception becomes a value, so that batches under way elsewhere are not lost with it.

    The value is text, because not every exception survives the way between processes.
    """
    try:
        seeds = [replicate_seed(seed, batch.cell.stream, replicate) for replicate in batch.replicates]
        keep_freed_memory()
        with _one_thread():
            start = time.perf_counter()
            rows = study.run(batch.cell, batch.replicates, seeds)
            seconds = time.perf_counter() - start
        rows = complete(rows, batch, seeds, seconds)
        check_rows(rows, batch)
        return Outcome(batch, rows)
    except Exception:  # noqa: BLE001 - `run` raises it with the name of the cell
        return Outcome(batch, traceback.format_exc())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Pin torch and BLAS to one thread: workers share the cores, and sums then have one order of addition."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
