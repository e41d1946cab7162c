"""Models and tokenizers of the Hugging Face hub, or of folders in its format, with errors that name what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from eeqs.engine.errors import DataError

__all__ = ["CausalLM", "load_pretrained", "pretrained_tokenizer", "quiet", "save_tokenizer", "untrained"]

CausalLM: TypeAlias = PreTrainedModel
"""A causal language model of transformers, for the annotations of modules that do not import it."""

_FILE = "tokenizer.json"


def load_pretrained(source: str) -> PreTrainedModel:
    """Load a causal language model in float32, which training needs, without dropout of its own.

    Dropout would be a perturbation that no equation knows of, drawn from torch's global state, so that a run that was
    killed would not go on to the same result.

    Parameters
    ----------
    source : str
        A folder, also one that `PerturbedCausalLM` has written, or a name on the hub.

    Raises
    ------
    DataError
        It cannot be had, is no causal language model, or its weights are damaged or incomplete.
    """
    try:
        config = _without_dropout(AutoConfig.from_pretrained(source))
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True
        )
        model, info = loaded
    except SafetensorError as error:
        raise DataError(f"the weights in {source} are damaged ({error}); copy the folder again.") from error
    except (OSError, ValueError) as error:
        raise DataError(
            f'"{source}" cannot be loaded ({_first_line(error)}); pass a folder with config.json and safetensors, the '
            ".bin of a llama2.c checkpoint, or a name on the hub where there is a network."
        ) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise DataError(f"the weights in {source} lack {', '.join(missing[:3])}; copy the folder again.")
    return model


def untrained(model_or_source: PreTrainedModel | str, vocab_size: int, bos: int | None, seed: int) -> PreTrainedModel:
    """Build the architecture of a model with another vocabulary and random weights, without dropout.

    Parameters
    ----------
    model_or_source : PreTrainedModel or str
        A model, or a folder or name as in `load_pretrained`, of which config.json is enough.
    vocab_size : int
    bos : int, optional
        Token before and after a document.
    seed : int
        Of the weights.

    Raises
    ------
    DataError
        There is no such configuration.
    """
    if isinstance(model_or_source, str):
        try:
            config = AutoConfig.from_pretrained(model_or_source)
        except (OSError, ValueError) as error:
            raise DataError(
                f'"{model_or_source}" has no configuration ({_first_line(error)}); pass a folder with config.json.'
            ) from error
    else:
        config = deepcopy(model_or_source.config)
    config.vocab_size, config.bos_token_id, config.eos_token_id = vocab_size, bos, bos
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(_without_dropout(config), dtype=torch.float32)


def pretrained_tokenizer(source: str) -> Tokenizer:
    """Load the tokenizer of a model; special tokens in a text are text to it.

    Raises
    ------
    DataError
        There is none, or its file is damaged.
    """
    file = Path(source) / _FILE
    try:
        if file.is_file():
            found = Tokenizer.from_file(str(file))
        else:
            found = cast("Tokenizer", AutoTokenizer.from_pretrained(source).backend_tokenizer)
    except Exception as error:  # tokenizers raises Exception itself, transformers whatever its readers meet
        raise DataError(
            f'"{source}" has no tokenizer that can be read ({_first_line(error)}); put {_FILE} into the folder, or '
            "pass another tokenizer."
        ) from error
    found.encode_special_tokens = True  # not what the name suggests: it splits them like any other text
    return found


def save_tokenizer(tokenizer: Tokenizer, folder: Path, bos: int | None) -> None:
    """Write a tokenizer so that transformers finds it beside a model."""
    # A copy, for the wrapper adds special tokens to what it wraps.
    copied = Tokenizer.from_str(tokenizer.to_str())
    mark = None if bos is None else tokenizer.id_to_token(bos)
    PreTrainedTokenizerFast(tokenizer_object=copied, bos_token=mark, eos_token=mark).save_pretrained(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars of its own."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def _without_dropout(config: PreTrainedConfig) -> PreTrainedConfig:
    """Set every rate of dropout to zero, whatever the architecture calls it."""
    for name, value in config.to_dict().items():
        if isinstance(value, float) and ("dropout" in name or name.endswith("pdrop")):
            setattr(config, name, 0.0)
    return config


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
