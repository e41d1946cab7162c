"""The chunked surrogate against the score it stands for, in value, gradient and memory order."""

import math

import pytest
import torch

from eeqs.llm import surrogate_sum
from eeqs.marginal import Draws, Score, antithetic, cross_fitted, iid, plug_in, quadratic, single_draw, two_sample

K, N, H, V = 4, 37, 5, 70
CASES = [
    (cross_fitted, iid(K)), (cross_fitted, antithetic(K)), (two_sample, iid(K, groups=2)), (quadratic, iid(K)),
    (quadratic, iid(K, groups=2)), (plug_in, iid(K)), (plug_in, antithetic(K)), (single_draw, iid(K)),
]  # fmt: skip


def _parts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(K, N, H, generator=generator, dtype=torch.float64)
    head = torch.randn(V, H, generator=generator, dtype=torch.float64)
    return hidden.requires_grad_(), head.requires_grad_(), torch.randint(V, (N,), generator=generator)


def _reference(hidden: torch.Tensor, head: torch.Tensor, y: torch.Tensor, score: Score, draws: Draws) -> torch.Tensor:
    """The score on whole log-probabilities, groups pooled by hand."""
    log_p = (hidden @ head.mT).log_softmax(-1)
    if score.pools:
        log_p = torch.stack([part.exp().mean(0).log() for part in log_p.split(draws.size)])
    return score.loss(log_p, log_p.detach(), y, log_p.new_full((len(log_p),), -math.log(len(log_p)))).sum()


@pytest.mark.parametrize("chunk", [1, 10, 37, 500])
@pytest.mark.parametrize(("score", "draws"), CASES, ids=lambda part: getattr(part, "name", str(part)))
def test_value_and_gradient_are_those_of_the_score(score: Score, draws: Draws, chunk: int) -> None:
    found, expected = [], []
    for total, gradients in ((surrogate_sum, found), (_reference, expected)):
        hidden, head, y = _parts()
        if total is surrogate_sum:
            value = surrogate_sum(lambda h, w=head: h @ w.mT, hidden, y, score, draws, chunk=chunk)
        else:
            value = _reference(hidden, head, y, score, draws)
        value.backward()
        gradients += [value.detach(), hidden.grad, head.grad]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_a_wrong_pooling_would_be_seen() -> None:
    hidden, head, y = _parts()
    pooled, plain = (
        surrogate_sum(lambda h: h @ head.mT, hidden, y, quadratic, draws).detach()
        for draws in (iid(K, groups=2), iid(K))
    )
    assert abs(pooled - plain) > 1e-6


def test_logits_of_one_chunk_exist_at_a_time() -> None:
    hidden, head, y = _parts()
    seen = []

    def logits(states: torch.Tensor) -> torch.Tensor:
        seen.append(states.shape[1])
        return states @ head.mT

    surrogate_sum(logits, hidden, y, plug_in, iid(K), chunk=10).backward()
    assert max(seen) == 10
    assert sum(seen) == 2 * N  # once forward, once again for the backward pass


@pytest.mark.parametrize(
    ("score", "draws", "chunk", "message"),
    [(cross_fitted, iid(1), 8, "needs 2 or more independent groups"), (plug_in, iid(K), 0, "chunk is 0")],
    ids=["draws", "chunk"],
)
def test_what_cannot_be_computed_is_refused(score: Score, draws: Draws, chunk: int, message: str) -> None:
    hidden, head, y = _parts()
    with pytest.raises(ValueError, match=message):
        surrogate_sum(lambda h: h @ head.mT, hidden, y, score, draws, chunk=chunk)
