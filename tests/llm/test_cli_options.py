"""Names and options of the command line: methods by introspection, settings, documents, progress. No transformers."""

import gzip
import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

from rich.console import Console
from tiny_model import write_documents
from typer.testing import CliRunner

from eeqs.engine.errors import DataError
from eeqs.llm import ToyTransformer, methods
from eeqs.llm.cli import text
from eeqs.llm.cli.app import app
from eeqs.llm.cli.catalogue import catalogue, method_of
from eeqs.llm.cli.presets import PRESETS, PresetName, settings_of
from eeqs.llm.cli.progress import SECONDS_BETWEEN_LINES, Meter, progress
from eeqs.llm.cli.readers import options
from eeqs.llm.cli.text import corpus
from eeqs.llm.corpus import Document
from eeqs.marginal import scores
from eeqs.marginal.draws import antithetic, iid

REQUIRED = {"scale": "0.1", "score": "plug_in"}
SMALL = {"rank": "2", "neighbours": "3"}


def given(name: str) -> dict[str, str]:
    known = method_of(name).known
    return {key: value for key, value in (REQUIRED | SMALL).items() if key in known}


@pytest.mark.parametrize("name", [name for name in catalogue() if name != "eda"])
def test_every_method_is_built_and_takes_a_step(name: str) -> None:
    method = method_of(name).build(given(name), length=8)
    backend = ToyTransformer(11, 8, 1, 2, 8, generator=torch.Generator().manual_seed(0))
    model = method.model(backend, 0)
    ids = torch.arange(8)[None]
    loss = model.loss(ids, ids, score=method.equations[-1].score, draws=method.equations[-1].draws)
    assert math.isfinite(float(loss.detach()))
    loss.backward()


def test_every_public_method_is_there() -> None:
    names = set(catalogue())
    for name in ("plain", "neftune", "fixed_gaussian", "eda", "semantic_neighbour", "token_dropout", "taia"):
        assert name in names
    families = {name for name in methods.__all__ if name in methods.perturbations.__all__} - {"Build"}
    assert len(families) == 6
    assert {f"{how}_{family}" for how in ("in_sample", "split_sample") for family in families} < names


def test_options_of_a_family_and_of_how_it_is_learned_are_told_apart() -> None:
    for entry in catalogue().values():
        if entry.family is not None:
            assert not options(entry.factory).keys() & options(entry.family).keys()


def test_options_arrive() -> None:
    texts = {"scale": "0.1", "splits": "3", "theta_draws": "antithetic:4:2", "phi_score": "quadratic", "phi_draws": "6"}
    method = method_of("split_sample_contextual").build(texts | {"hidden": "4,5", "phi_rate": "2"}, length=8)
    theta, phi = method.equations
    assert method.name == "split_sample_contextual"
    assert method.splits == 3
    assert theta.draws == antithetic(4, 2)
    assert phi.draws == iid(6)
    assert phi.score is scores.quadratic
    assert list(phi.rates.values()) == [2.0]
    model = method.model(ToyTransformer(11, 8, 1, 2, 8, generator=torch.Generator().manual_seed(0)), 0)
    assert {4, 5} <= {size for p in model.perturbation.parameters() for size in p.shape}  # type: ignore[attr-defined]


def test_eda_reads_its_synonyms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "words.tsv.gz"
    path.write_bytes(gzip.compress(b"big\tlarge\n"))
    assert method_of("eda").build({"synonyms": str(path), "alpha": "0.5"}, 8).rewrite is not None
    monkeypatch.delenv("EEQS_DATA", raising=False)
    with pytest.raises(DataError, match="EEQS_DATA is not set"):
        method_of("eda").build({}, 8)


def test_settings_replace_those_of_the_preset() -> None:
    found = settings_of(PRESETS[PresetName.GPU], ["learning_rate=0.5", "micro_rows=none", "bfloat16=false"], seed=4)
    assert (found.learning_rate, found.micro_rows, found.bfloat16, found.seed) == (0.5, None, False, 4)
    assert found.batch_rows == PRESETS[PresetName.GPU].settings.batch_rows
    with pytest.raises(DataError, match="given twice"):
        settings_of(PRESETS[PresetName.CPU], ["clip=1", "clip=2"], 0)
    with pytest.raises(DataError, match="bfloat16=yes cannot be read; write true or false"):
        settings_of(PRESETS[PresetName.CPU], ["bfloat16=yes"], 0)


def test_documents_have_a_name_a_limit_and_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_documents(tmp_path / "three.jsonl", ["abc", "defg", "hi"])
    assert corpus(str(path)).name == "three"
    assert [document.text for document in corpus(str(path), 7).documents] == ["abc", "defg"]
    monkeypatch.setenv("EEQS_DATA", str(tmp_path))
    assert corpus("three").digest == corpus(str(path)).digest != corpus("three", 7).digest
    (tmp_path / "sums.jsonl").write_text('{"question": "1+1", "answer": "2"}\n')
    assert corpus("sums#question,answer").documents[0].text == "1+1\n2"
    with pytest.raises(DataError, match='no text in "text"'):
        corpus("sums")


def test_the_hub_is_asked_for_a_split_of_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def hub(name: str, split: str, *, configuration: str | None, fields: tuple[str, ...]) -> list[Document]:
        asked.append((name, split, configuration, fields))
        return [Document("a", "b")]

    monkeypatch.setattr(text, "hub_dataset", hub)
    assert corpus("hub:openai/gsm8k@main/test#question,answer").name == "gsm8k@main_test"
    corpus("hub:wikitext@test")
    corpus("hub:wikitext")
    assert asked == [
        ("openai/gsm8k", "test", "main", ("question", "answer")),
        ("wikitext", "test", None, ("text",)),
        ("wikitext", "train", None, ("text",)),
    ]


def test_time_left_counts_from_where_the_run_was_continued() -> None:
    now = 0.0
    meter = Meter(("perturbation", "kernel"), 100, clock=lambda: now)
    for update in range(60, 101):
        meter.add({"stage": "perturbation", "update": update, "theta_0_loss": 2.0, "phi_loss": 1.0})
        now += 2.0
    # 40 updates in 82 seconds, and 100 to go.
    assert str(meter) == "perturbation: 100/200 updates, left 0:03:25, theta_0 loss 2.0000, phi loss 1.0000"
    meter.add({"stage": "kernel", "update": 1, "validation": 2.5, "best": 2.25, "best_update": 0})
    assert str(meter).startswith("kernel: 101/200 updates, left 0:03:18, validation 2.5000 bits/byte, best 2.2500 at 0")


def test_a_line_now_and_then_where_there_is_no_terminal(tmp_path: Path) -> None:
    now = 0.0
    meter = Meter(("kernel",), 30, clock=lambda: now)
    with (tmp_path / "log").open("w") as file, progress(meter, Console(file=file, width=200)) as report:
        for update in range(1, 31):
            now += SECONDS_BETWEEN_LINES / 10
            report({"stage": "kernel", "update": update, "tokens_per_second": 1234.5})
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["10/30", "20/30", "30/30", "30/30"]
    assert "1,234 tokens/s" in lines[0]


def test_a_bar_on_a_terminal(tmp_path: Path) -> None:
    meter = Meter(("kernel",), 3)
    with (
        (tmp_path / "log").open("w") as file,
        progress(meter, Console(file=file, width=200, force_terminal=True)) as report,
    ):
        for update in range(1, 4):
            report({"stage": "kernel", "update": update, "joint_loss": 1.5})
    assert "3/3 updates, left 0:00:00, joint loss 1.5000" in (tmp_path / "log").read_text()


def test_methods_are_listed_with_their_options() -> None:
    result = CliRunner().invoke(app, ["methods"])
    assert result.exit_code == 0, result.output
    assert "split_sample_low_rank" in result.output
    assert "rank=8" in result.output
    assert CliRunner().invoke(app, ["--help"]).exit_code == 0
