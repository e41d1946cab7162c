"""Methods of two stages: kernels that see all folds but one learn the perturbation, then one kernel sees all."""

from pathlib import Path

import pytest
import torch
from test_training_run import SETTINGS, TEXT, VALIDATION, backend

from eeqs.llm.evaluation import score_documents
from eeqs.llm.methods import hull, split_sample
from eeqs.llm.methods.fixed_gaussian import gaussian
from eeqs.llm.methods.method import Method
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.training import Run, fit
from eeqs.llm.training.fit import _splits


def method(splits: int) -> Method:
    return split_sample("two stages", lambda b, _: gaussian(b, 0.2), phi_draws=2, phi_rate=20.0, splits=splits)


def trained(splits: int, directory: Path | None = None, updates: int = 8) -> tuple[PerturbedLM, Run, list[dict]]:
    found = method(splits)
    model = found.model(backend(), 0)
    told: list[dict] = []
    run = fit(model, found, TEXT, VALIDATION, SETTINGS, updates, directory, report=told.append)
    return model, run, told


@pytest.mark.parametrize("splits", [1, 2, 3])
def test_every_document_judges_a_kernel_that_has_not_seen_it(splits: int) -> None:
    found = method(splits)
    run = _splits(found.model(backend(), 0), found, TEXT, VALIDATION, SETTINGS, None, None)
    *kernels, judges = run._solvers
    everyone = {document.id for document in TEXT.documents}
    judged = set()
    assert len(kernels) == len(judges.terms) == splits
    for kernel, judge in zip(kernels, judges.terms, strict=True):
        seen, held_out = (set(term.stream._epoch(0)[0].names) for term in (kernel.terms[0], judge))
        assert kernel.terms[0].model is judge.model
        assert not seen & held_out
        assert seen | held_out == everyone
        judged |= held_out
    assert judged == everyone or splits == 1


def test_the_kernels_share_the_perturbation_and_nothing_else() -> None:
    found = method(3)
    model = found.model(backend(), 0)
    run = _splits(model, found, TEXT, VALIDATION, SETTINGS, None, None)
    kernels = [solver.terms[0].model for solver in run._solvers[:-1]]
    assert {id(one.perturbation.log_scale) for one in kernels} == {id(model.perturbation.log_scale)}  # type: ignore[attr-defined]
    assert len({id(p) for one in kernels for p in one.backend.parameters()}) == 3 * len([*model.backend.parameters()])


def test_a_perturbation_that_reads_the_embeddings_reads_those_of_its_kernel() -> None:
    found = split_sample("hull", hull(0.3, 3), phi_draws=2, splits=2)
    model = found.model(backend(), 0)
    run = _splits(model, found, TEXT, VALIDATION, SETTINGS, None, None)
    one, other = (solver.terms[0].model for solver in run._solvers[:-1])
    ids, z = torch.arange(6)[None], torch.full((1, 6, one.perturbation.latent_dim), 0.3, dtype=torch.float64)
    embedded = one.backend.embed(ids).double()
    before = [kernel.perturbation(embedded, z) for kernel in (one, other)]
    torch.testing.assert_close(*before)
    with torch.no_grad():
        one.backend.tokens.weight.mul_(2.0)  # type: ignore[attr-defined, union-attr]
    assert not torch.allclose(one.perturbation(embedded, z), before[0])
    torch.testing.assert_close(other.perturbation(embedded, z), before[1])


def test_the_perturbation_is_learned_first_and_then_fixed_while_the_kernel_starts_again() -> None:
    start = method(2).model(backend(), 0)
    model, run, told = trained(2)
    assert not torch.equal(model.perturbation.log_scale, start.perturbation.log_scale)  # type: ignore[attr-defined]
    assert run.earlier_passes == 8 * 2 * (1 + 2)
    assert run.advance(8).passes == 8
    assert {record["stage"] for record in told} == {"perturbation", "kernel"}
    first = next(r for r in told if r["stage"] == "kernel" and "validation" in r)
    with torch.no_grad():
        start.perturbation.load_state_dict(model.perturbation.state_dict())  # type: ignore[attr-defined]
    assert first["validation"] == pytest.approx(score_documents(start, VALIDATION, batch_size=4).bits_per_byte)


def test_stages_resume_to_the_same_result(tmp_path: Path) -> None:
    straight, _, _ = trained(2)
    trained(2, tmp_path)
    for folder in ("kernel", "perturbation"):
        assert (tmp_path / folder / "metrics.jsonl").is_file()
    for path in sorted((tmp_path / "kernel" / "checkpoints").iterdir())[1:]:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    resumed, _, _ = trained(2, tmp_path)
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_splits_take_an_equation_of_each_block() -> None:
    with pytest.raises(ValueError, match="takes an equation of the kernel on fold 0"):
        Method("wrong", "", lambda b, _: gaussian(b, 0.1), method(0).equations[:1], splits=1)
