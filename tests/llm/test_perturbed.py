"""The perturbed language model against its definition, computed the long way."""

import math

import pytest
import torch

from eeqs.llm import PerturbedLM, ToyTransformer, row_latents
from eeqs.marginal import Contextual, Gaussian, Identity, cross_fitted, iid, plug_in, quadratic, single_draw

V, D, B, T = 23, 8, 3, 9


def _toy() -> ToyTransformer:
    return ToyTransformer(V, D, context=32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _model(perturbation: torch.nn.Module | None = None, **options: object) -> PerturbedLM:
    return PerturbedLM(_toy(), perturbation or Gaussian(D, log_scale=-0.5), **options)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))


def _log_p(model: PerturbedLM, ids: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (K, B, T, V), one draw and one row at a time."""
    toy = model.backend
    rows = [
        toy.logits(toy.hidden(model.perturbation(toy.embed(ids[b : b + 1]), z[k, b : b + 1])))[0].log_softmax(-1)
        for k in range(len(z))
        for b in range(len(ids))
    ]
    return torch.stack(rows).unflatten(0, (len(z), len(ids)))


@pytest.mark.parametrize("score", [cross_fitted, quadratic, plug_in, single_draw], ids=lambda score: score.name)
def test_the_loss_is_the_score_of_every_predicted_token(score, ids: torch.Tensor) -> None:
    model = _model(score=score, draws=4, seed=5).eval()
    z = row_latents(
        ids, torch.ones_like(ids, dtype=torch.bool), iid(4), D, Gaussian(D).latent_law, seed=5, step=0,
        dtype=torch.float64,
    )  # fmt: skip
    log_p = _log_p(model, ids, z)[:, :, :-1].flatten(1, 2)
    weight = torch.full((4,), -math.log(4), dtype=torch.float64)
    expected = score.loss(log_p, log_p.detach(), ids[:, 1:].flatten(), weight).mean()
    found = model.loss(ids, ids)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    (one,), (other,) = (torch.autograd.grad(value, [model.perturbation.log_scale]) for value in (found, expected))
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_prediction_is_the_mixture_mean_and_not_the_mean_of_logits(ids: torch.Tensor) -> None:
    model = _model().eval()
    z = row_latents(
        ids, torch.ones_like(ids, dtype=torch.bool), iid(6), D, Gaussian(D).latent_law, seed=0, step=2**40,
        dtype=torch.float64,
    )  # fmt: skip
    log_p = _log_p(model, ids, z)
    found = model.log_probabilities(ids, draws=6)
    torch.testing.assert_close(found, log_p.exp().mean(0).log(), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(B, T, dtype=torch.float64))
    assert (found - log_p.mean(0)).abs().max() > 1e-3


def test_no_noise_is_the_plain_model(ids: torch.Tensor) -> None:
    model = _model(Identity(D), score=single_draw, draws=1)
    toy = model.backend
    log_p = toy.logits(toy.hidden(toy.embed(ids))).log_softmax(-1)
    plain = torch.nn.functional.nll_loss(log_p[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(model.loss(ids, ids), plain)
    torch.testing.assert_close(model.log_probabilities(ids), log_p)


def test_every_training_batch_has_draws_of_its_own_and_they_resume(ids: torch.Tensor) -> None:
    model = _model()
    first, second = model.loss(ids, ids).detach(), model.loss(ids, ids).detach()
    assert first != second
    state = {name: value.clone() for name, value in model.state_dict().items()}
    third = model.loss(ids, ids).detach()
    again = _model()
    again.load_state_dict(state)
    assert torch.equal(again.loss(ids, ids).detach(), third)
    still = model.eval().loss(ids, ids).detach()
    assert torch.equal(still, model.loss(ids, ids).detach())


def test_a_batch_split_in_two_has_the_loss_of_the_whole(ids: torch.Tensor) -> None:
    whole = _model().loss(ids, ids, total=1.0)
    parts = [_model().loss(part, part, total=1.0) for part in (ids[:1], ids[1:])]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("left", [False, True])
def test_padding_changes_nothing(left: bool, ids: torch.Tensor) -> None:
    pad, ones = torch.full((B, 4), 2), torch.ones(B, T)
    parts, masks = [ids, pad], [ones, torch.zeros(B, 4)]
    order = slice(None, None, -1) if left else slice(None)
    padded, mask = torch.cat(parts[order], 1), torch.cat(masks[order], 1)
    torch.testing.assert_close(_model().loss(padded, padded, attention_mask=mask), _model().loss(ids, ids))
    found = _model().log_probabilities(padded, attention_mask=mask)
    kept = found[:, 4:] if left else found[:, :T]
    torch.testing.assert_close(kept, _model().log_probabilities(ids))


def test_documents_in_one_row_do_not_see_each_other(ids: torch.Tensor) -> None:
    model = _model()
    row, segments = ids.flatten()[None], torch.arange(B).repeat_interleave(T)[None]
    found = model.log_probabilities(row, segment_ids=segments, draws=1)
    torch.testing.assert_close(found[0].unflatten(0, (B, T)), model.log_probabilities(ids, draws=1))
    torch.testing.assert_close(
        _model().loss(row, row, segment_ids=segments, total=1.0), _model().loss(ids, ids, total=1.0)
    )


def test_labels_that_are_ignored_are_not_predicted(ids: torch.Tensor) -> None:
    labels = ids.clone()
    labels[:, :5] = -100
    model = _model(Gaussian(D, log_scale=-50.0), score=single_draw)
    log_p = model.log_probabilities(ids, draws=1)
    expected = -log_p[:, 4:-1].gather(-1, ids[:, 5:, None]).mean()
    torch.testing.assert_close(model.loss(ids, labels).detach(), expected, rtol=1e-6, atol=1e-9)


def test_positions_depend_on_the_past_only(ids: torch.Tensor) -> None:
    model = _model(Contextual(D, generator=torch.Generator().manual_seed(0), sequence=True, log_scale=-50.0))
    changed = ids.clone()
    changed[:, 6] = (changed[:, 6] + 1) % V
    before, after = (model.log_probabilities(x, draws=1) for x in (ids, changed))
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert (before[:, 6:] - after[:, 6:]).abs().max() > 1e-6


def test_bad_input_is_named(ids: torch.Tensor) -> None:
    model = _model()
    for call, error, message in (
        (lambda: _model(Gaussian(5)), ValueError, "the embeddings have dimension 8, the perturbation 5"),
        (lambda: PerturbedLM(torch.nn.Linear(2, 2), Gaussian(2)), TypeError, "backend is a Linear"),
        (lambda: _model(draws=1), ValueError, "needs 2 or more independent groups"),
        (lambda: _model(chunk=0), ValueError, "chunk 0"),
        (lambda: model.loss(ids.double(), ids), ValueError, "pass integers"),
        (lambda: model.loss(ids, ids[:, 1:]), ValueError, "labels have shape"),
        (lambda: model.loss(ids, ids, attention_mask=torch.ones(B, 2)), ValueError, "attention_mask has shape"),
        (lambda: model.loss(ids[:, :1], ids[:, :1]), ValueError, "no token is predicted"),
        (lambda: model.loss(ids, torch.full_like(ids, -100)), ValueError, "no token is predicted"),
    ):
        with pytest.raises(error, match=message):
            call()
    reading = _model(Contextual(D, generator=torch.Generator().manual_seed(0), sequence=True))
    reading.loss(ids, ids, segment_ids=torch.zeros_like(ids))
    two = (torch.arange(ids.shape[1]) > 3).long().expand_as(ids)
    left_padded = torch.cat([torch.zeros(len(ids), 1), torch.ones(len(ids), ids.shape[1] - 1)], dim=1)
    for place in ({"segment_ids": two}, {"attention_mask": left_padded}):
        with pytest.raises(ValueError, match="reads all earlier positions, also padding and those of other documents"):
            reading.loss(ids, ids, **place)
