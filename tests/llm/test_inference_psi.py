"""The estimating function of phi against its definition, and the stream it reads."""

import math

import numpy as np
import pytest
import torch
from inference_text import DESIGN, documents, packed

import eeqs
from eeqs.llm import PerturbedLM
from eeqs.llm.inference import document_stream, perturbation_psi, sample_text
from eeqs.llm.inference.derivatives import twice_differentiable
from eeqs.llm.inference.psi import frozen_copy, read_text, token_values
from eeqs.llm.packing import pack
from eeqs.llm.perturbed import IGNORED
from eeqs.llm.tokens import TokenisedDocument
from eeqs.marginal import (
    Gaussian,
    Identity,
    LogLinear,
    antithetic,
    cross_fitted,
    exact,
    iid,
    plug_in,
    quadratic,
    single_draw,
    sobol,
    two_sample,
)

SCORES = [(cross_fitted, iid(4)), (quadratic, iid(3)), (plug_in, iid(4)), (single_draw, iid(4)),
          (two_sample, sobol(8, groups=2)), (cross_fitted, antithetic(8, groups=4))]  # fmt: skip


def diagonal(*log_scale: float) -> PerturbedLM:
    return PerturbedLM(DESIGN.model().backend, Gaussian(8, log_scale=log_scale or [-0.3, 0.1] * 4)).eval()


def batch(model: PerturbedLM, draws: object = None, n: int = 7) -> dict[str, torch.Tensor]:
    columns = next(document_stream(packed(n), model.perturbation, draws or model.draws)())
    return {name: columns[name] for name in ("input_ids", "labels", "z")}


def the_long_way(model: PerturbedLM, score: object, draws: object, data: dict[str, torch.Tensor]) -> torch.Tensor:
    """One window at a time, one draw at a time, by backward passes through a detached frozen copy."""
    rows = []
    for ids, labels, z in zip(data["input_ids"], data["labels"], data["z"], strict=True):
        embedded = model.backend.embed(ids[None])
        hidden = [model.backend.hidden(model.perturbation(embedded, one[None]), None, None)[0] for one in z]
        log_p = torch.stack([model.backend.logits(state).log_softmax(dim=-1) for state in hidden])[:, :-1]
        kept = labels[1:] != IGNORED
        log_p = log_p[:, kept]
        if score.pools and draws.size > 1:
            log_p = log_p.unflatten(0, (draws.groups, draws.size)).exp().mean(dim=1).log()
        weight = torch.full((len(log_p),), -math.log(len(log_p)), dtype=torch.float64)
        loss = score.loss(log_p, log_p.detach(), labels[1:][kept].long(), weight).sum()
        gradients = torch.autograd.grad(loss, list(model.perturbation.parameters()))
        rows.append(-torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows)


@pytest.mark.parametrize(("score", "draws"), SCORES, ids=lambda part: getattr(part, "name", ""))
def test_a_row_is_the_gradient_of_the_surrogate_of_its_window(score, draws) -> None:
    model = diagonal()
    data = batch(model, draws)
    psi = perturbation_psi(model, score, draws)
    found = psi(psi.start((data["z"],)), data)
    torch.testing.assert_close(found, the_long_way(model, score, draws, data), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("score", "draws"), SCORES[:4], ids=lambda part: getattr(part, "name", ""))
def test_the_bread_differentiates_both_copies(score, draws) -> None:
    model = diagonal()
    data = batch(model, draws)
    psi = perturbation_psi(model, score, draws)
    theta = psi.start((data["z"],))
    bread = eeqs.bread(psi, theta, data)
    steps = 1e-5 * torch.eye(len(theta), dtype=theta.dtype)
    means = [(psi(theta + step, data) - psi(theta - step, data)).mean(dim=0) / 2e-5 for step in steps]
    torch.testing.assert_close(bread, torch.stack(means, dim=1), rtol=1e-5, atol=1e-6)


def test_a_detached_frozen_copy_would_give_another_bread() -> None:
    """Planted: autograd through a surrogate with detach() gives psi, and then not its derivative."""
    model = diagonal(*[0.0] * 8)
    one = {name: leaf[:1] for name, leaf in batch(model).items()}
    log_scale = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    kept = one["labels"][0, 1:] != IGNORED
    weight = torch.full((4,), -math.log(4), dtype=torch.float64)
    with twice_differentiable():
        moved = model.backend.embed(one["input_ids"]) + log_scale.exp() * one["z"][0]
        log_p = model.backend.logits(model.backend.hidden(moved, None, None)).log_softmax(dim=-1)[:, :-1][:, kept]
        loss = cross_fitted.loss(log_p, log_p.detach(), one["labels"][0, 1:][kept], weight).sum()
        (gradient,) = torch.autograd.grad(loss, log_scale, create_graph=True)
        detached = torch.stack([-torch.autograd.grad(g, log_scale, retain_graph=True)[0] for g in gradient])
    psi = perturbation_psi(model)
    theta = psi.start((one["z"],))
    torch.testing.assert_close(-gradient.detach(), psi(theta, one)[0], rtol=1e-8, atol=1e-10)
    bread = eeqs.bread(psi, theta, one)
    assert float((detached - bread).abs().max()) > 0.05 * float(bread.abs().max())


def test_tokens_sum_to_windows() -> None:
    model = diagonal()
    data = batch(model)
    psi = perturbation_psi(model)
    theta = psi.start((data["z"],))
    fixed = frozen_copy(model)
    text = read_text(fixed, 4, {name: leaf.double() for name, leaf in data.items()})
    tokens = token_values(fixed, cross_fitted, iid(4), theta, text)
    counts = (data["labels"] != IGNORED).sum(dim=1).tolist()
    sums = torch.stack([part.sum(dim=0) for part in tokens.split(counts)])
    torch.testing.assert_close(sums, psi(theta, data), rtol=1e-8, atol=1e-10)


def test_second_derivatives_of_a_layer_norm_in_forward_mode() -> None:
    """Fused, PyTorch gets this wrong without a word; the context does not. Second differences are the reference."""
    draw = torch.Generator().manual_seed(0)
    x, z, w, b = (torch.randn(3, 8, generator=draw, dtype=torch.float64) for _ in range(4))
    zero, one, step = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64), 1e-4

    def normed(s: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.layer_norm(x + s * z, (8,), w[0], b[0], 1e-5)

    def slope(s: torch.Tensor) -> torch.Tensor:
        return torch.func.jvp(normed, (s,), (one,))[1]

    with twice_differentiable():
        found = torch.func.jvp(slope, (zero,), (one,))[1]
        value = normed(zero)
    torch.testing.assert_close(value, normed(zero), rtol=1e-12, atol=1e-12)
    second = (normed(zero + step) - 2 * normed(zero) + normed(zero - step)) / step**2
    torch.testing.assert_close(found, second, rtol=1e-5, atol=1e-5)


def test_chunks_change_nothing() -> None:
    data = batch(DESIGN.model())
    values = []
    for chunk in (3, 256):
        psi = perturbation_psi(PerturbedLM(DESIGN.model().backend, Gaussian(8), chunk=chunk))
        values.append(psi(torch.zeros(1, dtype=torch.float64), data))
    torch.testing.assert_close(*values, rtol=1e-10, atol=1e-12)


def test_names_are_those_of_the_parameters_and_the_model_is_copied() -> None:
    kernel = DESIGN.model().backend
    noise = LogLinear(8, depends_on=torch.eye(8, dtype=torch.bool))
    model = PerturbedLM(kernel.requires_grad_(True), noise)
    psi = perturbation_psi(model)
    assert psi.names[7:9] == ("bias[7]", "weight[0,0]")
    data = batch(model)
    before = psi(torch.zeros(16, dtype=torch.float64), data)
    with torch.no_grad():
        kernel.tokens.weight.zero_()
    assert torch.equal(psi(torch.zeros(16, dtype=torch.float64), data), before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: perturbation_psi(PerturbedLM(DESIGN.model().backend, Identity(8))), "no learnable parameter"),
        (lambda: perturbation_psi(DESIGN.model(), exact(4)), "needs quadrature or a real response"),
        (lambda: perturbation_psi(DESIGN.model(), draws=1), "2 or more independent groups"),
        (lambda: document_stream(packed(3), Gaussian(8), iid(4), batch_size=1000), "batch_size is 1000"),
        (lambda: sample_text(DESIGN.model(), torch.zeros(2, 5, dtype=torch.long), 5, torch.Generator()), "length is 5"),
    ],
)
def test_bad_calls_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: {**data, "z": data["z"][:, :2]}, "z .*pass .n, T. twice"),
        (lambda data: {**data, "input_ids": data["input_ids"] + 12}, "input_ids run from 12 .* has 12 tokens"),
        (lambda data: {**data, "labels": data["labels"].abs() * 0 + 50}, "labels run from 50"),
        (lambda data: {**data, "labels": data["labels"] * 0}, "a label stands at position 0"),
    ],
    ids=["draws", "vocabulary", "labels", "first"],
)
def test_text_that_does_not_fit_is_refused(change, message: str) -> None:
    data = batch(DESIGN.model())
    with pytest.raises(eeqs.DataError, match=message):
        perturbation_psi(DESIGN.model())(torch.zeros(1, dtype=torch.float64), change(data))


def _by_document(columns: list[dict]) -> dict[str, torch.Tensor]:
    """Latents of the tokens of every document that has one window."""
    found = {}
    for part in columns:
        for name, z, labels in zip(part["document"], part["z"], part["labels"], strict=True):
            found[name] = z[:, : 1 + int((labels != IGNORED).sum())]
    return found


def test_latents_of_a_document_do_not_depend_on_packing_batch_or_pass() -> None:
    noise = Gaussian(8)
    streams = [document_stream(packed(9, 24, several=several), noise, iid(4), batch_size=size)
               for several, size in ((True, 32), (False, 2), (False, 5))]  # fmt: skip
    first, *others = [_by_document(list(stream())) for stream in (*streams, streams[0])]
    for other in others:
        assert other.keys() == first.keys()
        for name, z in first.items():
            assert torch.equal(other[name], z)
    reseeded = _by_document(list(document_stream(packed(9, 24), noise, iid(4), seed=1)()))
    assert not torch.equal(reseeded["d0"], first["d0"])


def test_documents_of_one_text_have_latents_of_their_own() -> None:
    one = documents(1)[0]
    rows = pack([TokenisedDocument(name, one.ids, one.n_bytes) for name in ("a", "b")], 12)
    (columns,) = document_stream(rows, Gaussian(8), iid(4))()
    assert not torch.equal(columns["z"][0], columns["z"][1])


def test_a_long_document_comes_in_windows_under_one_name() -> None:
    rows = packed(6, 5, overlap=2)
    columns = list(document_stream(rows, Gaussian(8), iid(4), batch_size=4)())
    predicted = sum(int((part["labels"] != IGNORED).sum()) for part in columns)
    assert predicted == rows.n_predicted
    names = np.concatenate([part["document"] for part in columns])
    assert set(names) == set(rows.names)
    assert len(names) > len(rows.names)


def test_sampled_tokens_have_the_marginal_law() -> None:
    """Frequencies of the token after a given prefix, against the mixture mean over many draws: chi-square at 0.1 %."""
    model, n = DESIGN.model(), 20_000
    prefix = torch.tensor([[3, 7]])
    ids = sample_text(model, prefix.expand(n, -1), 3, torch.Generator().manual_seed(0))
    assert torch.equal(ids[:, :2], prefix.expand(n, -1))
    z = torch.randn(40_000, 2, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        moved = model.perturbation(model.backend.embed(prefix), z)
        law = model.backend.logits(model.backend.hidden(moved, None, None)[:, -1]).softmax(dim=-1)
    counts = torch.bincount(ids[:, 2], minlength=12).double()
    variance = n * law.mean(dim=0) + n**2 * law.var(dim=0) / len(law)
    statistic = float(((counts - n * law.mean(dim=0)).square() / variance).sum())
    assert statistic < 31.3  # chi-square with 11 degrees of freedom
