"""Files that are whole or absent, and a lock that no crash leaves behind."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from simulations.manifest import ResultsError

TEMPORARY = ".tmp"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that at every moment `path` holds the old content or the new, whole and on disk.

    Parameters
    ----------
    path : Path
        Destination; its directory exists.
    write : callable
        Writes the content to the binary file it is given.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # without this the new name may be lost with the power
    finally:
        os.close(directory)


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold an advisory lock on the directory itself: the system drops it however the process ends.

    Raises
    ------
    ResultsError
        Another process holds it.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultsError(f"{directory} is in use by another run: wait for it or choose another --out") from None
        yield
    finally:
        os.close(handle)
