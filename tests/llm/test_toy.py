"""The toy transformer: an independent forward pass, causal order, masks as separate sequences, positions."""

import numpy as np
import pytest
import torch
from scipy.special import erf

from eeqs.llm import Backend, ToyTransformer

V, D, HEADS, CONTEXT = 19, 8, 2, 16


@pytest.fixture
def toy(generator: torch.Generator) -> ToyTransformer:
    model = ToyTransformer(V, D, 2, HEADS, CONTEXT, generator=generator, dtype=torch.float64)
    with torch.no_grad():  # norms and biases that do something
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def ids(generator: torch.Generator) -> torch.Tensor:
    return torch.randint(V, (3, 10), generator=generator)


def _norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def _reference(state: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """Logits (T, V) of one sequence, a head and a position at a time."""
    x = state["tokens.weight"][ids] + state["positions.weight"][: len(ids)]
    size = D // HEADS
    for block in ("blocks.0.", "blocks.1."):
        part = {name.removeprefix(block): value for name, value in state.items() if name.startswith(block)}
        y = _norm(x, part["before.weight"], part["before.bias"]) @ part["attend.weight"].T + part["attend.bias"]
        mixed = np.zeros_like(x)
        for head in range(HEADS):
            q, k, v = (y[:, start + head * size : start + (head + 1) * size] for start in (0, D, 2 * D))
            for t in range(len(ids)):
                weight = np.exp(q[t] @ k[: t + 1].T / np.sqrt(size))
                mixed[t, head * size : (head + 1) * size] = weight @ v[: t + 1] / weight.sum()
        x = x + mixed @ part["project.weight"].T + part["project.bias"]
        wide = _norm(x, part["between.weight"], part["between.bias"]) @ part["widen.weight"].T + part["widen.bias"]
        x = x + (wide * (1 + erf(wide / np.sqrt(2))) / 2) @ part["narrow.weight"].T + part["narrow.bias"]
    return _norm(x, state["norm.weight"], state["norm.bias"]) @ state["tokens.weight"].T


@torch.no_grad()
def test_logits_are_those_of_the_formulas(toy: ToyTransformer, ids: torch.Tensor) -> None:
    state = {name: value.numpy() for name, value in toy.state_dict().items()}
    found = toy.logits(toy.hidden(toy.embed(ids))).numpy()
    np.testing.assert_allclose(found, np.stack([_reference(state, row.numpy()) for row in ids]), atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("place", [0, 4, 9])
def test_no_position_sees_a_later_one(toy: ToyTransformer, ids: torch.Tensor, place: int) -> None:
    changed = ids.clone()
    changed[:, place] = (changed[:, place] + 1) % V
    before, after = (toy.hidden(toy.embed(which)) for which in (ids, changed))
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.isclose(before[:, place:], after[:, place:]).all(-1).any()


@torch.no_grad()
def test_a_mask_of_blocks_is_separate_sequences(toy: ToyTransformer, ids: torch.Tensor) -> None:
    segment = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    visible = ((segment[:, None] == segment[None, :]) & torch.ones(10, 10, dtype=torch.bool).tril()).expand(3, -1, -1)
    positions = torch.cat([torch.arange(4), torch.arange(6)]).expand(3, -1)
    embedded = toy.embed(ids)
    together = toy.hidden(embedded, visible, positions)
    torch.testing.assert_close(together[:, :4], toy.hidden(embedded[:, :4]), rtol=0, atol=1e-12)
    torch.testing.assert_close(together[:, 4:], toy.hidden(embedded[:, 4:]), rtol=0, atol=1e-12)


@torch.no_grad()
def test_positions_count_from_zero_and_matter(toy: ToyTransformer, ids: torch.Tensor) -> None:
    embedded, order = toy.embed(ids), torch.arange(10).expand(3, -1)
    plain = toy.hidden(embedded)
    assert torch.equal(toy.hidden(embedded, None, order), plain)
    assert not torch.isclose(toy.hidden(embedded, None, order + 3), plain).all(-1).any()


def test_it_is_a_back_end_with_bounds(toy: ToyTransformer) -> None:
    assert isinstance(toy, Backend)
    assert (toy.dim, toy.vocab_size) == (D, V)
    with pytest.raises(ValueError, match=f"{CONTEXT + 1} positions; this model takes {CONTEXT}"):
        toy.hidden(torch.zeros(1, CONTEXT + 1, D, dtype=torch.float64))
    with pytest.raises(ValueError, match="dim is 9 and heads 2"):
        ToyTransformer(V, 9, generator=torch.Generator())


def test_weights_are_a_function_of_the_generator() -> None:
    one, two, other = (ToyTransformer(V, D, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.tokens.weight, other.tokens.weight)
