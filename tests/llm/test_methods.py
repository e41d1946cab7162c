"""Contract of every training method: a file in eeqs/llm/methods needs a row here."""

from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eeqs.llm import ToyTransformer, methods
from eeqs.llm.backend import Backend
from eeqs.llm.corpus import Document
from eeqs.llm.language_model import LanguageModel
from eeqs.llm.methods import (
    Method,
    contextual,
    diagonal,
    eda,
    fixed_gaussian,
    flow,
    hull,
    in_sample,
    isotropic,
    low_rank,
    neftune,
    plain,
    semantic_neighbour,
    split_sample,
    taia,
    token_dropout,
)
from eeqs.llm.methods.method import PERTURBATION, THETA, equations_of_one_sample
from eeqs.marginal import Gaussian, Identity, cross_fitted, plug_in, single_draw

V, D, T, STEPS = 128, 8, 24, 3
SUPPORT = {"__init__", "attention", "exact_prefix", "live_table", "method", "perturbations", "sentences"}
TEXTS = ("The big dog saw a cat.", "A cat saw the sun. Good!", "Big dogs bark at night.", "We saw no big dog here.")
DOCUMENTS = tuple(Document(f"d{i}", text) for i, text in enumerate(TEXTS))
SYNONYMS = {"big": ["large"], "dog": ["hound"], "saw": ["spied"], "sun": ["star"], "good": ["fine"]}


@dataclass(frozen=True)
class Row:
    make: Callable[[], Method]
    silent: Callable[[], Method] | None = None  # a setting without noise, where there is one: plain training
    file: str = ""


LEARNED = {"diagonal": diagonal, "contextual": contextual, "low_rank": low_rank, "hull": hull, "flow": flow}
ROWS = {
    "plain": Row(plain, plain),
    "fixed_gaussian": Row(lambda: fixed_gaussian(0.3), lambda: fixed_gaussian(0.0)),
    "neftune": Row(lambda: neftune(5.0, length=T), lambda: neftune(0.0, length=T)),
    "token_dropout": Row(lambda: token_dropout(0.3), lambda: token_dropout(0.0)),
    "semantic_neighbour": Row(
        lambda: semantic_neighbour(0.3, inference_draws=4), lambda: semantic_neighbour(0.0, inference_draws=1)
    ),
    "eda": Row(lambda: eda(SYNONYMS, copies=1), lambda: _only_originals(eda(SYNONYMS, alpha=0.0, copies=1))),
    "taia": Row(taia),
    "learned": Row(lambda: in_sample("single_draw", isotropic(0.3), single_draw, 1, inference_draws=4)),
}  # fmt: skip
for family, builder in LEARNED.items():
    for score in (plug_in, cross_fitted):
        ROWS[f"{family}, {score.name}, in-sample"] = Row(
            lambda builder=builder, score=score: in_sample("in", builder(0.2), score, inference_draws=4), file="learned"
        )
        ROWS[f"{family}, {score.name}, split"] = Row(
            lambda builder=builder, score=score: split_sample("split", builder(0.2), phi_score=score), file="learned"
        )


def _only_originals(method: Method) -> Method:
    """Copies that equal the originals, left out again, for they would change the batches."""
    rewrite = method.rewrite
    assert rewrite is not None

    def originals(documents: Sequence[Document], rng: np.random.Generator) -> list[Document]:
        rewritten = rewrite(documents, rng)
        assert [d.text for d in rewritten] == [d.text for d in documents for _ in range(2)]
        return list(rewritten[::2])

    return replace(method, rewrite=originals)


def _batch(documents: Sequence[Document]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens, the bytes of the text, and which are not padding."""
    ids = torch.zeros(len(documents), T, dtype=torch.long)
    real = torch.zeros_like(ids)
    for row, document in enumerate(documents):
        held = torch.tensor(list(document.text.encode()[:T])) % V
        ids[row, : len(held)], real[row, : len(held)] = held, 1
    return ids, real


@dataclass
class Trained:
    initial: dict[str, torch.Tensor]
    final: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]  # sums of absolute values, over steps
    log_p: torch.Tensor


def train(method: Method, seed: int = 0) -> Trained:
    """A few steps of stochastic gradient on every equation, and a prediction."""
    backend: Backend = ToyTransformer(V, D, context=T, generator=torch.Generator().manual_seed(seed))
    model = method.model(backend, seed).train()
    parameters = dict(model.named_parameters())
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    sums: dict[str, torch.Tensor] = {}
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        for equation in method.equations:
            documents = DOCUMENTS[equation.fold :: method.n_folds]
            ids, real = _batch(method.rewrite(documents, rng) if method.rewrite else documents)
            loss = model.loss(ids, ids, attention_mask=real, score=equation.score, draws=equation.draws)
            names, rates = [], []
            for prefix, rate in equation.rates.items():
                block = [name for name in parameters if name.startswith(prefix)]
                assert block, f'the equation "{equation.name}" names "{prefix}", which has no parameters'
                names += block
                rates += [rate] * len(block)
            found = torch.autograd.grad(loss, [parameters[name] for name in names], materialize_grads=True)
            for name, rate, gradient in zip(names, rates, found, strict=True):
                sums[name] = sums.get(name, torch.zeros(())) + gradient.abs()
                parameters[name].data.sub_(0.05 * rate * gradient)
    predictor = method.predictor(model.eval(), initial)
    assert isinstance(predictor, LanguageModel)
    log_p = predictor.log_probabilities(_batch(DOCUMENTS)[0])
    return Trained(initial, {n: v.clone() for n, v in model.state_dict().items()}, sums, log_p)


def check_method(method: Method) -> Trained:
    trained = train(method)
    named = {prefix for equation in method.equations for prefix in equation.rates}
    for name, gradient in trained.gradients.items():
        assert gradient.isfinite().all(), f"gradient of {name}"
    for prefix in (THETA, PERTURBATION):
        moved = [n for n, v in trained.final.items() if n.startswith(prefix) and not v.equal(trained.initial[n])]
        assert bool(moved) == (prefix in named), f"{prefix} moved: {moved}; equations name {named}"
    assert trained.log_p.shape == (len(DOCUMENTS), T, V)
    total = trained.log_p.logsumexp(dim=-1)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-5)
    again = train(method)
    assert all(value.equal(again.final[name]) for name, value in trained.final.items()), "not a function of the seed"
    assert trained.log_p.equal(again.log_p), "prediction is not a function of the seed"
    assert not train(method, seed=1).log_p.equal(trained.log_p)
    return trained


def test_every_file_has_a_row_and_every_row_a_file():
    files = {path.stem for path in Path(methods.__file__).parent.glob("*.py")} - SUPPORT
    assert files == {row.file or name for name, row in ROWS.items()}


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_contract(row: Row):
    method = row.make()
    check_method(method)
    assert method.summary
    assert "\n" not in method.summary
    with pytest.raises(FrozenInstanceError):
        method.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.silent])
def test_without_noise_it_is_plain_training(name: str):
    silent, reference = train(ROWS[name].silent()), train(plain())
    for parameter, value in reference.final.items():
        if parameter.startswith(THETA):
            torch.testing.assert_close(silent.final[parameter], value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(silent.log_p, reference.log_p, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.silent and name != "plain"])
def test_its_noise_makes_a_difference(name: str):
    assert (train(ROWS[name].make()).log_p - train(plain()).log_p).abs().max() > 1e-4


class _Global(Gaussian):
    def forward(self, prefix, z):
        return super().forward(prefix, z + torch.randn(z.shape))


class _Broken(Gaussian):
    def forward(self, prefix, z):
        return super().forward(prefix, z) / (z[..., :1] < torch.inf).logical_not()


class _Drifting(Gaussian):
    def forward(self, prefix, z):
        self.log_scale.data.add_(0.01)
        return super().forward(prefix, z)


class _Shifted:
    vocab_size = V

    def __init__(self, model):
        self.model = model

    def log_probabilities(self, input_ids, *, attention_mask=None, segment_ids=None, step=0):  # noqa: ARG002
        return self.model.log_probabilities(input_ids) + 0.01


def _drifting(backend: Backend, _: torch.Generator) -> _Drifting:
    return _Drifting(backend.dim, -1.0)


def _planted(**changes) -> Method:
    equations = equations_of_one_sample(phi_rate=1.0)
    method = Method("planted", "an error", lambda backend, _: Gaussian(backend.dim, -1.0), equations)
    return replace(method, **changes)


def test_without_the_error_it_passes():
    check_method(_planted())


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (_planted(perturbation=lambda backend, _: Identity(backend.dim)), "has no parameters"),
        (_planted(perturbation=lambda backend, _: _Global(backend.dim, -1.0)), "not a function of the seed"),
        (_planted(perturbation=lambda backend, _: _Broken(backend.dim, -1.0)), "gradient of"),
        (_planted(predictor=lambda model, _: _Shifted(model)), "not close"),
        (_planted(predictor=lambda model, _: model.backend), "LanguageModel"),
        (_planted(perturbation=_drifting, equations=plain().equations), "perturbation. moved"),
    ],
    ids=["block", "random numbers", "finite", "normalised", "predictor", "declared"],
)
def test_planted_errors_are_caught(method: Method, complaint: str):
    with pytest.raises(AssertionError, match=complaint):
        check_method(method)
