"""The command train: what it leaves behind, and a run that is killed and continued."""

import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("typer")

from click.testing import Result
from safetensors.torch import load_file
from tiny_model import Tiny
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel
from typer.testing import CliRunner

from eeqs.llm.cli.app import app
from eeqs.llm.huggingface import PerturbedCausalLM
from eeqs.llm.huggingface.pretrained import load_pretrained, quiet, untrained
from eeqs.llm.training import checkpoint


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def arguments(tiny: Tiny, out: Path, *more: object, updates: int = 6) -> list[str]:
    settings = ("batch_rows=4", "warmup=2", "validate_every=3", "checkpoint_every=2", "learning_rate=0.01")
    fixed = ("--model", tiny.model, "--train", tiny.train, "--validation", tiny.valid, "--out", out, "--length", 32)
    each = [part for one in settings for part in ("--set", one)]
    return list(map(str, ("train", *fixed, *each, "--updates", updates, *more)))


def trained(tiny: Tiny, out: Path, *more: object, updates: int = 6) -> Result:
    result = call(*arguments(tiny, out, *more, updates=updates))
    assert result.exit_code == 0, result.output
    return result


def options(**values: object) -> list[str]:
    return [part for name, value in values.items() for part in ("--option", f"{name}={value}")]


def run_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text())


METHODS = [
    ("plain", {}),
    ("neftune", {}),
    ("taia", {}),
    ("semantic_neighbour", {"neighbours": 3, "inference_draws": 2}),
    ("in_sample_hull", {"score": "plug_in", "scale": 0.1, "neighbours": 3, "draws": 2, "inference_draws": 2}),
    ("split_sample_diagonal", {"scale": 0.2, "splits": 2, "phi_draws": "antithetic:4", "inference_draws": 2}),
]


@pytest.mark.parametrize(("method", "given"), METHODS, ids=[name for name, _ in METHODS])
def test_the_saved_model_predicts_as_the_best_one_of_training(
    method: str, given: dict[str, object], tiny: Tiny, tmp_path: Path
) -> None:
    result = trained(tiny, tmp_path / "run", "--method", method, *options(**given))
    held = run_of(tmp_path / "run")
    assert held["identity"]["method"] == method
    assert {name: held["identity"]["options"][name] for name in given} == {n: str(v) for n, v in given.items()}
    assert held["data"]["training"]["documents"] == 12
    assert held["versions"]["eeqs"]
    assert held["result"]["update"] == 6
    assert f"{held['result']['best']:.4f} bits/byte on valid" in result.output
    lines = (tmp_path / "run" / "kernel" / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(line)["update"] for line in lines) == 6
    found = call("eval", tmp_path / "run", "--data", tiny.valid, "--json", tmp_path / "table.json")
    assert found.exit_code == 0, found.output
    rows = {row["measure"]: row for row in json.loads((tmp_path / "table.json").read_text())["rows"]}
    assert rows["bits_per_byte"]["estimate"] == pytest.approx(held["result"]["best"], rel=1e-6)


def test_transformers_loads_the_saved_folder(tiny: Tiny, tmp_path: Path) -> None:
    trained(tiny, tmp_path, "--method", "split_sample_isotropic", *options(scale=0.3, inference_draws=2))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert isinstance(model, PerturbedCausalLM)
    assert model.config.inference_draws == 2
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.decode(tokenizer.encode("sun, ü", add_special_tokens=False)) == "sun, ü"
    assert tokenizer.bos_token_id == 0


def test_dropout_of_the_model_is_off(tmp_path: Path) -> None:
    with quiet():
        GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path)
    found = load_pretrained(str(tmp_path)).train()
    assert found.config.resid_pdrop == found.config.attn_pdrop == found.config.embd_pdrop == 0.0
    ids = torch.arange(8)[None]
    torch.testing.assert_close(found(ids).logits, found(ids).logits, rtol=0, atol=0)
    fresh = untrained(found, 30, 0, seed=1)
    assert fresh.config.resid_pdrop == 0.0
    assert fresh(ids).logits.shape[-1] == 30


def test_an_interrupt_says_how_to_go_on(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    # The module, whose name the command itself shadows in the package.
    monkeypatch.setattr(importlib.import_module("eeqs.llm.cli.train"), "run_training", interrupted)
    result = call(*arguments(tiny, tmp_path))
    assert result.exit_code == 130
    assert "repeat the command to go on" in result.stderr


def test_stages_are_reported_and_their_updates_counted(tiny: Tiny, tmp_path: Path) -> None:
    result = trained(tiny, tmp_path, "--method", "split_sample_isotropic", *options(scale=0.3, splits=1))
    assert "kernel: 12/12 updates" in result.stdout
    assert "updates, left 0:00:00" in result.stdout
    assert "tokens/s" in result.stdout
    assert (tmp_path / "perturbation" / "metrics.jsonl").is_file()
    assert "training: train, 12 documents" in result.stderr


def test_a_killed_run_is_continued_to_the_same_weights(tiny: Tiny, tmp_path: Path) -> None:
    more = ("--method", "in_sample_diagonal", *options(score="cross_fitted", scale=0.2, draws=2, inference_draws=1))
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    code = [sys.executable, "-m", "eeqs.llm", *arguments(tiny, killed, *more, updates=5000)]
    process = subprocess.Popen(code, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603
    while process.poll() is None and checkpoint.latest(killed / "kernel" / "checkpoints") is None:
        time.sleep(0.02)
    assert process.poll() is None, process.stderr and process.stderr.read()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    path = checkpoint.latest(killed / "kernel" / "checkpoints")
    assert path is not None
    updates = checkpoint.load(path).update + 5
    trained(tiny, killed, *more, updates=updates)
    trained(tiny, straight, *more, updates=updates)
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (killed, straight))
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert run_of(killed)["result"]["best_update"] == run_of(straight)["result"]["best_update"]


def test_a_finished_run_goes_on_with_more_updates(tiny: Tiny, tmp_path: Path) -> None:
    trained(tiny, tmp_path, updates=4)
    trained(tiny, tmp_path, updates=6)
    assert run_of(tmp_path)["result"]["update"] == 6


def test_a_directory_of_another_run_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    trained(tiny, tmp_path, updates=2)
    result = call(*arguments(tiny, tmp_path, "--seed", 5, updates=2))
    assert result.exit_code == 2
    assert "its seed was 0, now 5" in result.stderr


def test_the_architecture_is_trained_anew_with_a_tokenizer_of_the_training_split(tiny: Tiny, tmp_path: Path) -> None:
    trained(tiny, tmp_path, "--bpe", 280, "--from-scratch", "--limit-bytes", 200, updates=2)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.language_model.config.vocab_size <= 280
    held = run_of(tmp_path)
    assert held["data"]["training"]["bytes"] <= 200
    assert 0 < held["data"]["training"]["documents"] < 12
    assert call("eval", tmp_path, "--data", tiny.digits).exit_code == 0


def test_the_documents_chosen_for_early_stopping_end_the_run(tiny: Tiny, tmp_path: Path) -> None:
    more = ("--set", "patience=1")
    common = [part for part in arguments(tiny, tmp_path, *more, updates=60) if part != "learning_rate=0.01"]
    index = common.index("checkpoint_every=2") + 1
    result = call(*common[:index], *common[index + 1 :], "--set", "learning_rate=3.0")
    assert result.exit_code == 0, result.output
    assert "stopped early" in result.output
    assert run_of(tmp_path)["result"]["update"] < 60
