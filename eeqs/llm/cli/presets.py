"""Sizes of a training run: for the cores of a laptop, and for an accelerator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from eeqs.llm.cli.readers import arguments, check_known, options, pairs
from eeqs.llm.training.settings import Settings

__all__ = ["PRESETS", "Preset", "PresetName", "settings_of"]


class PresetName(StrEnum):
    """Names of presets."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True)
class Preset:
    """Settings of a run and of its methods.

    Parameters
    ----------
    length : int
        Tokens a row.
    settings : Settings
    device : str
    draws : mapping of str to str
        Options of methods that have them.
    """

    length: int
    settings: Settings
    device: str
    draws: Mapping[str, str] = field(
        default_factory=lambda: {"draws": "4", "phi_draws": "4", "theta_draws": "1", "inference_draws": "16"}
    )


PRESETS = {
    PresetName.CPU: Preset(128, Settings(batch_rows=8, learning_rate=1e-3, warmup=20, patience=10), "cpu"),
    PresetName.GPU: Preset(
        512,
        Settings(
            batch_rows=32,
            micro_rows=8,
            learning_rate=3e-4,
            warmup=100,
            weight_decay=0.01,
            validate_every=100,
            checkpoint_every=500,
            patience=10,
            bfloat16=True,
        ),
        "cuda",
    ),
}


def settings_of(preset: Preset, texts: Sequence[str], seed: int) -> Settings:
    """Replace some settings of a preset.

    Parameters
    ----------
    preset : Preset
    texts : sequence of str
        Such as ``learning_rate=3e-4``.
    seed : int

    Raises
    ------
    DataError, ValueError
        A setting is unknown, cannot be read, or out of range.
    """
    known = {name: one for name, one in options(Settings).items() if name != "seed"}
    given = pairs(texts, "--set")
    check_known(given, known, "a training run", "--set")
    return replace(preset.settings, **arguments(known, given, "--set"), seed=seed)
