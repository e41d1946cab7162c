"""The wrapped model under Trainer: a loop by hand, a killed run, adapters of peft, and unequal micro-batches."""

import multiprocessing
import signal
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from train_wrapped import STEPS, D, Recorder, dataset, trainer, wrapped  # noqa: E402

from eeqs.llm.huggingface import kernel_parameters, perturbation_parameters  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def _by_hand(batches: list[dict[str, torch.Tensor]]) -> tuple[torch.nn.Module, list[float]]:
    """The same optimiser and clipping in five lines, on batches in the order of Trainer."""
    model, losses = wrapped().train(), []
    groups = ((kernel_parameters(model), 3e-3), (perturbation_parameters(model), 1e-2))
    optimiser = torch.optim.AdamW([{"params": found, "lr": rate} for found, rate in groups])
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss))
    return model, losses


def test_trainer_equals_a_loop_by_hand(tmp_path: Path) -> None:
    model, recorder = wrapped(), Recorder()
    run, batches = trainer(tmp_path, model, 8, recorder), []
    collate = run.data_collator
    run.data_collator = lambda rows: batches.append(collate(rows)) or batches[-1]
    run.train()
    expected, losses = _by_hand(batches[:STEPS])
    assert list(recorder.losses.values()) == pytest.approx(losses, rel=1e-4, abs=1e-6)
    for name, found in model.state_dict().items():
        torch.testing.assert_close(found, expected.state_dict()[name], rtol=1e-5, atol=1e-6)
    assert float(model.perturbed.perturbation.log_scale.detach()) != -1.0


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = wrapped()
    recorder = Recorder()
    trainer(tmp_path / "whole", whole, 8, recorder).train()

    def killed() -> None:
        trainer(tmp_path / "killed", wrapped(), 8, Recorder(kill=5)).train()

    child = multiprocessing.get_context("fork").Process(target=killed)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    resumed, after = wrapped(), Recorder()
    trainer(tmp_path / "killed", resumed, 8, after).train(resume_from_checkpoint=True)
    assert after.losses == {step: recorder.losses[step] for step in (5, 6)}  # from the checkpoint of step 4
    for name, found in resumed.state_dict().items():
        assert torch.equal(found, whole.state_dict()[name]), name


def test_micro_batches_have_the_gradient_of_the_batch() -> None:
    rows = dataset(8)
    whole = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    total = (whole["labels"][:, 1:] != -100).sum()
    gradients = []
    for size in (8, 2):
        model = wrapped().train()
        for start in range(0, 8, size):
            part = {name: tensor[start : start + size] for name, tensor in whole.items()}
            model(**part, num_items_in_batch=total).loss.backward()
            model.perturbed.step.zero_()  # the draws of one batch
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("frozen", [True, False])
def test_adapters_of_peft(frozen: bool, tmp_path: Path) -> None:
    """Theta is an adapter, or frozen; phi is trained and stored with it."""
    peft = pytest.importorskip("peft")
    options = {"target_modules": ["q_proj", "v_proj"], "modules_to_save": ["perturbation"], "r": 2}
    model = peft.get_peft_model(wrapped(), peft.LoraConfig(**options))
    theta, phi = kernel_parameters(model), perturbation_parameters(model)
    assert {id(p) for p in theta} | {id(p) for p in phi} == {id(p) for p in model.parameters()}
    if frozen:
        for parameter in theta:
            parameter.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer(tmp_path / "run", model, 8).train()
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name]) and not name.endswith("step")}
    parts = {"log_scale"} | (set() if frozen else {"lora_A", "lora_B"})
    assert {part for part in ("log_scale", "lora_A", "lora_B") if any(part in name for name in changed)} == parts
    assert all(any(part in name for part in parts) for name in changed)
    model.save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(wrapped(), tmp_path / "adapter").eval()
    ids = torch.randint(1, D, (2, 7), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded(input_ids=ids).logits, model.eval()(input_ids=ids).logits, rtol=0, atol=0)
    generated = loaded.generate(input_ids=ids, max_new_tokens=3, do_sample=False)
    assert generated.shape == (2, 10)


def test_blocks_of_parameters_need_one_perturbed_model() -> None:
    model = wrapped()
    assert perturbation_parameters(model) == list(model.perturbed.perturbation.parameters())
    assert len(kernel_parameters(model)) == len(list(model.language_model.parameters()))
    with pytest.raises(TypeError, match="Linear holds 0 perturbed models"):
        kernel_parameters(torch.nn.Linear(2, 2))
