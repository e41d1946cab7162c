"""Checkpoints: folders of tensors (safetensors) and numbers (JSON) that exist whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from eeqs.llm.training.errors import CheckpointError
from eeqs.llm.training.files import written_atomically

__all__ = ["Checkpoint", "latest", "load", "save"]

_KEPT = 2
_TENSORS, _NUMBERS = "tensors.safetensors", "numbers.json"


@dataclass(frozen=True)
class Checkpoint:
    """State of a run after an update.

    Attributes
    ----------
    update : int
    tensors : dict of str to Tensor
        Weights, optimiser state and the best weights so far.
    numbers : dict
        Whatever else the run has to remember; JSON.
    """

    update: int
    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under ``folder``, then remove all but the last two.

    Raises
    ------
    TrainingError
        It cannot be written; earlier ones are intact.
    """

    def write(temporary: Path) -> None:
        temporary.mkdir()
        # Copies: tensors that share memory, such as tied weights, are refused by the format.
        save_file({name: t.detach().cpu().clone() for name, t in checkpoint.tensors.items()}, temporary / _TENSORS)
        numbers = {
            "update": checkpoint.update,
            "sha256": _digest(temporary / _TENSORS),
            "numbers": checkpoint.numbers,
        }
        (temporary / _NUMBERS).write_text(json.dumps(numbers, indent=1))

    path = folder / f"update-{checkpoint.update:09d}"
    if not path.exists():
        written_atomically(path, write)
    for old in _all(folder)[:-_KEPT]:
        shutil.rmtree(old)


def latest(folder: Path) -> Path | None:
    """Return the newest checkpoint under ``folder``, if there is one."""
    found = _all(folder)
    return found[-1] if found else None


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    CheckpointError
        A file is missing, truncated or changed.
    """
    try:
        held = json.loads((path / _NUMBERS).read_text())
        if _digest(path / _TENSORS) != held["sha256"]:
            raise CheckpointError(f"{path / _TENSORS} is not the file that was written: its checksum differs.{_HELP}")
        return Checkpoint(held["update"], load_file(path / _TENSORS), held["numbers"])
    except (OSError, json.JSONDecodeError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).{_HELP}") from error


_HELP = " Remove this folder; training then goes on from the checkpoint before it."


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("update-*"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
