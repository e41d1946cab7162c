"""Progress of a run: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from simulations.study import Batch

SECONDS_BETWEEN_LINES = 10.0


@dataclass
class Counter:
    """Replicates and cost done so far, and the time left.

    Parameters
    ----------
    batches : sequence of Batch
        The work ahead.
    clock : callable
        Seconds, from any origin.
    """

    batches: Sequence[Batch]
    clock: Callable[[], float] = time.monotonic
    replicates: int = 0
    cost: float = 0.0
    start: float = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.clock()

    def add(self, batch: Batch) -> None:
        """Count a finished batch."""
        self.replicates += len(batch.replicates)
        self.cost += batch.cost

    @property
    def total(self) -> float:
        """Cost of all the work."""
        return sum(batch.cost for batch in self.batches)

    def __str__(self) -> str:
        elapsed = self.clock() - self.start
        total = sum(len(batch.replicates) for batch in self.batches)
        # Large cells cost more than small ones: the time left follows cost, not the count of replicates.
        left = _duration(elapsed * (self.total - self.cost) / self.cost) if self.cost else "unknown"
        return f"{self.replicates}/{total} replicates, elapsed {_duration(elapsed)}, left {left}"


@contextmanager
def progress(
    title: str, batches: Sequence[Batch], console: Console, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[Batch], None]]:
    """Report progress on a console.

    Parameters
    ----------
    title : str
        Printed before each report.
    batches : sequence of Batch
        The work ahead.
    console : rich.console.Console
        Where to report.
    clock : callable
        Seconds, from any origin.

    Yields
    ------
    callable
        To be called with each finished batch.
    """
    counter = Counter(batches, clock)
    if not console.is_terminal:
        yield _lines(title, counter, console)
        console.print(f"{title}: {counter}", highlight=False)
        return
    with Progress(TextColumn(title), BarColumn(), TextColumn("{task.description}"), console=console) as bar:
        task = bar.add_task(str(counter), total=counter.total)

        def advance(batch: Batch) -> None:
            counter.add(batch)
            bar.update(task, completed=counter.cost, description=str(counter))

        yield advance


def _lines(title: str, counter: Counter, console: Console) -> Callable[[Batch], None]:
    printed = counter.start

    def advance(batch: Batch) -> None:
        nonlocal printed
        counter.add(batch)
        if counter.clock() - printed >= SECONDS_BETWEEN_LINES:
            printed = counter.clock()
            console.print(f"{title}: {counter}", highlight=False)

    return advance


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
