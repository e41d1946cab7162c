"""A tiny Hugging Face model and texts for the tests of the command line."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WORDS = ("sun", "moon", "sea", "sand", "wind", "rain", "tree", "leaf")


@dataclass(frozen=True)
class Tiny:
    """Folder of a two-layer Llama over bytes, and files of documents."""

    model: Path
    train: Path
    valid: Path
    digits: Path


def write_documents(path: Path, texts: list[str]) -> Path:
    lines = [json.dumps({"id": f"{path.stem}:{i}", "text": text}) + "\n" for i, text in enumerate(texts)]
    path.write_text("".join(lines))
    return path


def make(folder: Path) -> Tiny:
    """Write the model and the texts."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from eeqs.llm.huggingface.pretrained import quiet, save_tokenizer
    from eeqs.llm.tokenization import train_byte_bpe

    rng = np.random.default_rng(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder / "model")
    save_tokenizer(train_byte_bpe(["a"], 257), folder / "model", 0)

    def texts(count: int) -> list[str]:
        return [" ".join(rng.choice(WORDS, rng.integers(3, 7))) for _ in range(count)]

    return Tiny(
        folder / "model",
        write_documents(folder / "train.jsonl", texts(12)),
        write_documents(folder / "valid.jsonl", texts(5)),
        write_documents(folder / "digits.jsonl", [" ".join(map(str, rng.integers(0, 99, 6))) for _ in range(5)]),
    )
