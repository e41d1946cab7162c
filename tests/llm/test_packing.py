"""Packing: each token predicted once, with the context asked for; no position sees another document."""

import math
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.llm import PerturbedLM, ToyTransformer
from eeqs.llm.bits import bits_per_byte, token_log_probabilities
from eeqs.llm.packing import Rows, batches, pack
from eeqs.llm.perturbed import IGNORED
from eeqs.llm.tokens import TokenisedDocument
from eeqs.marginal import plug_in
from eeqs.marginal.perturbations.gaussian import Gaussian
from eeqs.marginal.perturbations.identity import Identity

VOCABULARY, DIM = 23, 8


def _documents(counts: list[int]) -> list[TokenisedDocument]:
    """Documents of so many tokens, no token twice in the whole corpus."""
    ids = torch.arange(1, sum(counts) + 1).split(counts)
    return [TokenisedDocument(f"d{index}", part, len(part) - 1) for index, part in enumerate(ids)]


def _random(counts: list[int], seed: int = 0) -> list[TokenisedDocument]:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randint(VOCABULARY, (count,), generator=generator) for count in counts]
    return [TokenisedDocument(f"d{index}", part, len(part) - 1) for index, part in enumerate(parts)]


COUNTS = st.lists(st.integers(2, 45), min_size=1, max_size=12)
SHAPES = st.integers(2, 17).flatmap(lambda length: st.tuples(st.just(length), st.integers(0, length - 1)))


@given(COUNTS, SHAPES, st.booleans())
def test_every_token_is_predicted_once_in_its_document(counts, shape, several) -> None:
    (length, overlap), documents = shape, _documents(counts)
    rows = pack(documents, length, several=several, overlap=overlap)
    predicted = rows.labels[rows.labels != IGNORED]
    assert sorted(predicted.tolist()) == sorted(torch.cat([one.ids[1:] for one in documents]).tolist())
    assert rows.n_predicted == len(predicted)
    first = {int(token): int(document.ids[0]) for document in documents for token in document.ids}
    for row, place in (rows.labels != IGNORED).nonzero().tolist():
        token = int(rows.labels[row, place])
        begin = int((rows.segment_ids[row] == rows.segment_ids[row, place]).nonzero()[0])
        context = rows.input_ids[row, begin : place + 1].tolist()
        # The tokens just before it, without a gap; so many as were asked for, or all that the document has.
        assert context == list(range(token - len(context) + 1, token + 1))
        assert len(context) - 1 >= min(max(overlap, 1), token - first[token])
        assert context[0] >= first[token]


@given(COUNTS, SHAPES, st.booleans())
def test_segments_documents_and_padding_say_what_is_where(counts, shape, several) -> None:
    (length, overlap), documents = shape, _documents(counts)
    rows = pack(documents, length, several=several, overlap=overlap)
    real = rows.attention_mask.bool()
    assert rows.input_ids.shape == (len(rows), length)
    for tensor, padding in (
        (rows.input_ids, 0), (rows.labels, IGNORED), (rows.segment_ids, -1), (rows.document, -1)
    ):  # fmt: skip
        assert bool((tensor[~real] == padding).all())
    assert bool((rows.input_ids[real] > 0).all())
    owner = {int(token): index for index, document in enumerate(documents) for token in document.ids}
    assert rows.document[real].tolist() == [owner[token] for token in rows.input_ids[real].tolist()]
    for segments, mask in zip(rows.segment_ids, real, strict=True):
        kept = segments[mask].tolist()
        assert kept[0] == 0
        assert all(after - before in {0, 1} for before, after in pairwise(kept))
        assert bool(mask[: len(kept)].all())  # padding comes last
        assert several or kept[-1] == 0
    assert rows.fill == pytest.approx(int(real.sum()) / real.numel())


@given(COUNTS, SHAPES)
def test_no_two_rows_would_fit_in_one(counts, shape) -> None:
    rows = pack(_documents(counts), shape[0], overlap=shape[1])
    held = rows.attention_mask.sum(1).tolist()
    assert all(one + other > shape[0] for one, other in combinations(held, 2))


def test_long_windows_come_first() -> None:
    rows = pack(_documents([2, 2, 6, 6]), 8)
    assert (len(rows), rows.fill) == (2, 1.0)
    assert len(pack(_documents([2, 2, 6, 6]), 8, several=False)) == 4


@given(COUNTS, SHAPES, st.booleans())
def test_sums_over_windows_are_those_of_whole_documents(counts, shape, several) -> None:
    # A model without memory: what it gives a token does not depend on the window the token is in.
    documents = _random(counts)
    values = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(1), dtype=torch.float64).log_softmax(0)
    rows = pack(documents, shape[0], several=several, overlap=shape[1])
    found = rows.by_document(token_log_probabilities(values.expand(*rows.labels.shape, -1), rows.labels))
    whole = torch.stack([values[document.ids[1:]].sum() for document in documents])
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(bits_per_byte(found, rows.n_bytes), -whole / math.log(2) / rows.n_bytes)
    assert rows.n_bytes.tolist() == [document.n_bytes for document in documents]
    assert rows.names == tuple(document.id for document in documents)


@given(COUNTS, SHAPES, st.integers(1, 7), st.integers(0, 3))
def test_batches_go_through_all_rows_once(counts, shape, size, seed) -> None:
    rows = pack(_documents(counts), shape[0], overlap=shape[1])

    def order(seed: int) -> Tensor:
        parts = list(batches(rows, size, torch.Generator().manual_seed(seed)))
        assert all(len(part) == size for part in parts[:-1])
        assert all(part.labels.shape == part.document.shape == part.input_ids.shape for part in parts)
        return torch.cat([part.input_ids for part in parts])

    assert torch.equal(order(seed), order(seed))
    assert sorted(map(tuple, order(seed).tolist())) == sorted(map(tuple, rows.input_ids.tolist()))
    assert torch.equal(torch.cat([part.labels for part in batches(rows, size)]), rows.labels)


def test_a_generator_gives_another_order_each_time() -> None:
    rows, generator = pack(_documents([9] * 30), 9), torch.Generator().manual_seed(0)
    first, second = (torch.cat([part.document for part in batches(rows, 4, generator)]) for _ in range(2))
    assert not torch.equal(first, second)


def test_rows_move_between_devices() -> None:
    moved = pack(_documents([5, 3]), 8).to("meta")
    assert {tensor.device.type for tensor in vars(moved).values() if isinstance(tensor, Tensor)} == {"meta"}


def _model(noise: bool = False) -> PerturbedLM:
    generator = torch.Generator().manual_seed(5)
    toy = ToyTransformer(VOCABULARY, DIM, context=32, generator=generator, dtype=torch.float64)
    perturbation = Gaussian(DIM, scale=0.3) if noise else Identity(DIM)
    return PerturbedLM(toy, perturbation, plug_in, inference_draws=2)


def _predict(model: PerturbedLM, rows: Rows) -> Tensor:
    return model.log_probabilities(
        rows.input_ids, attention_mask=rows.attention_mask, segment_ids=rows.segment_ids
    )  # fmt: skip


@given(COUNTS, SHAPES)
def test_packed_rows_predict_what_separate_windows_do(counts, shape) -> None:
    model, documents = _model(), _random(counts)
    rows = pack(documents, shape[0], overlap=shape[1])
    packed = _predict(model, rows)
    for row, segment in {(row, int(rows.segment_ids[row, t])) for row, t in rows.attention_mask.nonzero().tolist()}:
        held = rows.segment_ids[row] == segment
        alone = model.log_probabilities(rows.input_ids[row, held][None])[0]
        torch.testing.assert_close(packed[row, held], alone, rtol=0, atol=1e-10)


@given(st.lists(st.integers(2, 12), min_size=2, max_size=8), st.integers(12, 30))
def test_documents_have_the_loss_they_have_alone(counts, length) -> None:
    model, documents = _model(), _random(counts)
    rows = pack(documents, length)
    found = rows.by_document(token_log_probabilities(_predict(model, rows), rows.labels))
    alone = [model.log_probabilities(one.ids[None])[0, :-1].gather(1, one.ids[1:, None]).sum() for one in documents]
    torch.testing.assert_close(found, torch.stack(alone), rtol=0, atol=1e-9)
    loss = model.loss(
        rows.input_ids, rows.labels, attention_mask=rows.attention_mask, segment_ids=rows.segment_ids, total=1.0
    )
    torch.testing.assert_close(loss, -found.sum(), rtol=1e-9, atol=0)


@given(st.integers(0, 11), st.integers(1, VOCABULARY - 1))
def test_a_token_changes_nothing_in_another_document(place, change) -> None:
    model, documents = _model(noise=True), _random([12, 9, 7])
    rows = pack(documents, 28)
    row, held = 0, rows.segment_ids[0] == int(rows.segment_ids[0][rows.document[0] == 0][0])
    altered = rows.input_ids.clone()
    position = held.nonzero()[place]
    altered[row, position] = (altered[row, position] + change) % VOCABULARY
    z = torch.randn(2, *rows.input_ids.shape, DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    real = rows.attention_mask.bool()
    before, after = (model.hidden(ids, z, real, rows.segment_ids) for ids in (rows.input_ids, altered))
    assert torch.equal(before[:, row, ~held], after[:, row, ~held])
    assert not torch.isclose(before[:, row, position], after[:, row, position]).all()
    assert torch.equal(before[:, row, held][:, :place], after[:, row, held][:, :place])


def test_noise_is_that_of_separate_documents_given_its_latents() -> None:
    model, documents = _model(noise=True), _random([12, 9, 7])
    rows = pack(documents, 30)
    z = torch.randn(2, *rows.input_ids.shape, DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    packed = model.hidden(rows.input_ids, z, rows.attention_mask.bool(), rows.segment_ids)
    for index, document in enumerate(documents):
        held = rows.document[0] == index
        real = torch.ones(1, len(document.ids), dtype=torch.bool)
        alone = model.hidden(document.ids[None], z[:, :, held], real, None)
        torch.testing.assert_close(packed[:, :, held], alone, rtol=0, atol=1e-10)


def test_without_segments_the_leak_would_be_seen() -> None:
    model, rows = _model(), pack(_random([12, 9, 7]), 28)
    leaking = model.log_probabilities(rows.input_ids, attention_mask=rows.attention_mask)
    later = rows.segment_ids > 0
    assert float((leaking - _predict(model, rows))[later].abs().max()) > 1e-3


def test_what_cannot_be_packed_is_refused() -> None:
    documents = _documents([5, 4])
    with pytest.raises(DataError, match="no documents"):
        pack([], 8)
    with pytest.raises(DataError, match='called "d0"'):
        pack([*documents, documents[0]], 8)
    for length, overlap in ((1, 0), (8, 8), (8, -1)):
        with pytest.raises(ValueError, match=f"length is {length}, overlap {overlap}"):
            pack(documents, length, overlap=overlap)
    with pytest.raises(ValueError, match="size is 0"):
        batches(pack(documents, 8), 0)


def test_a_label_that_nothing_predicts_is_refused() -> None:
    log_p = torch.zeros(1, 3, 4)
    with pytest.raises(ValueError, match="position 0"):
        token_log_probabilities(log_p, torch.tensor([[1, 2, 3]]))
    with pytest.raises(ValueError, match="labels"):
        token_log_probabilities(log_p, torch.tensor([[1, 2]]))
