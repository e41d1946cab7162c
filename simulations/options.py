"""Options of the command line that several commands share, checked where they enter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

import joblib
import torch
import typer

from simulations.executors import Execute, cluster, local
from simulations.study import Preset, Study

PresetOption = Annotated[Preset, typer.Option(help="Size of the study.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes; the default is one a core.")]
Scheduler = Annotated[
    str | None, typer.Option(help="Run on the dask cluster of this scheduler, such as tcp://10.0.0.1:8786.")
]
DaskLocal = Annotated[
    int | None, typer.Option(min=1, help="Run on a dask cluster of this many workers, started here for the run.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the study.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the directory.")]
Device = Annotated[str, typer.Option(help="Where batches compute: cpu, cuda, cuda:1.")]
Out = Annotated[Path | None, typer.Option(help="Results directory; the default is results/STUDY-PRESET.")]

ALL_CORES = joblib.cpu_count()


@contextmanager
def executor(workers: int, scheduler: str | None, dask_local: int | None) -> Iterator[Execute]:
    """Choose where batches run, for as long as the block lasts."""
    if scheduler and dask_local:
        raise typer.BadParameter("give --scheduler or --dask-local, not both")
    if not (scheduler or dask_local):
        yield local(workers)
        return
    try:
        with cluster(scheduler or cast("int", dask_local)) as execute:
            yield execute
    except ImportError as error:
        raise typer.BadParameter(str(error)) from error
    except OSError as error:
        raise typer.BadParameter(f"no dask scheduler answers at {scheduler}: {error}") from error


def placed(study: Study, device: str) -> Study:
    """Return the study with its tensors on a device."""
    if device == "cpu":
        return study
    if not (is_dataclass(study) and "device" in {f.name for f in fields(study)}):
        raise typer.BadParameter(f"study {study.name!r} runs on the CPU only: leave out --device")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise typer.BadParameter(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return cast("Study", replace(cast("Any", study), device=device))


def share(text: str | None) -> tuple[int, int] | None:
    """Read ``I/N``."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise typer.BadParameter(f"--shard is {text!r}: write I/N with 1 <= I <= N, such as 2/3")
    return int(found[1]), int(found[2])


def seconds(text: str) -> float:
    """Read a time such as ``90s``, ``20m`` or ``1.5h``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or not float(found[1]):
        raise typer.BadParameter(f"a time is {text!r}: write 90s, 20m or 1.5h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
