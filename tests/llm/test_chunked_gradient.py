"""The gradient of the surrogate that comes with its value, where the weights of the head are named."""

import pytest
import torch

from eeqs.llm import PerturbedLM, ToyTransformer, surrogate_sum
from eeqs.llm import perturbed as module
from eeqs.marginal import Gaussian, cross_fitted, iid, plug_in, single_draw

K, N, H, V = 4, 37, 5, 70


def _parts(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(K, N, H, generator=generator, dtype=torch.float64)
    head = torch.randn(V, H, generator=generator, dtype=torch.float64)
    y = torch.randint(V, (N,), generator=generator)
    return hidden.to(dtype).requires_grad_(), head.to(dtype).requires_grad_(), y


@pytest.mark.parametrize("frozen", ["none", "hidden", "head"])
@pytest.mark.parametrize("score", [cross_fitted, plug_in, single_draw], ids=lambda score: score.name)
def test_the_gradient_is_that_of_autograd(score, frozen: str) -> None:
    found = []
    for named in (True, False):
        hidden, head, y = _parts()
        hidden.requires_grad_(frozen != "hidden")
        head.requires_grad_(frozen != "head")
        weights = (head,) if named else None
        value = 3 * surrogate_sum(lambda h, w=head: h @ w.mT, hidden, y, score, iid(K), chunk=10, weights=weights)
        value.backward()
        found.append((value.detach(), *(t.grad for t in (hidden, head) if t.requires_grad)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_logits_are_computed_once() -> None:
    hidden, head, y = _parts()
    seen = []

    def logits(states: torch.Tensor) -> torch.Tensor:
        seen.append(states.shape[1])
        return states @ head.mT

    surrogate_sum(logits, hidden, y, plug_in, iid(K), chunk=10, weights=(head,)).backward()
    assert seen == [10, 10, 10, 7]


def test_sums_over_chunks_are_not_taken_in_half_precision() -> None:
    """Each of the 37 chunks rounds its term to 8 digits; a sum in bfloat16 would round at every addition too."""
    hidden, head, y = _parts(torch.bfloat16)
    surrogate_sum(lambda h: h @ head.mT, hidden, y, plug_in, iid(K), chunk=1, weights=(head,)).backward()
    assert head.grad is not None
    assert head.grad.dtype == torch.bfloat16
    exact, weight, y = _parts()
    surrogate_sum(lambda h: h @ weight.mT, exact, y, plug_in, iid(K), chunk=N).backward()
    assert weight.grad is not None
    assert float((head.grad - weight.grad).norm() / weight.grad.norm()) < 0.006


def test_the_gradient_is_used_once_and_has_no_derivative() -> None:
    hidden, head, y = _parts()
    value = surrogate_sum(lambda h: h @ head.mT, hidden, y, plug_in, iid(K), chunk=10, weights=(head,))
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="was used already"):
        value.backward()


def _model(**options: object) -> PerturbedLM:
    toy = ToyTransformer(23, 8, context=32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return PerturbedLM(toy, Gaussian(8, log_scale=-0.5), **options)


def test_draws_in_several_passes_are_those_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.randint(23, (3, 9), generator=torch.Generator().manual_seed(1))
    together, apart = _model(draws=5), _model(draws=5)
    one = together.loss(ids, ids)
    monkeypatch.setattr(module, "_PASS", 60)
    other = apart.loss(ids, ids)
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(one, list(together.parameters())),
        torch.autograd.grad(other, list(apart.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_tokens_the_model_does_not_have_are_named() -> None:
    ids = torch.randint(23, (3, 9), generator=torch.Generator().manual_seed(1))
    ids[1, 2] = 23
    for call in (lambda: _model().loss(ids, ids), lambda: _model().log_probabilities(ids)):
        with pytest.raises(ValueError, match=r"input_ids contain token 23, and the model has tokens 0\.\.22"):
            call()
    with pytest.raises(ValueError, match="labels contain token 23"):
        _model().loss(ids.clamp(max=22), ids)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_conversion_leaves_the_perturbation_in_single_precision_or_better(dtype: torch.dtype) -> None:
    model = _model()
    exact = model.perturbation.log_scale.detach().clone()
    model.to(dtype)
    assert model.backend.tokens.weight.dtype == dtype
    kept = model.perturbation.log_scale
    assert kept.dtype == (torch.float64 if dtype.itemsize < 4 else dtype)
    assert torch.equal(kept.detach().double(), exact.double())
    assert [name for name, _ in model.named_children()] == ["backend", "perturbation"]
