r"""Time and memory of a training step of K draws against plain ones: ``python tests/benchmarks/bench_llm.py``.

A step is loss and gradient of one batch, without the optimiser, which costs the same for every K. Plain is the wrapped
Hugging Face model itself. K draws are K times the work of the layers, so the floor of the time is K plain steps; the
target is 1.15 of that, and for the peak of memory K / 2 + 2 times plain. Latents cost B T K q normal numbers, which is
small. The logits of a chunk of positions are used up, gradient included, before those of the next exist, so they add
nothing that grows with the batch, where a plain step keeps some three arrays of (B T, V).

Computing layers again in the backward pass (``activation_checkpointing_enable``) is another third of their time for a
peak that hardly depends on their number; with every fifth layer it is a fifteenth. Both are shown beside.

Every cell runs in a process of its own, in turn with plain steps. On the CPU times are CPU times of one thread, the
median of several, and memory is the peak of the resident set above the model; on a GPU times are between
synchronisations and memory what the allocator held at its peak.
Models: the 260 thousand parameters of llama2.c in the folder EEQS_DATA, and a random Llama with a large vocabulary.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from cells import MIB, as_table, measure, write
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from eeqs.llm.huggingface import perturb
from eeqs.llm.huggingface.llama2c import load_llama2c
from eeqs.marginal import Gaussian, cross_fitted, single_draw

PLAIN, WRAPPED, FIFTH, EVERY = "plain", "K draws", "K draws, every fifth layer again", "K draws, every layer again"
CELLS = tuple((way, k) for way, draws in ((WRAPPED, (1, 2, 4, 8)), (FIFTH, (4, 8)), (EVERY, (4, 8))) for k in draws)


class Setting(NamedTuple):
    """Where and on what a step runs."""

    rows: int
    length: int
    vocabulary: int
    width: int
    layers: int
    device: str
    dtype: str
    chunk: int
    repeats: int


def stories(_: Setting) -> PreTrainedModel:
    """Load the checkpoint of llama2.c."""
    if "EEQS_DATA" not in os.environ:
        raise SystemExit("EEQS_DATA is not set; point it at the data folder, or pass --models random.")
    return load_llama2c(Path(os.environ["EEQS_DATA"]) / "stories260K" / "stories260K.bin")


def random_llama(setting: Setting) -> PreTrainedModel:
    """Build a Llama with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=setting.vocabulary,
        hidden_size=setting.width,
        intermediate_size=8 * setting.width // 3 // 8 * 8,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.width // 64,
        num_key_value_heads=setting.width // 64,
        max_position_embeddings=max(setting.length, 512),
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


MODELS: dict[str, Callable[[Setting], PreTrainedModel]] = {"stories260K": stories, "random": random_llama}


def stepper(name: str, way: str, k: int, setting: Setting) -> Callable[[int], None]:
    """Return a function that takes a step on a number of rows; on none it drops the gradient."""
    device, dtype = torch.device(setting.device), getattr(torch, setting.dtype)
    model: torch.nn.Module = MODELS[name](setting).to(device, dtype)
    dim, vocabulary = model.get_input_embeddings().weight.shape[1], model.config.vocab_size  # type: ignore[operator]
    if way != PLAIN:
        score = single_draw if k == 1 else cross_fitted
        model = perturb(model, Gaussian(dim, log_scale=-2.0), score, k, chunk=setting.chunk).to(device)  # type: ignore[arg-type]
    if way in (FIFTH, EVERY):
        model.activation_checkpointing_enable(every_n_layers=5 if way == FIFTH else 1)  # type: ignore[operator]
    model.train()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(vocabulary, (setting.rows, setting.length), generator=generator).to(device)

    def step(rows: int) -> None:
        model.zero_grad(set_to_none=True)
        if rows == 0:
            return
        model(input_ids=ids[:rows], labels=ids[:rows]).loss.backward()

    return step


class Step(NamedTuple):
    """Seconds of a step and of a plain one taken in turn with it, and MiB above the model at its peak."""

    seconds: float
    plain: float
    above: float


def cell(name: str, way: str, k: int, setting: Setting) -> Step:
    """Time and memory of a step; run in a process of its own."""
    torch.set_num_threads(1)
    step = stepper(name, way, k, setting)
    step(1)  # what is imported or kept as workspace at first use
    step(0)
    above = _peak(lambda: step(setting.rows), setting.device)
    plain = stepper(name, PLAIN, 1, setting)
    plain(setting.rows)
    # In turn, so that what else runs on the machine slows both alike.
    pairs = [
        [_seconds(lambda s=s: s(setting.rows), setting.device) for s in (step, plain)] for _ in range(setting.repeats)
    ]
    return Step(*(statistics.median(times) for times in zip(*pairs, strict=True)), above)


def _peak(run: Callable[[], None], device: str) -> float:
    if device == "cpu":
        ctypes.CDLL(None).malloc_trim(0)  # else memory of the gradient of the first step passes for that of the model
        return measure(run, 1).above
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def _seconds(run: Callable[[], None], device: str) -> float:
    """CPU time on the CPU, and time between synchronisations on a GPU."""
    if device == "cpu":
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def forked(*arguments: object) -> Step:
    """Evaluate a cell in a child that need not import again; nothing ran in this process that a child could inherit."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(cell, *arguments).result()


def model_rows(name: str, setting: Setting) -> list[dict[str, Any]]:
    """Time and memory of all ways and K on one model."""
    head = {"model": name, "device": setting.device, "dtype": setting.dtype, "tokens": setting.rows * setting.length}
    plain = forked(name, PLAIN, 1, setting)
    rows = [_row(PLAIN, 1, plain, plain.above)]
    rows += [_row(way, k, forked(name, way, k, setting), plain.above) for way, k in CELLS]
    return [head | row for row in rows]


def _row(way: str, k: int, step: Step, above: float) -> dict[str, Any]:
    return {
        "way": way,
        "K": k,
        "milliseconds": 1000 * step.seconds,
        "time / K plain": step.seconds / (k * step.plain),
        "target time": 1.15,
        "MiB above model": step.above,
        "memory / plain": step.above / above,
        "target memory": k / 2 + 2,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Print a table a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--chunk", type=int, default=64, help="positions whose logits exist at a time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="CSV file")
    options = vars(parser.parse_args())
    console, every = Console(), []
    setting = Setting(**{field: options[field] for field in Setting._fields})
    for name in options["models"]:
        rows = model_rows(name, setting)
        shown = [{key: value for key, value in row.items() if key not in ("model", "device", "dtype")} for row in rows]
        console.print(as_table(f"a training step of {name}, {setting.device}, {setting.dtype}", shown))
        every += rows
    if options["out"]:
        write(options["out"], every, ("torch", "transformers", "numpy"))


if __name__ == "__main__":
    main()
