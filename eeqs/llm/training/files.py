"""Files and folders that exist whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from eeqs.llm.training.errors import TrainingError

__all__ = ["written_atomically"]


def written_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file or folder under a temporary name, flush it to the disk, and rename it.

    Parameters
    ----------
    path : Path
        A folder that exists already is not replaced.
    write : callable
        ``write(temporary)`` makes the file, or the folder with its files.

    Raises
    ------
    TrainingError
        It cannot be written, as on a full disk; nothing is left behind, and what was there before is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        for part in [*temporary.iterdir()] if temporary.is_dir() else [temporary]:
            _flush(part)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"{path} cannot be written ({error}); free space or pass another folder. Earlier files are intact."
        ) from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
