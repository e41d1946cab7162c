"""Cells of a benchmark, each in a process of its own: CPU time, peak memory above the data, and a record of both."""

from __future__ import annotations

import csv
import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

MIB = 2**20


class Cost(NamedTuple):
    """CPU seconds of the median run, and in MiB the peak of memory above what was there before the first, and in all.

    Attributes
    ----------
    seconds, above, peak : float
    result : Any
        What the last run returned.
    """

    seconds: float
    above: float
    peak: float
    result: Any


def measure(run: Callable[[], Any], repeats: int) -> Cost:
    """Run a number of times in a process whose data exist and whose imports are done."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak of resident memory back to what is resident now
    before, seconds, result = resident("VmRSS"), [], None
    for _ in range(repeats):
        result = None
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    peak = resident("VmHWM")
    return Cost(statistics.median(seconds), peak - before, peak, result)


def resident(what: str) -> float:
    """Resident memory of this process in MiB: ``VmRSS`` now, ``VmHWM`` at its peak."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found.group(1)) * 1024 / MIB


def in_a_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function of a module in a fresh interpreter with one BLAS thread."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def as_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Table of records with equal keys."""
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


def write(path: Path, rows: Sequence[Mapping[str, Any]], packages: Sequence[str]) -> None:
    """Write records as CSV, under comment lines with the versions of packages and the hardware."""
    with path.open("w", newline="") as file:
        file.writelines(f"# {line}\n" for line in (*_hardware(), *(f"{name} {version(name)}" for name in packages)))
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def _hardware() -> tuple[str, ...]:
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB",
        f"{platform.platform()}, one BLAS thread",
        f"Python {platform.python_version()}",
    )
