"""Bad input leaves the commands with exit code 2 and one line that names the offender and the remedy."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("typer")

import torch
from test_cli_train import arguments, call, options, trained
from tiny_model import Tiny, write_documents
from transformers import LlamaForCausalLM

from eeqs.llm.huggingface.pretrained import save_tokenizer
from eeqs.llm.tokenization import train_byte_bpe
from eeqs.llm.training import checkpoint


def refused(*parts: object) -> str:
    """One line of error of a call that ends with code 2."""
    result = call(*parts)
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert result.stderr.splitlines()[-1] == errors[0]
    assert "Traceback" not in result.output
    return errors[0]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--method", "nefture"), "Did you mean neftune? There are: eda"),
        (
            ("--method", "fixed_gaussian", "--option", "scael=1"),
            'no --option "scael". Did you mean scale? It has: scale',
        ),
        (("--method", "fixed_gaussian"), "fixed_gaussian needs scale: add --option scale=VALUE"),
        (("--method", "fixed_gaussian", "--option", "scale=big"), "scale=big cannot be read; write a number"),
        (("--method", "fixed_gaussian", "--option", "scale"), "write --option key=value"),
        (("--method", "in_sample_flow", *options(score="exakt", scale=1)), "write one of cross_fitted"),
        (("--set", "learning_rat=1"), "Did you mean learning_rate?"),
        (("--set", "clip=-1"), "clip is -1.0"),
        (("--bpe", 300), "add --from-scratch"),
        (("--length", 65), "--length is 65 tokens and the model reads 64"),
        (("--device", "cuda:77"), 'device "cuda:77" cannot be used here'),
        (("--limit-bytes", 3), "more than the limit of 3; raise the limit"),
        (("--model", "no/such/model"), '"no/such/model"'),
    ],
)
def test_an_argument_that_cannot_be_used(more: tuple[object, ...], told: str, tiny: Tiny, tmp_path: Path) -> None:
    assert told in refused(*_replaced(arguments(tiny, tmp_path / "run", updates=2), more))
    assert not (tmp_path / "run").exists()


def _replaced(parts: list[str], more: tuple[object, ...]) -> list[object]:
    """Leave out options of ``parts`` that ``more`` gives again."""
    flags = {str(one) for one in more[::2]} - {"--set", "--option"}
    kept: list[object] = [parts[0]]
    for flag, value in zip(parts[1::2], parts[2::2], strict=True):
        kept += [] if flag in flags else [flag, value]
    return [*kept, *more]


def test_a_model_that_takes_no_embeddings(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LlamaForCausalLM.forward

    def forward(self: LlamaForCausalLM, input_ids: torch.Tensor, use_cache: bool = False) -> object:
        return whole(self, input_ids=input_ids, use_cache=use_cache)

    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    told = refused(*arguments(tiny, tmp_path))
    assert "LlamaForCausalLM does not compute logits from inputs_embeds" in told
    assert "use a causal language model that takes them" in told


def test_a_tokenizer_of_another_model(tiny: Tiny, tmp_path: Path) -> None:
    texts = [json.loads(line)["text"] for line in tiny.train.read_text().splitlines()]
    save_tokenizer(train_byte_bpe(texts, 270), tmp_path / "other", 0)
    told = refused(*arguments(tiny, tmp_path / "run", "--tokenizer", tmp_path / "other"))
    assert "the tokenizer has 270 tokens and the model 257" in told
    assert "no tokenizer at" in refused(*arguments(tiny, tmp_path / "run", "--tokenizer", tmp_path))


BAD_TEXTS: list[tuple[bytes, str]] = [
    (b'{"id": "a", "text": "sun"}\n{"id": "b", "text": "  "}\n', 'line 2: document "b" is empty; leave it out'),
    (b'{"id": "a", "text": "sun"}\n{"id": "b", "text": "\xff"}\n', "line 2: byte 21 is not UTF-8"),
    (b'{"id": "a", "text": "sun"\n', "line 1: not JSON"),
    (b"", "has no documents"),
]


@pytest.mark.parametrize(("content", "told"), BAD_TEXTS)
def test_documents_that_are_none(content: bytes, told: str, tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    assert told in refused(*_replaced(arguments(tiny, tmp_path / "run"), ("--train", path)))
    assert told in refused("eval", tiny.model, "--data", path)


def test_documents_too_short_to_predict_anything(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "without_bos"
    shutil.copytree(tiny.model, folder)
    for name in ("config.json", "generation_config.json"):
        held = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(held | {"bos_token_id": None, "eos_token_id": None}))
    short = write_documents(tmp_path / "short.jsonl", ["a", "b"])
    told = refused(*_replaced(arguments(tiny, tmp_path / "run"), ("--model", folder, "--train", short)))
    assert "none of 2 documents has a token to predict; pass longer ones" in told
    mixed = write_documents(tmp_path / "mixed.jsonl", ["a", "sun", "moon"])
    result = call("eval", folder, "--data", mixed)
    assert result.exit_code == 0, result.output
    assert "mixed: left out 1 documents too short to predict anything, such as mixed:0" in result.stderr


def test_a_loss_that_is_not_finite_keeps_the_checkpoints(tiny: Tiny, tmp_path: Path) -> None:
    trained(tiny, tmp_path / "good", updates=4)
    wild = [one.replace("learning_rate=0.01", "learning_rate=1e30") for one in arguments(tiny, tmp_path / "run")]
    told = refused(*[one.replace("validate_every=3", "validate_every=100") for one in wild], "--set", "clip=1e30")
    assert 'equation "joint": loss ' in told
    assert "nan" in told
    assert "Lower the learning rate" in told
    assert not (tmp_path / "run" / "model").exists()
    assert (tmp_path / "run" / "run.json").is_file()
    assert "is not finished; repeat the training command" in refused("eval", tmp_path / "run", "--data", tiny.valid)


def _halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_files_cut_short(tiny: Tiny, tmp_path: Path) -> None:
    trained(tiny, tmp_path, updates=4)
    found = checkpoint.latest(tmp_path / "kernel" / "checkpoints")
    assert found is not None
    _halve(found / "tensors.safetensors")
    assert "checksum differs. Remove this folder" in refused(*arguments(tiny, tmp_path, updates=6))
    shutil.rmtree(found)
    trained(tiny, tmp_path, updates=6)
    _halve(tmp_path / "model" / "model.safetensors")
    assert "damaged" in refused("eval", tmp_path, "--data", tiny.valid)
    trained(tiny, tmp_path, updates=6)
    assert call("eval", tmp_path, "--data", tiny.valid).exit_code == 0
    _halve(tmp_path / "run.json")
    assert "run.json is damaged" in refused("generate", tmp_path, "--prompt", "sun")


def test_weights_of_a_checkpoint_cut_short(tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(tiny.model, tmp_path / "model")
    _halve(tmp_path / "model" / "model.safetensors")
    told = refused(*_replaced(arguments(tiny, tmp_path / "run"), ("--model", tmp_path / "model")))
    assert "are damaged" in told
    (tmp_path / "old.bin").write_bytes(b"\x01\x00\x00")
    given = ("--model", tmp_path / "old.bin", "--tokenizer", tiny.model)
    assert "old.bin has 3 bytes" in refused(*_replaced(arguments(tiny, tmp_path / "run"), given))


def test_a_full_disk(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(save: Callable[..., object]) -> Callable[..., object]:
        def write(tensors: object, path: Path, *rest: object) -> object:
            if "update-000000004" in str(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return save(tensors, path, *rest)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full(checkpoint.save_file))
        told = refused(*arguments(tiny, tmp_path / "run"))
    assert "No space left on device" in told
    assert "free space or pass another folder" in told
    found = checkpoint.latest(tmp_path / "run" / "kernel" / "checkpoints")
    assert found is not None
    assert checkpoint.load(found).update == 2
    trained(tiny, tmp_path / "run")


def test_no_folder_of_data_sets(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EEQS_DATA", raising=False)
    told = "EEQS_DATA is not set; set it to the folder"
    assert told in refused(*_replaced(arguments(tiny, tmp_path), ("--train", "wikitext2.train")))
    assert "wordnet_synonyms" in refused(*arguments(tiny, tmp_path, "--method", "eda"))


def test_requests_that_evaluation_cannot_meet(tiny: Tiny, tmp_path: Path) -> None:
    same = write_documents(tmp_path / "valid.jsonl", ["sun", "sea"])
    assert 'two data sets are called "valid"' in refused("eval", tiny.model, "--data", tiny.valid, "--data", same)
    one = write_documents(tmp_path / "one.jsonl", ["sun"])
    assert "a standard error needs two or more" in refused("eval", tiny.model, "--data", one)
    assert "there is no measure" in refused("compare", tiny.model, tmp_path, "--data", one, "--measure", "bits")
    assert "is given twice" in refused("compare", tiny.model, tiny.model, "--data", tiny.valid)
    assert "give --prompt TEXT" in refused("generate", tiny.model)
    assert "prompt and --tokens is 74 tokens" in refused("generate", tiny.model, "--prompt", "sea", "--tokens", 70)
