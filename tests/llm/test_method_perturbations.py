"""What the methods' perturbations do, against definitions written out."""

import copy
import itertools
import math

import pytest
import torch

from eeqs.llm import PerturbedLM, ToyTransformer
from eeqs.llm.methods import (
    contextual,
    diagonal,
    embedding_scale,
    flow,
    hull,
    isotropic,
    low_rank,
    neftune,
    plain,
    semantic_neighbour,
    token_dropout,
)
from eeqs.llm.methods.live_table import LiveTable
from eeqs.llm.methods.semantic_neighbour import NeighbourSwap
from eeqs.marginal import Gaussian
from eeqs.marginal.discrete import SemanticNeighbour, nearest

V, D, T = 40, 8, 12
BUILDERS = (isotropic, diagonal, contextual, low_rank, flow, hull)


def _toy(vocab_size: int = V, seed: int = 0, dim: int = D) -> ToyTransformer:
    return ToyTransformer(vocab_size, dim, context=T, generator=torch.Generator().manual_seed(seed))


def _ids(rows: int, vocab_size: int = V, length: int = T) -> torch.Tensor:
    return torch.randint(vocab_size, (rows, length), generator=torch.Generator().manual_seed(1))


def _displacement(model: PerturbedLM, ids: torch.Tensor, draws: int, seed: int = 2) -> torch.Tensor:
    """Perturbed minus original embeddings, (K, B, T, d)."""
    part = model.perturbation
    shape = (draws, *ids.shape, part.latent_dim)
    z = part.latent_law.sample(shape, torch.Generator().manual_seed(seed), torch.float64, torch.device("cpu"))
    e = model.backend.embed(ids).double()
    with torch.no_grad():
        return part(e, z) - e


def test_neftune_noise_has_the_published_size():
    alpha = 5.0
    moved = _displacement(neftune(alpha, length=T).model(_toy(), 0), _ids(8), 200)
    bound = alpha / math.sqrt(T * D)
    assert 0.999 * bound < moved.abs().max() <= bound
    # The norm over a sequence is alpha / sqrt(3) in the mean square; its relative standard error is sqrt(4/5 / n) / 2.
    size = moved.square().sum(dim=(-1, -2)).mean().sqrt()
    assert abs(size / (alpha / math.sqrt(3)) - 1) < 4 * math.sqrt(0.8 / moved.numel()) / 2


@pytest.mark.parametrize("method", [neftune(50.0, length=T), token_dropout(0.5)], ids=["neftune", "token_dropout"])
def test_prediction_is_on_the_exact_prefix_and_shares_the_weights(method):
    backend, ids = _toy(), _ids(3)
    model = method.model(backend, 0).eval()
    predictor = method.predictor(model, {})
    assert predictor.backend is backend
    assert not predictor.training
    torch.testing.assert_close(predictor.log_probabilities(ids), plain().model(backend, 0).log_probabilities(ids))
    assert (model.log_probabilities(ids) - predictor.log_probabilities(ids)).abs().max() > 0.01


def test_token_dropout_masks_whole_tokens_at_its_rate():
    rate, draws = 0.3, 500
    backend, ids = _toy(), _ids(8)
    moved = _displacement(token_dropout(rate).model(backend, 0), ids, draws)
    e = backend.embed(ids).double()
    masked = (moved == -e).all(dim=-1)
    assert (masked | (moved == 0).all(dim=-1)).all()
    assert abs(masked.double().mean() - rate) < 4 * math.sqrt(rate * (1 - rate) / masked.numel())


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_a_learned_perturbation_starts_at_the_stated_scale(builder):
    scale, backend = 0.15, _toy(seed=3)
    model = PerturbedLM(backend, builder(scale)(backend, torch.Generator().manual_seed(0)))
    moved = _displacement(model, _ids(30), 400)
    found = float(moved.square().mean().sqrt()) / embedding_scale(backend)
    assert found == pytest.approx(scale, rel=0.04)


def test_a_hull_too_small_for_its_scale_is_refused():
    with pytest.raises(ValueError, match="more neighbours"):
        hull(5.0, 3)(_toy(), torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="1 to 8"):
        low_rank(0.1, 9)(_toy(), torch.Generator())


def test_semantic_neighbours_follow_the_exact_law_and_its_mixture():
    """On 6 tokens and prefixes of 3, all 4**3 outcomes are summed; bounds at 4.5 standard errors, 36 comparisons."""
    small, length, draws = 6, 3, 2000
    backend = _toy(small, seed=5)
    method = semantic_neighbour(0.4, neighbours=3, temperature=0.3)
    model = method.model(backend, 7).eval()
    ids = torch.tensor([[4, 0, 2]])
    table = backend.tokens.weight.detach()
    scale = 0.3 * 2 * float((table.double() - table.double().mean(0)).square().sum(1).mean())
    law = SemanticNeighbour(nearest(table, 3), scale, 0.4).outcomes(ids[0].tolist())
    assert len(law) == 4**length
    outcomes = torch.tensor(list(law))
    weight = torch.tensor(list(law.values()), dtype=torch.float64)
    with torch.no_grad():
        p = backend.logits(backend.hidden(backend.embed(outcomes))).double().softmax(-1)
    mean = torch.einsum("o,otv->tv", weight, p)
    error = (torch.einsum("o,otv->tv", weight, p.square()) - mean.square()).div(draws).sqrt()
    found = model.log_probabilities(ids, draws=draws)[0].double().exp()
    assert ((found - mean).abs() < 4.5 * error + 1e-6).all()
    unperturbed = plain().model(backend, 0).log_probabilities(ids)[0].double().exp()
    assert ((unperturbed - mean).abs() > 4.5 * error).any(), "the law of the exact prefix would pass too"


def test_neighbours_are_found_and_swapped_in_the_current_embeddings():
    backend = _toy()
    model = semantic_neighbour(1.0, neighbours=1).model(backend, 0)
    ids = _ids(2)
    with torch.no_grad():
        backend.tokens.weight.copy_(torch.randn(V, D, generator=torch.Generator().manual_seed(8)))
    original = nearest(_toy().tokens.weight, 1).ids[:, 0]
    e = backend.embed(ids)
    moved = model.perturbation(e, torch.zeros(1, *ids.shape, 2))
    assert moved[0].equal(backend.embed(original[ids]))
    (gradient,) = torch.autograd.grad(moved.sum(), [backend.tokens.weight])
    assert gradient[original[ids]].ne(0).all()
    assert not any(key.endswith("table") and value.numel() for key, value in model.state_dict().items())


def test_copies_of_a_model_read_their_own_table():
    model = semantic_neighbour(1.0, neighbours=1).model(_toy(), 0)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model.backend.tokens.weight.zero_()
    ids = _ids(1)
    e = twin.backend.embed(ids)
    assert twin.perturbation(e, torch.zeros(*ids.shape, 2)).abs().sum() > 0


def test_a_token_is_recognised_among_near_duplicates():
    table = torch.randn(300, 16, generator=torch.Generator().manual_seed(0)) + 30
    table[1] = table[0] + 1e-4  # the expanded square cannot tell them apart in float32
    swap = NeighbourSwap(table, nearest(table, 2), 1.0, 0.5)
    assert swap.token(table).tolist() == list(range(300))


def test_rate_zero_is_the_identity_also_at_the_ends_of_the_latent():
    table = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    still, swap = (NeighbourSwap(table, nearest(table, 3), 0.5, rate) for rate in (0.0, 1.0))
    for z in itertools.product((-1.0, 0.0, 1.0), repeat=2):
        assert still(table, torch.tensor(z)).equal(table)
    for last in (-1.0, 1.0):
        assert swap(table, torch.tensor([0.0, last])).isfinite().all()


def test_bad_input():
    table = torch.randn(9, 3)
    with pytest.raises(ValueError, match="temperature is 0"):
        NeighbourSwap(table, nearest(table, 2), 0.0, 0.5)
    with pytest.raises(ValueError, match="they agree"):
        NeighbourSwap(table[:8], nearest(table, 2), 1.0, 0.5)
    with pytest.raises(ValueError, match="rate"):
        semantic_neighbour(1.5).model(_toy(), 0)
    with pytest.raises(TypeError, match='no buffer "table"'):
        LiveTable(Gaussian(D), _toy())
