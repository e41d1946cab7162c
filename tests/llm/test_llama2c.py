"""Checkpoints of llama2.c: the converted model against a forward pass written from the formulas; damaged files."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from eeqs.llm import PerturbedLM
from eeqs.llm.bits import bits_per_byte, token_log_probabilities
from eeqs.llm.corpus import dataset
from eeqs.llm.huggingface import HuggingFaceBackend
from eeqs.llm.huggingface.llama2c import load_llama2c, read_llama2c
from eeqs.llm.packing import batches, pack
from eeqs.llm.tokenization import llama2c_tokenizer
from eeqs.llm.tokens import tokenise
from eeqs.marginal import plug_in
from eeqs.marginal.perturbations.identity import Identity

DATA = Path(os.environ["EEQS_DATA"]) if "EEQS_DATA" in os.environ else None
ORDER = ("embedding", "attention_norm", "wq", "wk", "wv", "wo", "ffn_norm", "w1", "w2", "w3", "final_norm")


@dataclass(frozen=True)
class Sizes:
    dim: int = 24
    hidden: int = 20
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = 31
    context: int = 48
    tied: bool = True

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


def _checkpoint(path: Path, sizes: Sizes) -> dict[str, np.ndarray]:
    """Write random numbers in the legacy format; return them."""
    rng = np.random.default_rng(11)
    layers, dim, hidden, kv = sizes.layers, sizes.dim, sizes.hidden, sizes.kv_heads * sizes.head_dim
    shapes = [
        (sizes.vocabulary, dim), (layers, dim), (layers, dim, dim), (layers, kv, dim), (layers, kv, dim),
        (layers, dim, dim), (layers, dim), (layers, hidden, dim), (layers, dim, hidden), (layers, hidden, dim), (dim,),
    ]  # fmt: skip
    arrays = {name: rng.normal(size=shape, scale=0.4).astype("<f4") for name, shape in zip(ORDER, shapes, strict=True)}
    unread = np.full((2, sizes.context, sizes.head_dim // 2), np.nan, "<f4")  # cosines and sines
    parts = [*arrays.values(), unread]
    if not sizes.tied:
        arrays["head"] = rng.normal(size=(sizes.vocabulary, dim)).astype("<f4")
        parts.append(arrays["head"])
    signed = sizes.vocabulary if sizes.tied else -sizes.vocabulary
    header = struct.pack("<7i", dim, hidden, layers, sizes.heads, sizes.kv_heads, signed, sizes.context)
    path.write_bytes(header + b"".join(part.tobytes() for part in parts))
    return {name: array.astype(float) for name, array in arrays.items()}


def _scaled(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return weight * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)


def _turned(x: np.ndarray, interleaved: bool) -> np.ndarray:
    """Rotate pairs of coordinates of (T, d) by t / 10000^(2i / d): Su et al. (2021)."""
    count, dim = x.shape
    angle = np.arange(count)[:, None] * 10000.0 ** (-np.arange(0, dim, 2) / dim)
    first, second = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(dim // 2), slice(dim // 2, None))
    turned = np.exp(1j * angle) * (x[:, first] + 1j * x[:, second])
    result = np.empty_like(x)
    result[:, first], result[:, second] = turned.real, turned.imag
    return result


def _forward(w: dict[str, np.ndarray], sizes: Sizes, ids: np.ndarray, *, interleaved: bool = True) -> np.ndarray:
    """Logits (T, V): Touvron et al. (2023), a head and a position at a time."""
    x, d = w["embedding"][ids], sizes.head_dim
    for layer in range(sizes.layers):
        y = _scaled(x, w["attention_norm"][layer])
        mixed = np.zeros_like(x)
        for head in range(sizes.heads):
            group = head // (sizes.heads // sizes.kv_heads)
            own, shared = slice(head * d, (head + 1) * d), slice(group * d, (group + 1) * d)
            q = _turned(y @ w["wq"][layer][own].T, interleaved)
            k = _turned(y @ w["wk"][layer][shared].T, interleaved)
            v = y @ w["wv"][layer][shared].T
            for t in range(len(ids)):
                weight = np.exp(k[: t + 1] @ q[t] / np.sqrt(d))
                mixed[t, own] = weight @ v[: t + 1] / weight.sum()
        x = x + mixed @ w["wo"][layer].T
        y = _scaled(x, w["ffn_norm"][layer])
        gate = y @ w["w1"][layer].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w["w3"][layer].T)) @ w["w2"][layer].T
    return _scaled(x, w["final_norm"]) @ w["embedding" if sizes.tied else "head"].T


@torch.no_grad()
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("tied", [True, False])
def test_converted_logits_are_those_of_the_formulas(tmp_path: Path, kv_heads: int, tied: bool) -> None:
    sizes = Sizes(kv_heads=kv_heads, tied=tied)
    weights = _checkpoint(tmp_path / "model.bin", sizes)
    model = load_llama2c(tmp_path / "model.bin")
    ids = np.random.default_rng(0).integers(sizes.vocabulary, size=sizes.context)
    found = model(torch.from_numpy(ids)[None]).logits[0].double().numpy()
    expected = _forward(weights, sizes, ids)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * np.abs(expected).max())  # float32, three layers
    other = _forward(weights, sizes, ids, interleaved=False)
    assert np.abs(other - expected).max() > 0.05 * np.abs(expected).max()  # the other convention would be seen
    assert model.config.tie_word_embeddings is tied
    assert not model.training


def test_arrays_are_those_written(tmp_path: Path) -> None:
    written = _checkpoint(tmp_path / "model.bin", Sizes(tied=False))
    header, arrays = read_llama2c(tmp_path / "model.bin")
    assert (header.dim, header.kv_heads, header.context, header.tied) == (24, 2, 48, False)
    for name, array in written.items():
        np.testing.assert_array_equal(arrays[name].double().numpy(), array)


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    _checkpoint(path, Sizes())
    whole = path.read_bytes()
    for content, message in (
        (whole[:-4], "truncated"), (whole[: len(whole) // 2], "truncated"), (whole + b"\0", "header asks for"),
        (whole[:20], "20 bytes; a llama2.c checkpoint has a header of 28"), (b"", "0 bytes"),
        (struct.pack("<7i", 24, 20, 3, 5, 2, 31, 48) + whole[28:], "not a llama2.c checkpoint"),
        (struct.pack("<7i", -24, 20, 3, 4, 2, 31, 48) + whole[28:], "not a llama2.c checkpoint"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_llama2c(path)


if DATA:

    @torch.no_grad()
    def test_the_real_checkpoint_has_the_logits_of_the_formulas() -> None:
        header, arrays = read_llama2c(DATA / "stories260K" / "stories260K.bin")
        sizes = Sizes(
            header.dim, header.hidden_dim, header.layers, header.heads, header.kv_heads, header.vocab_size,
            header.context, header.tied,
        )  # fmt: skip
        ids = llama2c_tokenizer(DATA / "stories260K" / "tok512.bin").encode("Once upon a time, there was a girl.").ids
        ids = np.array([1, *ids])
        expected = _forward({name: array.double().numpy() for name, array in arrays.items()}, sizes, ids)
        found = load_llama2c(DATA / "stories260K" / "stories260K.bin")(torch.from_numpy(ids)[None]).logits[0]
        np.testing.assert_allclose(found.double().numpy(), expected, rtol=0, atol=1e-3)

    # The first documents of each set, windows of 256 tokens with 64 of context; a model that lost its positions, or a
    # tokenizer with other ids, is off by more than one bit.
    @pytest.mark.parametrize(("name", "count", "expected"), [("stories.test", 40, 2.8), ("wikitext2.valid", 2, 5.2)])
    def test_the_real_checkpoint_has_its_bits_per_byte(name: str, count: int, expected: float) -> None:
        model = load_llama2c(DATA / "stories260K" / "stories260K.bin")
        lm = PerturbedLM(HuggingFaceBackend(model), Identity(64), plug_in, inference_draws=1)
        tokenizer = llama2c_tokenizer(DATA / "stories260K" / "tok512.bin")
        documents = tokenise(dataset(name, count), tokenizer, bos=1, vocab_size=model.config.vocab_size)
        total = 0.0
        for rows in batches(pack(documents, 256, overlap=64), 16):
            log_p = lm.log_probabilities(
                rows.input_ids, attention_mask=rows.attention_mask, segment_ids=rows.segment_ids
            )
            total += rows.by_document(token_log_probabilities(log_p, rows.labels)).sum()
        found = float(bits_per_byte(total, sum(document.n_bytes for document in documents)))
        assert found == pytest.approx(expected, abs=0.1)
