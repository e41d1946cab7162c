"""``python -m eeqs.llm generate``."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from eeqs.engine.errors import DataError
from eeqs.llm.cli import kernels
from eeqs.llm.cli.console import out, refusals
from eeqs.llm.cli.opened import opened
from eeqs.llm.evaluation import Sampling, generate
from eeqs.llm.training.files import written_atomically

__all__ = ["generate_text"]


def generate_text(
    source: Annotated[str, typer.Argument(help="Directory of a run, or a model as train --model takes it.")],
    *,
    prompt: Annotated[list[str] | None, typer.Option(help="Text to continue; again for more.")] = None,
    prompts_file: Annotated[Path | None, typer.Option(help="UTF-8 text, a prompt a line.")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to draw, at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the most probable token.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Draw among the most probable tokens of this total.")] = 1.0,
    draws: Annotated[int, typer.Option(min=1, help="Latents a token, averaged before it is drawn.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the latents and tokens.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write prompts and texts here.")] = None,
) -> None:
    """Continue prompts by draws from the marginal law, with new latents for every token."""
    with refusals():
        texts = [*(prompt or []), *(_lines(prompts_file) if prompts_file else [])]
        if not texts:
            raise DataError("there is no prompt; give --prompt TEXT or --prompts-file PATH.")
        one = opened(source, device)
        ids = [one.vocabulary.ids(text) for text in texts]
        kernels.check_length(one.model.backend.model, max(map(len, ids)) + tokens, "prompt and --tokens")  # type: ignore[attr-defined]
        sampling = Sampling(tokens, temperature, top_p, one.vocabulary.stop, draws)
        found = generate(one.model, [torch.tensor(row, device=device) for row in ids], sampling, seed=seed)
        whole = [one.vocabulary.text([*row, *more.tolist()]) for row, more in zip(ids, found, strict=True)]
        for text in whole:
            out().print(text, markup=False, highlight=False, soft_wrap=True)
        if json_path is not None:
            rows = [{"prompt": given, "text": text} for given, text in zip(texts, whole, strict=True)]
            written_atomically(json_path, lambda temporary: temporary.write_text(json.dumps(rows, indent=1)))


def _lines(path: Path) -> list[str]:
    try:
        found = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8 ({error.reason}); save the file in UTF-8.") from error
    if not found:
        raise DataError(f"{path} has no lines; write a prompt a line.")
    return found
