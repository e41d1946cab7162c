"""TAIA on the files of a checkpoint: a whole model, in one file or several, or an adapter of peft."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.llm.methods.attention import is_attention, taia_adapter, taia_state
from eeqs.llm.training.files import written_atomically

__all__ = ["taia_checkpoint"]


def taia_checkpoint(
    trained: Path, out: Path, *, initial: Path | None = None, is_attention: Callable[[str], bool] = is_attention
) -> None:
    """Write a checkpoint that keeps, of the training, the updates of attention only.

    Only names and shapes of tensors are read, so that no version of transformers or peft matters.

    Parameters
    ----------
    trained : Path
        Folder of safetensors, as ``save_pretrained`` of a model or of an adapter leaves it.
    out : Path
        Folder to write: the same files, the other tensors as they were before training. Must not exist.
    initial : Path, optional
        Folder of the checkpoint before training; needed but for LoRA adapters that start at zero.
    is_attention : callable
        See `eeqs.llm.methods.taia_state`.

    Raises
    ------
    DataError
        There are no safetensors, ``out`` exists, or the tensors are refused; see `eeqs.llm.methods.taia_state` and
        `eeqs.llm.methods.taia_adapter`.
    TrainingError
        The folder cannot be written; nothing is left behind.
    """
    if out.exists():
        raise DataError(f"{out} exists; pass a folder that does not.")
    parts = _parts(trained)
    state = {name: tensor for tensors in parts.values() for name, tensor in tensors.items()}
    if initial is None:
        merged = taia_adapter(state, is_attention)
    else:
        before = {name: tensor for tensors in _parts(initial).values() for name, tensor in tensors.items()}
        merged = taia_state(before, state, is_attention)

    def write(folder: Path) -> None:
        shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        for file, tensors in parts.items():
            with safe_open(trained / file, framework="pt") as stored:
                metadata = stored.metadata()
            save_file({name: merged[name].contiguous() for name in tensors}, folder / file, metadata)

    written_atomically(out, write)


def _parts(folder: Path) -> dict[str, dict[str, Tensor]]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise DataError(f"{folder} has no safetensors; save the model with save_pretrained and pass its folder.")
    return {file.name: load_file(file) for file in files}
