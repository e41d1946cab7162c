"""Checkpoints of training: killed and resumed, damaged, on a full disk, of another run."""

import errno
import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training_run import SETTINGS, SPLIT, TEXT, VALIDATION, assert_same, backend, documents, make

from eeqs.llm.methods import plain
from eeqs.llm.training import CheckpointError, TrainingError, checkpoint, training_run
from eeqs.llm.training.metrics import Metrics

_KILLED = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_training_run import make
torch = __import__("torch"); torch.set_num_threads(1)
model, run = make(directory=Path(sys.argv[1]))
run._report = lambda record: time.sleep(0.02)
run.advance(40)
"""


@pytest.mark.parametrize("moment", [0.0, 0.3])
def test_a_killed_run_resumes_to_the_same_result(tmp_path: Path, moment: float) -> None:
    torch.set_num_threads(1)
    code = [sys.executable, "-c", _KILLED, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(code, stderr=subprocess.PIPE)  # noqa: S603
    while process.poll() is None and checkpoint.latest(tmp_path / "checkpoints") is None:
        time.sleep(0.01)
    time.sleep(moment)
    assert process.poll() is None, process.stderr and process.stderr.read()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed, resumed = make(directory=tmp_path)
    found = resumed.advance(40)
    straight, run = make()
    assert found == run.advance(40)
    assert_same(killed, straight)
    kept = [{k: v for k, v in r.items() if k != "tokens_per_second"} for r in resumed.metrics.records]
    assert kept == [{k: v for k, v in r.items() if k != "tokens_per_second"} for r in run.metrics.records]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == resumed.metrics.records


def test_a_record_cut_in_two_and_later_ones_are_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 1}\n{"update": 2}\n{"update": 3}\n{"upd')
    assert Metrics(path, until=2).records == [{"update": 1}, {"update": 2}]
    assert path.read_text() == '{"update": 1}\n{"update": 2}\n'


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path: Path) -> None:
    model, run = make(plain(), replace(SETTINGS, validate_every=100), tmp_path)
    run.advance(5)
    with torch.no_grad():
        model.backend.norm.weight[0] = math.nan  # type: ignore[union-attr, index]
    run._current = None
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(TrainingError, match=r'update 6, equation "joint": loss nan'):
        run.advance(10)
    for name, tensor in model.state_dict().items():
        if name != "step":
            assert torch.equal(tensor.nan_to_num(), before[name].nan_to_num())
    _, resumed = make(plain(), replace(SETTINGS, validate_every=100), tmp_path)
    assert math.isfinite(resumed.advance(10).best)


def test_a_full_disk_stops_training_and_keeps_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = make(directory=tmp_path)
    run.advance(5)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", full)
        with pytest.raises(TrainingError, match=r"No space left on device.*Earlier files are intact"):
            run.advance(10)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["update-000000005"]
    _, resumed = make(directory=tmp_path)
    _, straight = make()
    assert resumed.advance(10) == straight.advance(10)


def test_a_truncated_checkpoint_is_named_and_the_one_before_it_serves(tmp_path: Path) -> None:
    _, run = make(directory=tmp_path)
    expected = run.advance(10)
    newest = checkpoint.latest(tmp_path / "checkpoints")
    assert newest is not None
    whole = (newest / "tensors.safetensors").read_bytes()
    for damaged in (whole[: len(whole) // 2], b""):
        (newest / "tensors.safetensors").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"update-000000010.*Remove this folder"):
            make(directory=tmp_path)
    (newest / "numbers.json").write_text('{"update": 1')
    with pytest.raises(CheckpointError, match="cannot be read"):
        make(directory=tmp_path)
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    _, resumed = make(directory=tmp_path)
    assert resumed.advance(10) == expected


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    _, run = make(directory=tmp_path)
    run.advance(20)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "update-000000015",
        "update-000000020",
    ]


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    make(directory=tmp_path)[1].advance(5)
    with pytest.raises(CheckpointError, match=r"settings was .*0\.003.* now .*0\.1"):
        make(settings=replace(SETTINGS, learning_rate=0.1), directory=tmp_path)
    with pytest.raises(CheckpointError, match=r"method was \['split'.* now \['plain'"):
        make(plain(), directory=tmp_path)
    other = replace(TEXT, documents=documents(24, 9))
    with pytest.raises(CheckpointError, match="text was"):
        training_run(SPLIT.model(backend(), 0), SPLIT, other, VALIDATION, SETTINGS, tmp_path)
