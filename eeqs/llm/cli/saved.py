"""What a training run leaves behind to be evaluated: run.json, and the model with its tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from eeqs.engine.errors import DataError
from eeqs.llm.cli.catalogue import method_of
from eeqs.llm.cli.kernels import backend_of
from eeqs.llm.cli.vocabulary import Vocabulary
from eeqs.llm.methods import plain
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.structure import describe
from eeqs.llm.training import CheckpointError
from eeqs.llm.training.files import written_atomically

if TYPE_CHECKING:
    from eeqs.llm.huggingface.pretrained import CausalLM

__all__ = ["as_perturbed", "check_same_run", "read_run", "save_model", "versions", "write_run"]

RUN, MODEL = "run.json", "model"
_DESCRIPTION, _TENSORS = "perturbation.json", "perturbation.safetensors"
_PACKAGES = ("eeqs", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    return {name: version(name) for name in _PACKAGES}


def write_run(directory: Path, description: Mapping[str, Any]) -> None:
    """Write run.json."""
    text = json.dumps(description, indent=1)
    written_atomically(directory / RUN, lambda temporary: temporary.write_text(text))


def read_run(directory: Path) -> dict[str, Any] | None:
    """Read run.json; None where there is none.

    Raises
    ------
    CheckpointError
        It is damaged.
    """
    path = directory / RUN
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it and repeat the training command.") from error
    if not (isinstance(found, dict) and "method" in found.get("identity", {})):
        raise CheckpointError(f"{path} is not of a training run; pass the directory that train wrote.")
    return found


def check_same_run(directory: Path, identity: Mapping[str, Any]) -> None:
    """Refuse to go on with a run that was started otherwise, naming what differs.

    Raises
    ------
    CheckpointError
    """
    held = read_run(directory)
    stored = held["identity"] if held else identity
    for name in identity:
        if stored.get(name) != identity[name]:
            raise CheckpointError(
                f"{directory} holds another run: its {name} was {stored.get(name)}, now {identity[name]}. Pass another "
                "--out, or the same options."
            )


def save_model(directory: Path, model: PerturbedLM, vocabulary: Vocabulary, identity: Mapping[str, Any]) -> None:
    """Write DIR/model: a folder that transformers loads, the perturbation included where a file can describe it.

    Otherwise the folder has the kernel alone, and beside it the perturbation's numbers and the method that builds it.

    Parameters
    ----------
    directory : Path
    model : PerturbedLM
        What the method predicts with.
    vocabulary : Vocabulary
    identity : mapping
        Of run.json.
    """
    from eeqs.llm.huggingface import HuggingFaceBackend, perturb, pretrained

    kernel = cast("HuggingFaceBackend", model.backend).model
    perturbation = cast("nn.Module", model.perturbation)
    describable = _describable(perturbation)

    def write(folder: Path) -> None:
        if describable:
            settings: dict[str, Any] = {
                "inference_draws": model.inference_draws,
                "seed": model.seed,
                "chunk": model.chunk,
            }
            perturb(kernel, deepcopy(perturbation), model.score, model.draws, **settings).save_pretrained(folder)
        else:
            kernel.save_pretrained(folder)
            save_file({name: t.contiguous() for name, t in perturbation.state_dict().items()}, folder / _TENSORS)
            text = json.dumps({name: identity[name] for name in ("method", "options", "length", "seed")}, indent=1)
            (folder / _DESCRIPTION).write_text(text)
        pretrained.save_tokenizer(vocabulary.tokenizer, folder, vocabulary.bos)

    with pretrained.quiet():
        if (directory / MODEL).exists():
            shutil.rmtree(directory / MODEL)
        written_atomically(directory / MODEL, write)


def as_perturbed(model: CausalLM, folder: Path | None) -> PerturbedLM:
    """Return a loaded model with the perturbation that it was saved with; with none where there was none.

    Raises
    ------
    DataError
        The files of the perturbation are damaged.
    """
    from eeqs.llm.huggingface import PerturbedCausalLM

    if isinstance(model, PerturbedCausalLM):
        return model.perturbed
    backend = backend_of(model)
    if folder is None or not (folder / _DESCRIPTION).is_file():
        return plain().model(backend, 0)
    try:
        held = json.loads((folder / _DESCRIPTION).read_text())
        found = method_of(held["method"]).build(held["options"], held["length"]).model(backend, held["seed"])
        perturbation = cast("nn.Module", found.perturbation).float()
        perturbation.load_state_dict(load_file(folder / _TENSORS))
    except (json.JSONDecodeError, KeyError, SafetensorError, OSError, RuntimeError) as error:
        raise DataError(
            f"the perturbation in {folder} is damaged ({error}); repeat the training command, which saves it again."
        ) from error
    return found


def _describable(perturbation: nn.Module) -> bool:
    try:
        describe(perturbation)
    except TypeError:
        return False
    return True
