"""Parameters sharded over two processes (fully_shard, gloo) have the loss curve of one process."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import distributed

transformers = pytest.importorskip("transformers")

from train_wrapped import D, V, dataset  # noqa: E402

from eeqs.llm.huggingface import PerturbedCausalLM, perturb  # noqa: E402
from eeqs.marginal import Gaussian  # noqa: E402

STEPS = 3


def _model() -> PerturbedCausalLM:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    # A scale a coordinate: fully_shard takes no parameter without an axis.
    family = Gaussian(D, log_scale=[-1.0] * D)
    return perturb(transformers.LlamaForCausalLM(config), family, seed=3, chunk=16).train()


def _losses(model: torch.nn.Module, rows: slice, scale: float) -> list[torch.Tensor]:
    batch = {name: torch.stack([row[name] for row in dataset(8)]) for name in dataset(1)[0]}
    total = (batch["labels"][:, 1:] != -100).sum()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(STEPS):
        part = {name: tensor[rows] for name, tensor in batch.items()}
        loss = model(**part, num_items_in_batch=total).loss
        (scale * loss).backward()  # gradients are averaged over processes
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.detach())
    return losses


def _sharded(rank: int, folder: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    mesh, model = init_device_mesh("cpu", (2,)), _model()
    for layer in model.language_model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    losses = torch.stack(_losses(model, slice(4 * rank, 4 * rank + 4), 2.0))
    distributed.all_reduce(losses)
    if rank == 0:
        torch.save(losses, Path(folder) / "losses.pt")
    distributed.destroy_process_group()


def test_sharded_processes_train_as_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_sharded, args=(rank, str(tmp_path))) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    expected = torch.stack(_losses(_model(), slice(None), 1.0))
    torch.testing.assert_close(torch.load(tmp_path / "losses.pt", weights_only=True), expected, rtol=1e-4, atol=1e-6)
