"""Training runs: batches, steps, early stopping, and going on."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eeqs.llm import ToyTransformer
from eeqs.llm.byte_tokenizer import ByteTokenizer
from eeqs.llm.corpus import Document
from eeqs.llm.methods import fixed_gaussian, in_sample, plain, split_sample
from eeqs.llm.methods.fixed_gaussian import gaussian
from eeqs.llm.methods.method import Method
from eeqs.llm.packing import IGNORED, Rows, pack
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.tokens import TokenisedDocument, tokenise
from eeqs.llm.training import (
    Run,
    Settings,
    Solver,
    Stream,
    Term,
    TrainingText,
    training_run,
)
from eeqs.marginal.scores import cross_fitted, plug_in

WORDS = ("sun", "moon", "sea", "sand", "wind", "rain", "tree", "leaf")


def documents(n: int, seed: int) -> list[Document]:
    rng = np.random.default_rng(seed)
    return [Document(f"{seed}:{i}", " ".join(rng.choice(WORDS, rng.integers(3, 9)))) for i in range(n)]


def encode(found: list[Document]) -> list[TokenisedDocument]:
    return list(tokenise(found, ByteTokenizer(), bos=256))


TEXT = TrainingText(documents(24, 0), encode, 24)  # type: ignore[arg-type]
VALIDATION = pack(encode(documents(6, 1)), 24)
SPLIT = split_sample("split", lambda backend, _: gaussian(backend, 0.2), phi_draws=2, phi_rate=3.0)
SETTINGS = Settings(batch_rows=4, learning_rate=3e-3, warmup=2, validate_every=4, checkpoint_every=5, seed=3)


def backend(seed: int = 0) -> ToyTransformer:
    return ToyTransformer(257, 8, 1, 2, 24, generator=torch.Generator().manual_seed(seed))


def make(
    method: Method = SPLIT, settings: Settings = SETTINGS, directory: Path | None = None
) -> tuple[PerturbedLM, Run]:
    model = method.model(backend(), 0)
    return model, training_run(model, method, TEXT, VALIDATION, settings, directory)


def numbered(count: int) -> Rows:
    ids = torch.arange(count)[:, None].repeat(1, 3)
    names = tuple(map(str, range(count)))
    return Rows(ids, ids, torch.zeros_like(ids), torch.ones_like(ids), ids, names, torch.full((count,), 2))


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 5), st.integers(0, 8))
def test_every_epoch_has_every_row_once_and_a_place_is_all_there_is(count: int, size: int, seed: int, cut: int) -> None:
    stream = Stream(lambda _: numbered(count), size, seed)
    taken = []
    for step in range(2 * count + cut):
        if step == cut:
            resumed = Stream(lambda _: numbered(count), size, seed)
            resumed.place = stream.place
        batch = next(stream)["input_ids"][:, 0]
        assert len(batch) == size
        if step >= cut:
            assert torch.equal(batch, next(resumed)["input_ids"][:, 0])
        taken += batch.tolist()
    for start in range(0, len(taken) - count + 1, count):
        assert sorted(taken[start : start + count]) == list(range(count))


def test_the_rate_rises_and_falls() -> None:
    constant, cosine = Settings(warmup=9), Settings(warmup=9, decay_updates=109)
    assert constant.rate(1) == pytest.approx(0.1)
    assert constant.rate(10) == constant.rate(10**6) == 1.0
    assert cosine.rate(59) == pytest.approx(0.5)
    assert cosine.rate(109) == cosine.rate(200) == pytest.approx(0.0)


@pytest.mark.parametrize("wrong", [{"batch_rows": 0}, {"learning_rate": -1.0}, {"clip": math.inf}, {"warmup": -1}])
def test_a_setting_out_of_range_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]


def test_training_lowers_the_validation_and_leaves_the_best_weights() -> None:
    model, run = make(plain(), replace(SETTINGS, learning_rate=1e-2))
    outcome = run.advance(60)
    judged = [record for record in run.metrics.records if "validation" in record]
    assert outcome.best == min(record["validation"] for record in judged) < 0.6 * float(judged[0]["validation"])
    assert outcome.passes == 60
    again, other = make(plain(), replace(SETTINGS, learning_rate=1e-2))
    other.advance(outcome.best_update)
    assert_same(model, again)


def test_a_step_of_an_equation_moves_its_own_block_only() -> None:
    model = SPLIT.model(backend(), 0)
    solvers = {e.name: _solver(model, e.name) for e in SPLIT.equations}
    for name, block in (("theta", "backend."), ("phi", "perturbation.")):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        solvers[name].step(5)
        changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
        assert {key.split(".")[0] + "." for key in changed - {"step"}} == {block}


def _solver(model: PerturbedLM, name: str, settings: Settings = SETTINGS) -> Solver:
    equation = next(e for e in SPLIT.equations if e.name == name)
    return Solver(equation, [Term(model, Stream(TEXT.folds(SPLIT, 0)[equation.fold], 4, 0))], settings)


def test_the_folds_of_the_equations_share_no_document() -> None:
    theta, phi = (set(rows(0).names) for rows in TEXT.folds(SPLIT, 0))
    assert not theta & phi
    assert theta | phi == {document.id for document in TEXT.documents}


def test_parts_of_a_batch_add_up_to_the_batch() -> None:
    gradients = []
    for rows in (None, 1, 3):
        model = SPLIT.model(backend().double(), 0)
        solver = _solver(model, "phi", replace(SETTINGS, micro_rows=rows))
        gradients.append(solver._gradient(model, next(solver.terms[0].stream)))
        assert int(model.step) == 1
    for value, found in gradients[1:]:
        assert value == pytest.approx(gradients[0][0], rel=1e-6)
        for one, other in zip(found, gradients[0][1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_bfloat16_is_near_and_leaves_the_weights_in_their_precision() -> None:
    found = []
    for settings in (SETTINGS, replace(SETTINGS, bfloat16=True)):
        model = SPLIT.model(backend(), 0)
        solver = _solver(model, "theta", settings)
        found.append(solver.step(1)["loss"])
        assert {p.dtype for p in solver.parameters} == {torch.float32}
    assert found[0] != found[1] == pytest.approx(found[0], rel=0.02)


def test_terms_of_an_equation_are_averaged() -> None:
    model = SPLIT.model(backend(), 0)
    one = _solver(model, "phi")
    term = one.terms[0]
    both = Solver(one.equation, [term, Term(model, Stream(lambda _: numbered(9), 4, 0))], SETTINGS)
    assert both.passes == 2 * one.passes == 4
    assert math.isfinite(both.step(1)["loss"])


def test_patience_ends_training_and_a_later_call_does_not_go_on() -> None:
    _, run = make(plain(), replace(SETTINGS, learning_rate=1.0, clip=10.0, patience=2))
    outcome = run.advance(400)
    assert outcome.stopped_early
    assert outcome.update < 400
    assert run.advance(500).update == outcome.update


def test_going_on_is_the_same_as_going_at_once(tmp_path: Path) -> None:
    _, at_once = make()
    expected = at_once.advance(16)
    model, run = make(directory=tmp_path)
    run.advance(8)
    assert run.advance(16) == expected
    resumed_model, resumed = make(directory=tmp_path)
    assert resumed.advance(16) == expected
    assert_same(model, resumed_model)


class _Dropping(ToyTransformer):
    """A back-end with dropout, which draws from the global stream."""

    def hidden(self, *arguments: torch.Tensor | None, **_: object) -> torch.Tensor:
        return torch.nn.functional.dropout(super().hidden(*arguments), 0.3, self.training)  # type: ignore[arg-type]


def test_dropout_of_a_back_end_resumes_too_and_leaves_the_global_stream_alone(tmp_path: Path) -> None:
    models = []
    for directory, stops in ((None, (10,)), (tmp_path, (5,)), (tmp_path, (10,))):
        torch.manual_seed(len(models))
        model = plain().model(_Dropping(257, 8, 1, 2, 24, generator=torch.Generator().manual_seed(0)), 0)
        before = torch.get_rng_state()
        run = training_run(model, plain(), TEXT, VALIDATION, SETTINGS, directory)
        for updates in stops:
            run.advance(updates)
        assert torch.equal(torch.get_rng_state(), before)
        models.append(model)
    assert_same(models[0], models[2])


def assert_same(one: PerturbedLM, other: PerturbedLM) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_an_equation_without_parameters_is_refused() -> None:
    method = in_sample("none", plain().perturbation, plug_in)
    with pytest.raises(ValueError, match=r'"perturbation\.", of which the model has no trainable'):
        training_run(method.model(backend(), 0), method, TEXT, VALIDATION, SETTINGS)


def test_matrices_of_the_kernel_decay_and_nothing_else() -> None:
    method = in_sample("joint", lambda b, _: gaussian(b, 0.2), cross_fitted)
    model = method.model(backend(), 0)
    solver = Solver(
        method.equations[0], [Term(model, Stream(lambda _: numbered(9), 4, 0))], replace(SETTINGS, weight_decay=0.1)
    )
    decayed = {id(p) for g in solver.optimiser.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(p) for name, p in model.named_parameters() if name.startswith("backend.") and p.ndim > 1}


def test_the_noise_of_a_model_that_can_fit_its_sample_shrinks_in_sample_and_not_on_another_fold() -> None:
    """The degenerate equation of THEORY section 4: eight documents, learned by heart."""
    few = replace(TEXT, documents=documents(8, 0), length=24)
    settings = Settings(batch_rows=4, learning_rate=1e-2, warmup=5, validate_every=500, seed=0)

    def shrinkage(method: Method) -> float:
        model = method.model(backend(), 0)
        scale = model.perturbation.log_scale.detach().clone()  # type: ignore[attr-defined]
        run = training_run(model, method, few, VALIDATION, settings)
        run.advance(150)
        assert run._current is not None
        return float((run._current["perturbation.log_scale"] - scale).exp())

    def build(b, _):
        return gaussian(b, 0.5)

    joint = shrinkage(in_sample("joint", build, cross_fitted, 2))
    split = shrinkage(split_sample("split", build, theta_score=cross_fitted, theta_draws=2, phi_draws=2))
    assert joint < 0.5 * split


def test_ignored_labels_are_not_counted() -> None:
    batch = next(Stream(TEXT.folds(plain(), 0)[0], 4, 0))
    assert (batch["labels"] == IGNORED).any()
    model = fixed_gaussian(0.1).model(backend(), 0)
    total = (batch["labels"] != IGNORED).sum()
    torch.testing.assert_close(model.eval().loss(**batch), model.loss(**batch, total=total))
