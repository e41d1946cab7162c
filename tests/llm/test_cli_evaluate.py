"""The commands eval, compare and generate on tiny models."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("transformers")
pytest.importorskip("typer")

from test_cli_train import call, options, trained
from tiny_model import Tiny
from transformers import AutoModelForCausalLM

from eeqs.llm.corpus import read_documents
from eeqs.llm.huggingface import HuggingFaceBackend
from eeqs.llm.huggingface.pretrained import pretrained_tokenizer
from eeqs.llm.methods import plain
from eeqs.llm.packing import pack
from eeqs.llm.tokens import tokenise

DOMAINS = ("valid", "digits")


@pytest.fixture(scope="module")
def runs(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Directories of plain training and of learned noise, two seeds each."""
    folder = tmp_path_factory.mktemp("runs")
    noisy = ("--method", "split_sample_isotropic", *options(scale=0.5, inference_draws=2))
    found = []
    for name, more in (("plain", ()), ("noisy", noisy)):
        for seed in (0, 1):
            found.append(folder / f"{name}{seed}")
            trained(tiny, found[-1], *more, "--seed", seed, updates=4)
    return found


def test_a_model_is_scored_on_every_domain(tiny: Tiny, tmp_path: Path) -> None:
    csv, stored = tmp_path / "t.csv", tmp_path / "t.json"
    data = ("--data", tiny.valid, "--data", tiny.digits)
    result = call("eval", tiny.model, *data, "--length", 32, "--csv", csv, "--json", stored)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(csv)
    pd.testing.assert_frame_equal(table, pd.DataFrame(json.loads(stored.read_text())["rows"]))
    assert set(table["domain"]) == set(DOMAINS)
    assert {"perplexity", "bits_per_byte", "accuracy", "calibration_error"} <= set(table["measure"])
    backend = HuggingFaceBackend(AutoModelForCausalLM.from_pretrained(tiny.model))
    found = tokenise(read_documents(tiny.digits), pretrained_tokenizer(str(tiny.model)), 0)
    rows = pack(list(found), 32)
    law = plain().model(backend, 0).eval().log_probabilities(rows.input_ids, segment_ids=rows.segment_ids)
    labels = rows.labels[:, 1:]
    log_p = law[:, :-1].gather(-1, labels.clamp(min=0)[..., None])[..., 0][labels >= 0].sum()
    expected = -float(log_p) / np.log(2) / int(rows.n_bytes.sum())
    row = table.query("domain == 'digits' and measure == 'bits_per_byte'")
    assert row["estimate"].item() == pytest.approx(expected, rel=1e-5)
    assert f"{row['estimate'].item():.4g} ({row['se'].item():.2g})" in result.output


def test_generated_text_is_compared_with_what_it_replaces(tiny: Tiny, tmp_path: Path) -> None:
    data = ("--data", tiny.valid, "--data", tiny.digits)
    asked = ("--generate", 8, "--prompt-tokens", 4, "--features", tiny.model)
    found = [tmp_path / f"{seed}.csv" for seed in (0, 0, 1)]
    for csv, seed in zip(found, (0, 0, 1), strict=True):
        result = call("eval", tiny.model, *data, "--length", 32, *asked, "--seed", seed, "--csv", csv)
        assert result.exit_code == 0, result.output
        assert "8 tokens generated after 4" in " ".join(result.output.split())
    first, again, other = (pd.read_csv(csv) for csv in found)
    pd.testing.assert_frame_equal(first, again)
    rows = first.set_index(["measure", "domain"])
    assert set(first["domain"]) == set(DOMAINS)
    for domain in DOMAINS:
        assert 0 <= rows.loc[("rouge_1_f1", domain), "estimate"] <= 1
        mauve = rows.loc[("mauve", domain)]
        assert 0 < mauve["estimate"] <= 1
        assert mauve["low"] < mauve["estimate"] < mauve["high"]
        assert mauve["n_documents"] == 5
    assert not first.equals(other)


def test_a_perfect_copy_has_one_of_either(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tokens = [d.ids for d in tokenise(read_documents(tiny.valid), pretrained_tokenizer(str(tiny.model)), 0)]
    monkeypatch.setattr("eeqs.llm.cli.continuations.generate", lambda *_, **__: [ids[4:12] for ids in tokens])
    asked = ("--data", tiny.valid, "--length", 32, "--generate", 8, "--prompt-tokens", 4, "--features", tiny.model)
    result = call("eval", tiny.model, *asked, "--csv", tmp_path / "t.csv")
    assert result.exit_code == 0, result.output
    rows = pd.read_csv(tmp_path / "t.csv").set_index("measure")["estimate"]
    assert rows[["rouge_1_precision", "rouge_1_recall", "rouge_1_f1", "mauve"]].tolist() == pytest.approx([1.0] * 4)


def test_a_model_of_features_that_reads_too_few_tokens_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    short = shutil.copytree(tiny.model, tmp_path / "short")
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8}))
    asked = ("--data", tiny.valid, "--length", 32, "--generate", 8, "--prompt-tokens", 4, "--features", short)
    result = call("eval", tiny.model, *asked)
    assert result.exit_code == 2
    assert "a text for --features" in result.stderr
    assert "reads 8" in result.stderr


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--generate", 100), "reads 64"),
        (("--generate", 8, "--prompt-tokens", 50), "ask for fewer"),
        (("--features", "x"), "add --generate"),
    ],
)
def test_what_cannot_be_generated_is_refused(asked: tuple, message: str, tiny: Tiny) -> None:
    result = call("eval", tiny.model, "--data", tiny.valid, "--length", 32, *asked)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_draws_of_prediction_are_chosen(runs: list[Path], tiny: Tiny, tmp_path: Path) -> None:
    found = []
    for draws in (2, 8):
        where = tmp_path / f"{draws}.json"
        assert call("eval", runs[2], "--data", tiny.valid, "--draws", draws, "--json", where).exit_code == 0
        found.append(json.loads(where.read_text()))
    assert [one["draws"] for one in found] == [2, 8]
    assert found[0]["rows"][1]["estimate"] != found[1]["rows"][1]["estimate"]


def test_runs_are_compared_on_the_same_documents(runs: list[Path], tiny: Tiny, tmp_path: Path) -> None:
    csv = tmp_path / "t.csv"
    result = call("compare", runs[0], runs[2], tiny.model, "--data", tiny.valid, "--data", tiny.digits, "--csv", csv)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(csv)
    assert table[["method", "domain"]].values.tolist() == [
        [method, domain] for method in ("noisy0", "model") for domain in DOMAINS
    ]
    assert set(table["reference"]) == {"plain0"}
    assert (table["simultaneous_high"] > table["high"]).all()
    alone = []
    for source in (runs[0], runs[2]):
        where = tmp_path / f"{source.name}.csv"
        call("eval", source, "--data", tiny.digits, "--csv", where)
        alone.append(pd.read_csv(where).set_index("measure").loc["bits_per_byte", "estimate"])
    difference = table.query("method == 'noisy0' and domain == 'digits'")["estimate"].item()
    assert difference == pytest.approx(alone[1] - alone[0], rel=1e-6)


def test_runs_of_one_method_are_its_seeds(runs: list[Path], tiny: Tiny, tmp_path: Path) -> None:
    stored = tmp_path / "t.json"
    result = call("compare", *runs, "--data", tiny.valid, "--over-seeds", "--measure", "accuracy", "--json", stored)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(stored.read_text())["rows"]
    assert (row["method"], row["reference"], row["n_seeds"]) == ("split_sample_isotropic", "plain", 2)
    assert row["measure"] == "accuracy"


def test_texts_are_continued_reproducibly(runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("sea\nwind and\n")
    command = ("generate", runs[2], "--prompt", "sun", "--prompts-file", tmp_path / "prompts.txt", "--tokens", 8)
    stored = tmp_path / "t.json"
    first = call(*command, "--seed", 3, "--json", stored)
    assert first.exit_code == 0, first.output
    rows = json.loads(stored.read_text())
    assert [row["prompt"] for row in rows] == ["sun", "sea", "wind and"]
    assert all(row["text"].startswith(row["prompt"]) for row in rows)
    assert first.output == call(*command, "--seed", 3).output != call(*command, "--seed", 4).output
    greedy = [call("generate", runs[0], "--prompt", "sun", "--temperature", 0, "--seed", s).output for s in (0, 1)]
    assert greedy[0] == greedy[1]
    assert call(*command, "--top-p", 0.5, "--temperature", 0.7, "--draws", 3).exit_code == 0
    (tmp_path / "prompts.txt").write_bytes(b"\xff\n")
    assert "byte 0 is not UTF-8" in call(*command).stderr
