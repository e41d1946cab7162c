"""Two processes under accelerate have the loss curve of one with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from safetensors.torch import load_file
from train_wrapped import Recorder, trainer, wrapped

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
HERE = Path(__file__).parent


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Sums over tokens are taken in another order, so to 1e-4 relative and 1e-6 absolute; draws are the same ones."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        str(HERE / "train_wrapped.py"), str(tmp_path / "two"), "4",
    ]  # fmt: skip
    (tmp_path / "two").mkdir()
    path = os.pathsep.join(filter(None, (str(HERE.parents[1]), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((tmp_path / "two" / "losses.json").read_text())
    assert record["processes"] == 2

    recorder, one = Recorder(), wrapped()
    trainer(tmp_path / "one", one, 8, recorder).train()
    losses = {int(step): loss for step, loss in record["losses"].items()}
    assert losses == pytest.approx(recorder.losses, rel=1e-4, abs=1e-6)
    last = load_file(tmp_path / "two" / "last.safetensors")
    for name, tensor in last.items():
        torch.testing.assert_close(tensor, one.state_dict()[name], rtol=1e-4, atol=1e-5)
