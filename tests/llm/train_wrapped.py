"""Train a small wrapped model with Trainer: ``python train_wrapped.py FOLDER ROWS [--resume] [--kill STEP]``.

Writes the loss of every step and the last weights into the folder; rows are those of a process and step.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_model

from eeqs.llm.huggingface import PerturbedCausalLM, kernel_parameters, perturb, perturbation_parameters
from eeqs.marginal import Gaussian

V, D, STEPS, LENGTH = 32, 16, 6, 10


def wrapped(**options: Any) -> PerturbedCausalLM:
    """Build the model that all runs start from."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return perturb(transformers.LlamaForCausalLM(config), Gaussian(D, log_scale=-1.0), seed=3, chunk=16, **options)


def dataset(rows: int = 48) -> list[dict[str, torch.Tensor]]:
    """Build rows with unequal numbers of predicted tokens, and padding in some."""
    generator = torch.Generator().manual_seed(4)
    found = []
    for row in range(rows):
        ids = torch.randint(1, V, (LENGTH,), generator=generator)
        mask = torch.ones(LENGTH, dtype=torch.long)
        mask[LENGTH - row % 4 :] = 0
        labels = ids.masked_fill(mask == 0, -100)
        labels[: row % 7] = -100
        found.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return found


class Recorder(transformers.TrainerCallback):
    """Loss of every step, as logged; and the end of the process at a step, without any farewell."""

    def __init__(self, kill: int | None = None) -> None:
        self.losses: dict[int, float] = {}
        self._kill = kill

    def on_log(self, _: Any, state: Any, __: Any, logs: dict[str, float], **___: Any) -> None:
        """Keep the loss."""
        if "loss" in logs:
            self.losses[state.global_step] = logs["loss"]

    def on_step_end(self, _: Any, state: Any, __: Any, **___: Any) -> None:
        """End the process."""
        if state.global_step == self._kill:
            os.kill(os.getpid(), signal.SIGKILL)


def trainer(
    folder: Path, model: torch.nn.Module, rows: int, recorder: Recorder | None = None, **options: Any
) -> transformers.Trainer:
    """Set up Trainer with a learning rate for the kernel and one for the perturbation."""
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=rows, max_steps=STEPS, logging_steps=1, save_steps=2,
        report_to="none", use_cpu=True, disable_tqdm=True, seed=5, max_grad_norm=1.0,
        ddp_backend="gloo" if "WORLD_SIZE" in os.environ else None,
        remove_unused_columns=False, dataloader_pin_memory=False, lr_scheduler_type="constant", **options,
    )  # fmt: skip
    optimiser = torch.optim.AdamW(
        [{"params": kernel_parameters(model), "lr": 3e-3}, {"params": perturbation_parameters(model), "lr": 1e-2}]
    )
    return transformers.Trainer(
        model, arguments, train_dataset=dataset(), callbacks=[recorder or Recorder()], optimizers=(optimiser, None)
    )


def main() -> None:
    """Train, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("rows", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recorder, model = Recorder(options.kill), wrapped()
    run = trainer(options.folder, model, options.rows, recorder)
    run.train(resume_from_checkpoint=options.resume or None)
    if run.is_world_process_zero():
        record = {"processes": run.args.world_size, "losses": recorder.losses}
        (options.folder / "losses.json").write_text(json.dumps(record))
        save_model(model, str(options.folder / "last.safetensors"))


if __name__ == "__main__":
    main()
