"""Progress of training: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

__all__ = ["Meter", "progress"]

SECONDS_BETWEEN_LINES = 10.0

Record = Mapping[str, float | str]


class Meter:
    """Where a training run is, and when it will be through.

    Parameters
    ----------
    stages : sequence of str
        In their order; see `eeqs.llm.training.fit`.
    updates : int
        Of every stage.
    clock : callable
        Seconds, from any origin.
    """

    def __init__(self, stages: Sequence[str], updates: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._stages, self._updates, self.clock = tuple(stages), updates, clock
        self._first: tuple[int, float] | None = None
        self.done = 0
        self._shown: dict[str, float | str] = {}

    @property
    def total(self) -> int:
        """Updates of all stages."""
        return self._updates * len(self._stages)

    def add(self, record: Record) -> None:
        """Take in a record of the metrics."""
        stage = str(record["stage"])
        if stage != self._shown.get("stage"):
            self._shown = {}
        self.done = self._stages.index(stage) * self._updates + int(record["update"])
        # A resumed run begins where it was: what is left goes at the pace of the updates seen.
        self._first = self._first or (self.done, self.clock())
        self._shown |= record

    def __str__(self) -> str:
        shown, speed = self._shown, self._shown.get("tokens_per_second")
        parts = [f"{shown.get('stage', 'starting')}: {self.done}/{self.total} updates, left {self._left()}"]
        parts += [f"{speed:,.0f} tokens/s"] if speed is not None else []
        losses = [name for name in shown if name.endswith("_loss")]
        # Of several kernels the first stands for all; the last is that of the perturbation.
        parts += [f"{name.removesuffix('_loss')} loss {shown[name]:.4f}" for name in losses[:1] + losses[1:][-1:]]
        if "validation" in shown:
            parts.append(f"validation {shown['validation']:.4f} bits/byte")
            parts.append(f"best {shown['best']:.4f} at {shown['best_update']}")
        return ", ".join(parts)

    def _left(self) -> str:
        if self._first is None or self.done <= self._first[0]:
            return "unknown"
        start, moment = self._first
        seconds = (self.clock() - moment) * (self.total - self.done) / (self.done - start)
        return str(timedelta(seconds=round(seconds)))


@contextmanager
def progress(meter: Meter, console: Console) -> Iterator[Callable[[Record], None]]:
    """Report progress on a console.

    Yields
    ------
    callable
        To be called with every record of the metrics.
    """
    if not console.is_terminal:
        yield _lines(meter, console)
        console.print(str(meter), highlight=False, soft_wrap=True)
        return
    # A column that wraps: a narrow terminal shows all of it, on two lines.
    with Progress(BarColumn(12), TextColumn("{task.description}", table_column=Column()), console=console) as bar:
        task = bar.add_task(str(meter), total=meter.total)

        def advance(record: Record) -> None:
            meter.add(record)
            bar.update(task, completed=meter.done, description=str(meter))

        yield advance


def _lines(meter: Meter, console: Console) -> Callable[[Record], None]:
    printed = meter.clock()

    def advance(record: Record) -> None:
        nonlocal printed
        meter.add(record)
        if meter.clock() - printed >= SECONDS_BETWEEN_LINES:
            printed = meter.clock()
            console.print(str(meter), highlight=False, soft_wrap=True)

    return advance
