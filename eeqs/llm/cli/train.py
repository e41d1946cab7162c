"""``python -m eeqs.llm train``."""

from pathlib import Path
from typing import Annotated

import typer

from eeqs.llm.cli.catalogue import method_of
from eeqs.llm.cli.console import out as standard_output
from eeqs.llm.cli.console import refusals
from eeqs.llm.cli.kernels import Source
from eeqs.llm.cli.presets import PRESETS, PresetName, settings_of
from eeqs.llm.cli.readers import pairs
from eeqs.llm.cli.text import corpus
from eeqs.llm.cli.training import Plan, run_training

__all__ = ["train"]

_MODEL = "llama2c .bin beside its tokenizer, Hugging Face folder, or name on the hub."
_TEXT = "JSON lines, data set of EEQS_DATA, or hub:NAME@SPLIT; see eval."
_OPTION = "key=value of the method, again for more; the command methods lists them."
_SET = "key=value of eeqs.llm.training.Settings, again for more."


def train(
    *,
    model: Annotated[str, typer.Option(help=_MODEL)],
    training: Annotated[str, typer.Option("--train", help=_TEXT)],
    validation: Annotated[str, typer.Option(help="In-domain text that chooses when to stop.")],
    out: Annotated[Path, typer.Option(help="Directory of the run; one that is there is continued.")],
    method: Annotated[str, typer.Option(help="Training method; the command methods lists them.")] = "plain",
    option: Annotated[list[str] | None, typer.Option(help=_OPTION)] = None,
    preset: Annotated[PresetName, typer.Option(help="Settings, row length, draws, device.")] = PresetName.CPU,
    setting: Annotated[list[str] | None, typer.Option("--set", help=_SET)] = None,
    updates: Annotated[int, typer.Option(min=1, help="Updates of each stage.")] = 1000,
    length: Annotated[int | None, typer.Option(min=2, help="Tokens a row; the preset's by default.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="In place of the model's: folder or file.")] = None,
    bpe: Annotated[int | None, typer.Option(help="Train a byte BPE of this size; with --from-scratch.")] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Random weights.")] = False,
    limit_bytes: Annotated[int | None, typer.Option(min=1, help="Whole documents up to so much training.")] = None,
    validation_bytes: Annotated[int | None, typer.Option(min=1, help="The same for validation.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; the preset's by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of weights, batches and latents.")] = 0,
) -> None:
    """Train a model by a method, or continue a run that was killed: exit code 2 on an error."""
    with refusals(f"Stopped. Checkpoints are in {out}: repeat the command to go on."):
        chosen, entry = PRESETS[preset], method_of(method)
        drawn = {name: value for name, value in chosen.draws.items() if name in entry.known}
        plan = Plan(
            source=Source(model, tokenizer, bpe, from_scratch),
            training=corpus(training, limit_bytes),
            validation=corpus(validation, validation_bytes),
            method=method,
            options=drawn | pairs(option or [], "--option"),
            length=length or chosen.length,
            settings=settings_of(chosen, setting or [], seed),
            updates=updates,
            directory=out,
            device=device or chosen.device,
        )
        run_training(plan, standard_output())
